from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from puna.checkpoint import gguf_panels
from puna.checkpoint.convert import convert
from puna.checkpoint.gguf_blocks import TYPES
from puna.checkpoint.gguf_codes import CODED, codes_of, encode_q4_0
from puna.checkpoint.gguf_file import read_header
from puna.checkpoint.gguf_panels import panels_of
from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from puna.errors import FormatError, RequestError
from puna.infer.generate import generate_ids
from puna.infer.sampling import SamplingConfig
from puna.model.config import ModelConfig
from puna.ops import native
from puna.ops.lowbit import Packed
from puna.quant.linear import QuantLinear, RowEmbedding
from tests.checkpoint.models import random_state
from tests.testdata import testdata

GREEDY = SamplingConfig(temperature=0.0)
WIDE = ModelConfig(width=512, layers=3, heads=8, kv_heads=2, mlp_width=256, vocab=96, context=64)


# Where blocks hold their half-precision scales; the others begin with their only one.
PLACES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q4_1": (0, 2), "Q5_1": (0, 2), "Q6_K": (208,),
          "Q2_K": (80, 82), "Q3_K": (108,)}  # fmt: skip
WITH_ZEROS = ("Q4_K", "Q5_K", "Q2_K", "Q4_1", "Q5_1")


def random_blocks(kind: str, count: int, seed: int = 0) -> torch.Tensor:
    """Random bytes with half-precision scales of about 0.01 where the block holds them."""
    size = TYPES[kind].bytes
    generator = np.random.default_rng(seed)
    raw = generator.integers(0, 256, (count, size), dtype=np.uint8)
    for at in PLACES.get(kind, (0,)):
        scales = generator.uniform(0.001, 0.02, count).astype(np.float16)
        raw[:, at : at + 2] = scales.view(np.uint8).reshape(count, 2)
    if kind == "Q8_0":
        raw[:, 2:][raw[:, 2:] == 128] = 0  # writers of Q8_0 use -127 .. 127
    return torch.from_numpy(raw)


@pytest.mark.parametrize("kind", CODED)
def test_codes_stand_for_the_weights_of_their_blocks(kind: str) -> None:
    per_row = 512 // TYPES[kind].values
    blocks = random_blocks(kind, 6 * per_row)
    expected = TYPES[kind].decode(blocks).view(6, 512)
    found = codes_of(kind, blocks, 6)
    assert found.shape == (6, 512)
    exact = {"rtol": 1e-6, "atol": 2e-6} if kind in WITH_ZEROS else {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(found.weight(), expected, **exact)
    # The kernels keep scales in half precision; where the file does too, nothing is rounded.
    kept = QuantLinear(found).packed.dequantize()
    bound = (
        0.0 if kind in ("Q8_0", "Q4_0", "Q5_0", "IQ4_NL") else 2.0**-9 * float(expected.abs().max())
    )
    assert float((kept - expected).abs().max()) <= bound


def test_a_run_of_q4_k_without_a_scale_is_its_minimum() -> None:
    blocks = random_blocks("Q4_K", 2)
    blocks[:, 4:8] &= 0b11000000
    blocks[:, 12:16] &= 0b11110000
    blocks[:, 4:8] &= 0b00111111
    found = codes_of("Q4_K", blocks, 2).weight()
    torch.testing.assert_close(found.flatten(), TYPES["Q4_K"].decode(blocks).flatten())
    assert bool(found.isfinite().all())


def test_q4_0_is_written_byte_for_byte_as_the_oracle_writes_it() -> None:
    rows = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    rows[2, :32], rows[3, 5], rows[4, 40] = 0.0, 1e4, -3.0
    expected = gguf.quantize(rows.numpy(), Kind.Q4_0)
    assert np.array_equal(encode_q4_0(rows).numpy(), expected)


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_gguf_file_runs_in_its_own_format(tmp_path: Path, kind: str, tied: bool) -> None:
    from dataclasses import replace

    from puna.checkpoint.huggingface import save_huggingface

    config = replace(WIDE, tied=tied)
    save_huggingface(random_state(config), config, tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "m.gguf", "gguf", dtype=kind, verify=True)  # type: ignore[arg-type]
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    assert checkpoint.tensors["embed.weight"].dtype == "Q8_0"
    assert checkpoint.tensors["blocks.1.attn.wq.weight"].dtype == kind.upper()
    low = load_model(checkpoint, as_stored=True)
    wide = load_model(checkpoint)
    assert isinstance(low.embed, RowEmbedding)
    assert isinstance(low.blocks[0].get_submodule("attn.wk"), QuantLinear)
    name = "blocks.1.attn.wk"
    kept = low.get_submodule(name)
    assert isinstance(kept, QuantLinear)
    assert torch.equal(kept.packed.dequantize(), wide.get_parameter(f"{name}.weight"))
    ids = torch.randint(96, (2, 9), generator=torch.Generator().manual_seed(0))
    assert torch.equal(low.embed(ids), wide.embed(ids))
    close = torch.cosine_similarity(low(ids).flatten(), wide(ids).flatten(), dim=0)
    assert float(close) > 0.99


@pytest.mark.parametrize("form", ["stories260K-f32.gguf", "stories260K.bin", "hf", "meta"])
def test_stories_read_the_same_in_every_lossless_format(form: str) -> None:
    """Float32 in each container, loaded as stored: the text is the same to the last token."""
    folder = testdata("weights/stories260K")
    ids = np.load(folder / "reference_greedy.npz")["ids"]
    model = load_model(folder / form, as_stored=True)
    prompt, count = [int(ids[0])], 60
    done = generate_ids(model, [prompt], max_tokens=count, sampling=GREEDY, stop_ids=frozenset())
    written = list(done[0].ids)
    assert written[-count:] == [int(x) for x in ids[1 : count + 1]]


def test_stories_in_q8_0_tell_the_same_story(tmp_path: Path) -> None:
    """As codes and widened: the weights are equal, activations are rounded in one of the two."""
    source = testdata("weights/stories260K/hf")
    convert(source, tmp_path / "s.gguf", "gguf", dtype="q8_0")
    texts = []
    for as_stored in (False, True):
        model = load_model(tmp_path / "s.gguf", as_stored=as_stored)
        done = generate_ids(model, [[1]], max_tokens=40, sampling=GREEDY, stop_ids=frozenset())
        texts.append(list(done[0].ids))
    assert texts[0] == texts[1]


def test_a_scale_that_is_no_number_is_damage(tmp_path: Path) -> None:
    source = testdata("weights/stories260K/hf")
    convert(source, tmp_path / "s.gguf", "gguf", dtype="q8_0")
    entry = read_header(tmp_path / "s.gguf").tensors["blk.2.ffn_up.weight"]
    with (tmp_path / "s.gguf").open("r+b") as file:
        file.seek(entry.offset + 3 * 34)
        file.write(b"\x00\x7e")
    low = open_checkpoint(tmp_path / "s.gguf").tensors["blocks.2.mlp.up.weight"].low
    assert low is not None
    with pytest.raises(FormatError, match=r"'blk\.2\.ffn_up\.weight' is no finite number"):
        low()


def test_q4_0_exists_in_gguf_only(tmp_path: Path) -> None:
    source = testdata("weights/stories260K/hf")
    with pytest.raises(RequestError, match="q4_0 is a number format of gguf"):
        convert(source, tmp_path / "x", "hf", dtype="q4_0")


def laid(kind: str, blocks: torch.Tensor, rows: int) -> Packed | None:
    """Lay blocks out, and stop on scales and zeros that are no numbers."""
    by_row = blocks.view(rows, -1)
    columns = by_row.shape[1] // TYPES[kind].bytes * TYPES[kind].values

    def check(*parts: torch.Tensor | None) -> None:
        if not all(part is None or bool(part.isfinite().all()) for part in parts):
            raise FormatError("no number")

    return panels_of(kind, lambda a, b: by_row[a:b], (rows, columns), check)


def assert_same_panels(found: Packed | None, expected: Packed | None) -> None:
    """Hold two matrices equal, bit for bit."""
    assert found is not None and expected is not None
    assert torch.equal(found.codes, expected.codes)
    assert (found.format, found.out, found.inner) == (expected.format, expected.out, expected.inner)
    assert (found.group, found.scale_unit) == (expected.group, expected.scale_unit)
    for name in ("scales", "zeros"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine.view(torch.int16), theirs.view(torch.int16))


@pytest.fixture(params=["torch", "native"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lay blocks out by torch, or by the threads of native/."""
    if request.param == "torch":
        monkeypatch.setattr(native, "level", lambda: None)
    elif native.level() is None:
        pytest.skip("puna was installed without its kernels")
    return str(request.param)


@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize("rows", [48, 37])
@pytest.mark.parametrize("run_bytes", [1, 1 << 20])
@pytest.mark.usefixtures("way")
def test_blocks_become_the_same_panels_as_their_codes(
    kind: str, rows: int, run_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, whatever the number of rows that are laid out together."""
    monkeypatch.setattr(gguf_panels, "_RUN_BYTES", run_bytes)
    monkeypatch.setattr(gguf_panels, "_MAPPED_BYTES", run_bytes)
    blocks = random_blocks(kind, rows * 512 // TYPES[kind].values)
    if kind == "Q4_K":
        blocks[5, 4:16] = 0  # neither scales nor minimums
        blocks[7, :2] = 0  # minimums only
    assert_same_panels(laid(kind, blocks, rows), QuantLinear(codes_of(kind, blocks, rows)).packed)


# Half-precision scales at the ends of their range, whose largest sets the unit of all.
SCALES = {
    "least": 2.0**-24, "denormal": 2.0**-16 * 1.5, "power": 2.0**-7, "below": 2.0**-7 * 0.9995,
    "negative": -0.0123, "most": 65504.0,
}  # fmt: skip


@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rows, blocks_a_row", [(1, 1), (17, 3), (33, 1)])
def test_threads_and_torch_lay_the_same_panels(
    kind: str, scale: str, rows: int, blocks_a_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native.level() is None:
        pytest.skip("puna was installed without its kernels")
    blocks = random_blocks(kind, rows * blocks_a_row, seed=rows)
    at = PLACES.get(kind, (0,))[0]
    half = np.array([SCALES[scale]], dtype=np.float16).view(np.uint8)
    blocks[:: 1 + rows // 20, at : at + 2] = torch.from_numpy(half)
    found = laid(kind, blocks, rows)
    monkeypatch.setattr(native, "level", lambda: None)
    expected = laid(kind, blocks, rows)
    if expected is None:  # zeros of Q4_K beyond half precision
        assert found is None and kind in WITH_ZEROS
        return
    assert_same_panels(found, expected)


@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E01])
@pytest.mark.usefixtures("way")
def test_one_scale_that_is_no_number_is_found(kind: str, bits: int) -> None:
    blocks = random_blocks(kind, 40)
    at = PLACES.get(kind, (0,))[0]
    blocks[39, at : at + 2] = torch.tensor([bits & 255, bits >> 8], dtype=torch.uint8)
    with pytest.raises(FormatError, match="no number"):
        laid(kind, blocks, 20)


@pytest.mark.usefixtures("way")
def test_a_code_of_minus_128_is_no_code_of_the_kernels() -> None:
    for byte in (2, 9, 33):
        blocks = random_blocks("Q8_0", 2 * 16)
        blocks[3, byte] = 128
        assert laid("Q8_0", blocks, 2) is None


@pytest.mark.usefixtures("way")
def test_a_zero_beyond_half_precision_is_none_of_the_kernels() -> None:
    blocks = random_blocks("Q4_K", 2 * 16)
    assert laid("Q4_K", blocks, 2) is not None
    blocks[3, :2] = torch.tensor([1, 0], dtype=torch.uint8)  # a tiny scale, an ordinary minimum
    assert laid("Q4_K", blocks, 2) is None


@pytest.mark.parametrize("kind", CODED)
def test_blocks_are_decoded_as_the_oracle_decodes_them(kind: str) -> None:
    blocks = random_blocks(kind, 24, seed=3)
    expected = torch.from_numpy(gguf.dequantize(blocks.numpy(), Kind[kind]))
    found = TYPES[kind].decode(blocks).view(expected.shape)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-7)
    # Every type's number and sizes are those of the oracle.
    assert (TYPES[kind].values, TYPES[kind].bytes) == gguf.GGML_QUANT_SIZES[Kind[kind]]
    assert TYPES[kind].code == Kind[kind].value


@pytest.mark.parametrize("kind", CODED)
def test_a_single_block_is_decoded_where_it_lies(kind: str) -> None:
    """One block counts as contiguous at any offset; another type cannot be read there."""
    both = random_blocks(kind, 2)
    expected = TYPES[kind].decode(both)
    for row in (0, 1):
        assert torch.equal(TYPES[kind].decode(both[row : row + 1]), expected[row : row + 1])
