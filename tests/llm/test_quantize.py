import pytest
import torch

from puna.checkpoint.convert import convert
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.errors import RequestError
from puna.llm import load
from puna.quant.fp8 import Fp8Linear
from puna.quant.linear import QuantLinear, RowEmbedding
from puna.quant.recipe import quantize_model
from tests.testdata import testdata


@pytest.mark.parametrize("name", ["int8", "int4", "fp8"])
def test_weights_are_rounded_while_they_are_loaded(name: str) -> None:
    folder = testdata("weights/stories260K/hf")
    tokenizer = testdata("weights/stories260K/tok512.bin")
    llm = load(folder, quantize=name, tokenizer=tokenizer)
    expected = Fp8Linear if name == "fp8" else QuantLinear
    assert isinstance(llm.model.get_submodule("blocks.2.mlp.up"), expected)
    done = llm.generate("Once upon a time", max_tokens=12, temperature=0.0)
    assert done.text.startswith(", there was a little")  # type: ignore[union-attr]
    ids = llm.tokenizer.encode("One day, a girl saw a dog.", bos=True)
    near = load(folder).logits(ids)
    close = torch.cosine_similarity(llm.logits(ids).flatten(), near.flatten(), dim=0)
    assert float(close) > 0.98


def test_a_gguf_file_is_loaded_in_its_own_format_and_not_rounded_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    convert(testdata("weights/stories260K/hf"), tmp_path / "s.gguf", "gguf", dtype="q8_0")
    llm = load(tmp_path / "s.gguf")
    assert isinstance(llm.model.embed, RowEmbedding)
    assert isinstance(llm.model.get_submodule("blocks.0.attn.wq"), QuantLinear)
    with pytest.raises(RequestError, match="stored in few bits already"):
        load(tmp_path / "s.gguf", quantize="int4")


def test_a_quantized_folder_of_float32_keeps_float32_beside_its_codes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    source = testdata("weights/stories260K/hf")
    model, lows = load_model(source), {}
    quantize_model(model, "int8", keep=lows.__setitem__)
    save_huggingface(load_model(source), model.config, tmp_path / "q", lows=lows)
    llm = load(tmp_path / "q")
    assert llm.model.embed.weight.dtype == torch.float32
    model.embed = llm.model.embed  # as other programs have it, not in the codes of the head
    ids = [1, 400, 30, 17]
    assert torch.equal(llm.logits(ids), model(torch.tensor([ids]))[0])
