"""Options that several commands take: a class a kind, a field an option, its help under `Args`.

A command takes the kinds that it needs; the command line shows each under its own title. Each kind
knows what it becomes: a model in memory, the options of a generation.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from puna.llm import LLM, Options
    from puna.parallel.links import Links
    from puna.tools.tool import Tool

AsJson = Annotated[bool, Parameter(name="--json", negative=())]


@Parameter(name="*", group=Group.create_ordered("Weights"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How weights are held while they are used.

    Args:
        quantize: Round the weights on the way: int8, int4 or fp8.
        kv_cache: What keys and values are kept in; int8 and fp8 take half of bf16's memory.
        tokenizer: The tokenizer's file, for weights that come without one.
        device: auto, cpu or cuda.
        dtype: Of the weights in memory, such as float32 or bfloat16; chosen for the device.
    """

    quantize: str | None = None
    kv_cache: Literal["f32", "bf16", "int8", "fp8"] | None = None
    tokenizer: Path | None = None
    device: str = "auto"
    dtype: str | None = None

    def load(self, path: str, links: "Links | None" = None, *, as_module: bool = False) -> "LLM":
        """Load a model so; with links, its share that this process holds."""
        from puna.llm import load

        return load(
            path, quantize=self.quantize, device=self.device, dtype=self.dtype,
            tokenizer=self.tokenizer, kv_cache=self.kv_cache, links=links,
            as_module=as_module,
        )  # fmt: skip


@Parameter(name="*", group=Group.create_ordered("Sampling"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; the defaults are those of `puna.infer.sampling`.

    Args:
        max_tokens: Most tokens to write; without it, what fits into the context.
        temperature: 0 takes the most likely token each time; 0.6 without it.
        top_k: Draw from the k most likely tokens.
        top_p: Draw from the likeliest tokens that together hold this mass; 0.9 without it.
        min_p: Draw from tokens at least this share as likely as the likeliest.
        repetition_penalty: Above 1, tokens that stand in the text already become less likely.
        seed: The same seed gives the same text.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    def options(self) -> "Options":
        """Return what was given; the rest is the model's to say."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return cast("Options", given)


@Parameter(name="*", group=Group.create_ordered("Tools"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a model may call, and where its code runs.

    Args:
        tools: What the model may call: calc, code[:FOLDER], search[:FOLDER], wolfram, mcp:COMMAND
            or mcp:URL, with commas between, or none.
        folder: Where the code of the model reads and writes; without it, a folder that goes when
            the command ends.
        unprotected: Run the code of the model without walls where this machine lets none be built.
    """

    tools: list[str] | None = None
    folder: Path | None = None
    unprotected: Annotated[bool, Parameter(negative=())] = False

    @property
    def names(self) -> "list[str] | None":
        """The names that were given, each by itself; None where nothing was said."""
        from puna.tools.registry import read_names

        return None if self.tools is None else read_names(self.tools)

    def open(self, raised_with: "Iterable[Tool]") -> "AbstractContextManager[Sequence[Tool]]":
        """Open what was named; `raised_with` are tools that the model knows without a word."""
        from puna.tools.registry import open_tools

        return open_tools(
            self.names or (), folder=self.folder, unprotected=self.unprotected,
            raised_with=[tool.name for tool in raised_with],
        )  # fmt: skip
