"""The extension module of native/module.cpp; tensors are addresses here."""

from collections.abc import Sequence

MatrixFields = tuple[int, int, int, int, int, int, int, float]
PartFields = tuple[Sequence[int], int, Sequence[int], bool]
LayerFields = tuple[int, int, list[MatrixFields]]

def levels() -> list[str]: ...
def linear(
    level: str, matrix: MatrixFields, x: int, rows: int, y: int, threads: int, /
) -> None: ...
def choose(
    level: str, logits: int, rows: int, vocab: int, settings: int, ids: int, threads: int, /
) -> None: ...
def lay_blocks(
    kind: int,
    blocks: int,
    rows: int,
    columns: int,
    codes: int,
    scales: int,
    zeros: int,
    threads: int,
    /,
) -> tuple[bool, float, float]: ...

class Decoder:
    def __init__(
        self,
        level: str,
        shape: tuple[int, int, int, int, int, int, float],
        layers: list[LayerFields],
        embed: MatrixFields,
        head: MatrixFields,
        norm: int,
        freqs: list[float],
        /,
    ) -> None: ...
    def step(
        self,
        parts: list[PartFields],
        cache: tuple[int, int, int, int, int, int, int],
        logits: int,
        threads: int,
        /,
    ) -> None: ...
