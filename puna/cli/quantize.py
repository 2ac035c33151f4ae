"""`puna quantize`: a model in fewer bits, and a table of what that costs and gives."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from puna.cli.options import AsJson
from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.quant.calibrate import Calibration
    from puna.quant.recipe import Recipe


@Parameter(name="*", group=Group.create_ordered("Rounding"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How weights are rounded, and how they lie on disk.

    Args:
        scheme: How many bits, and which matrices.
        method: rtn rounds to the nearest, gptq compensates errors, awq scales by activations, and
            awq+gptq does both, a little better than gptq and in more time.
        group: Columns that share a scale.
        asymmetric: Give each group a zero of its own.
        head: What becomes of the matrix that gives the scores.
        static: For fp8, fix the scales of activations by calibration.
        layout: How matrices lie on disk. panels, which int4 and int8 take, is puna's own and runs
            from where it lies; compressed-tensors is for vLLM and transformers; fp8 takes
            fbgemm_fp8 where that says all there is to say.
    """

    scheme: Literal["fp8", "int8", "int4"]
    method: Literal["rtn", "gptq", "awq", "awq+gptq"] | None = None
    group: Literal[32, 64, 128] = 32
    asymmetric: Annotated[bool, Parameter(negative=())] = False
    head: Literal["int8", "int4", "keep"] = "int8"
    static: Annotated[bool, Parameter(negative=())] = False
    layout: Literal["panels", "compressed-tensors", "fbgemm_fp8"] | None = None

    def check(self) -> None:
        """Stop on what does not go together.

        Raises:
            RequestError: it does not.
        """
        if self.scheme == "fp8" and self.method is not None:
            raise RequestError(
                f"quantize: --method {self.method} was given for fp8, whose rows are rounded to "
                "the nearest. Leave it out; --static calibrates activations."
            )
        if self.static and self.scheme != "fp8":
            raise RequestError(
                f"quantize: --static is for fp8; {self.scheme} scales inputs as they come."
            )

        if self.layout == "panels" and self.scheme == "fp8":
            raise RequestError(
                "quantize: --layout panels was given for fp8; fbgemm_fp8 or compressed-tensors is "
                "expected. Leave it out to take what holds everything."
            )
        if self.layout == "fbgemm_fp8" and (self.scheme != "fp8" or self.static):
            raise RequestError(
                "quantize: --layout fbgemm_fp8 holds fp8 with dynamic activation scales alone. "
                "Leave it out, or choose compressed-tensors."
            )

    @property
    def weight_method(self) -> Literal["rtn", "gptq", "awq", "awq+gptq"]:
        """How weights are rounded: as was said, else as is best for the scheme."""
        return self.method or ("gptq" if self.scheme == "int4" else "rtn")

    @property
    def reads_text(self) -> bool:
        """Whether it is calibrated."""
        return self.static or self.weight_method != "rtn"

    @property
    def described(self) -> str:
        """The method in the table: of the weights, or, for fp8, of the activations."""
        if self.scheme == "fp8":
            return "static" if self.static else "dynamic"
        return self.weight_method

    def recipe(self) -> "Recipe":
        """Return it as the room of quantization takes it."""
        from puna.quant.recipe import Recipe

        return Recipe(
            scheme=self.scheme,
            group=self.group,
            symmetric=not self.asymmetric,
            head=None if self.head == "keep" else self.head,
        )

    def calibration(self, ids: Any) -> "Calibration | None":
        """Return how these rows calibrate it; None where it needs none."""
        from puna.quant.calibrate import Calibration

        if not self.reads_text:
            return None
        method = self.weight_method
        return Calibration(ids=ids, method="gptq" if method == "rtn" else method)


def quantize(
    source: str,
    target: Path,
    /,
    *,
    rounding: Rounding,
    text: list[Path] | None = None,
    tokens: int = 16_384,
    tokenizer: Path | None = None,
    json_: AsJson = False,
) -> None:
    """Write a model in fewer bits as a folder, and say what it costs and gives.

    int4 is calibrated on text unless --method says otherwise; int8 is rounded to the nearest. fp8
    follows the recipe of Llama 3.1: feed-forward matrices of all layers but the first and the last.

    For example:
      puna quantize runs/cria cria-int4 --scheme int4
      puna quantize llama-3.1-8b llama-fp8 --scheme fp8
      puna quantize llama-3.1-8b llama-int4 --scheme int4 --method awq --text book.txt
      puna quantize llama-3.1-8b for-vllm --scheme int8 --layout compressed-tensors

    Args:
        source: A run folder, a Hugging Face or Meta folder, a .gguf or a llama2.c .bin file.
        target: The new folder; it must not exist.
        text: UTF-8 text to calibrate and to measure on; may be given several times.
        tokens: Of calibration text; more cost time and gain little.
        tokenizer: The tokenizer's file, for weights that come without one.
        json_: Print one JSON object.
    """
    from puna.checkpoint.load import load_tokenizer
    from puna.checkpoint.open import open_checkpoint
    from puna.checkpoint.quantize import check_target, quantize_checkpoint
    from puna.cli.rounding_table import lines, table
    from puna.cli.rows_of_text import rows_of_text
    from puna.llm import load

    rounding.check()
    if tokens < 1:
        raise RequestError(f"quantize: --tokens {tokens} was given; 1 or more is expected.")
    checkpoint = open_checkpoint(source)
    check_target(checkpoint, target)
    tok = checkpoint.tokenizer() if tokenizer is None else load_tokenizer(tokenizer)
    rows = None
    if tok is not None or rounding.reads_text or text:
        rows = rows_of_text(Path(source), tok, checkpoint.config, files=text or (), tokens=tokens)
    sizes = quantize_checkpoint(
        checkpoint,
        target,
        rounding.recipe(),
        calibration=rounding.calibration(rows.calibration) if rows else None,
        tokenizer=tok,
        layout=rounding.layout or (None if rounding.scheme == "fp8" else "panels"),
    )
    facts = {"source": source, "target": str(target)}
    facts |= {"scheme": rounding.scheme, "method": rounding.described}
    facts |= table(sizes, load(source, tokenizer=tok), load(target, tokenizer=tok), rows)
    print(json.dumps(facts, indent=2) if json_ else "\n".join(lines(facts)))
