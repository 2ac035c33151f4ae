"""What `puna.load` learns from a folder: chat format, tools, number format, tokenizer."""

import dataclasses
from types import SimpleNamespace
from typing import cast

import pytest
import torch

import puna
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.open import open_checkpoint
from puna.errors import FormatError
from puna.infer.open_model import natural_dtype
from puna.llm import load
from puna.tokenizer.interface import Tokenizer
from puna.tools.calculator import CALCULATOR
from tests.infer.tiny import tiny_model
from tests.llm.folders import TEMPLATE, save_folder, save_run
from tests.llm.scripted import BYTES
from tests.testdata import testdata

STORIES = "weights/stories260K"


def test_a_run_speaks_meta_and_has_the_calculator(tmp_path) -> None:
    style = puna.load(save_run(tmp_path)).style
    assert (style.dialect, style.is_instruct, style.tools) == ("meta", True, (CALCULATOR,))


def test_a_folder_with_a_template_speaks_its_template(tmp_path) -> None:
    llm = load(save_folder(tmp_path / "m"))
    assert (llm.style.dialect, llm.style.is_instruct) == (TEMPLATE, True)
    rendered = llm.format.render([{"role": "user", "content": "Hi"}]).ids
    assert rendered.count(BYTES.bos_id) == 1
    assert rendered == llm.prompt_ids("Hi", raw=False)


def test_a_folder_without_a_template_is_continued_and_can_still_chat(tmp_path) -> None:
    style = load(save_folder(tmp_path / "m", template=None)).style
    assert (style.dialect, style.is_instruct, style.tools) == ("meta", False, ())


def test_a_vocabulary_without_control_tokens_has_no_chat_format() -> None:
    style = load(testdata(f"{STORIES}/stories260K-f32.gguf")).style
    assert (style.dialect, style.is_instruct) == (None, False)


def test_all_three_stop_ids_of_the_tokenizer_end_an_answer(tmp_path) -> None:
    assert load(save_folder(tmp_path / "m")).stop_ids >= BYTES.stop_ids


@pytest.mark.parametrize(
    ("stored", "on", "loaded"),
    [("F32", "cpu", torch.float32), ("F16", "cpu", torch.float32), ("F16", "cuda", torch.float16)],
)
def test_no_bits_are_lost_when_nobody_asks(stored: str, on: str, loaded: torch.dtype) -> None:
    checkpoint = open_checkpoint(testdata(f"{STORIES}/stories260K-f32.gguf"))
    tensors = {
        name: dataclasses.replace(tensor, dtype=stored)
        for name, tensor in checkpoint.tensors.items()
    }
    checkpoint = dataclasses.replace(checkpoint, tensors=tensors)
    assert natural_dtype(checkpoint, torch.device(on)) == loaded


def test_a_dtype_is_taken_as_asked(tmp_path) -> None:
    folder = save_folder(tmp_path / "m")
    for dtype in ("bfloat16", torch.bfloat16):
        llm = load(folder, device="cpu", dtype=dtype)
        assert llm.model.embed.weight.dtype == torch.bfloat16
        assert llm.logits([1, 2]).dtype == torch.float32
        assert len(llm.generate([1, 2], max_tokens=3, temperature=0).ids) == 3


def test_a_tokenizer_may_be_given_as_an_object(tmp_path) -> None:
    assert load(save_folder(tmp_path / "m"), tokenizer=BYTES).tokenizer is BYTES


def test_a_tokenizer_of_another_model_is_refused(tmp_path) -> None:
    with pytest.raises(FormatError, match="32,000 ids and the embedding 512 rows"):
        load(
            testdata(f"{STORIES}/stories260K.bin"),
            tokenizer=testdata("tokenizers/llama2/tokenizer.model"),
        )
    folder = save_folder(tmp_path / "m")
    with pytest.raises(FormatError, match=f"200 ids and the embedding {BYTES.vocab} rows"):
        load(folder, tokenizer=_of_size(200))


def test_rows_that_pad_the_embedding_need_no_token(tmp_path) -> None:
    model = tiny_model(vocab=320, context=64)
    save_huggingface(model, model.config, tmp_path / "padded")
    assert load(tmp_path / "padded", tokenizer=_of_size(302)).tokenizer.vocab == 302


def _of_size(vocab: int) -> Tokenizer:
    return cast("Tokenizer", SimpleNamespace(vocab=vocab, stop_ids=frozenset(), specials={}))


@pytest.mark.parametrize(
    "name", ["hf", "meta", "stories260K.bin", "stories260K-f32.gguf", "stories260K-f16.gguf"]
)
def test_logits_of_real_weights_match_the_reference_in_every_format(name: str) -> None:
    """The first 16 rows along the greedy text; half precision keeps three decimals."""
    import numpy

    reference = numpy.load(testdata(f"{STORIES}/reference_greedy.npz"))
    llm = load(testdata(f"{STORIES}/{name}"))
    found = llm.logits(reference["ids"][:16].tolist())
    close = 2e-2 if "f16" in name else 1e-4
    expected = torch.from_numpy(reference["logits_first16"])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=close)
    done = llm.generate([1], max_tokens=200, temperature=0, ignore_eos=True)
    assert [1, *done.ids] == reference["ids"].tolist()
