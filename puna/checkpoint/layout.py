"""The two orders of query and key rows, and the permutation between them.

RoPE turns pairs of channels. Meta's checkpoints, GGUF and llama2.c keep a pair side by side (rows
2i and 2i+1 of a head: interleaved); Hugging Face and puna keep its halves apart (rows i and
i + E/2: half-split). The permutation acts inside each head, so it needs the right number of heads:
H for wq, K for wk. Values, outputs, the MLP and the norms are the same in both.
"""

from jaxtyping import Shaped
from torch import Tensor

from puna.errors import FormatError


def to_half_split(
    weight: Shaped[Tensor, "HE D"], heads: int, *, where: str = "weights"
) -> Shaped[Tensor, "HE D"]:
    """Reorder interleaved rows: new row r is old row 2r, new row E/2 + r is old row 2r + 1."""
    rows, columns = _check(weight, heads, where)
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def to_interleaved(
    weight: Shaped[Tensor, "HE D"], heads: int, *, where: str = "weights"
) -> Shaped[Tensor, "HE D"]:
    """Reorder half-split rows: the inverse of `to_half_split`."""
    rows, columns = _check(weight, heads, where)
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def _check(weight: Tensor, heads: int, where: str) -> tuple[int, int]:
    if weight.ndim != 2 or weight.shape[0] % (2 * heads):
        raise FormatError(
            f"{where}: the shape is {list(weight.shape)}; {heads} heads of an even number of rows "
            "are expected. The file and its configuration do not belong together."
        )
    return weight.shape[0], weight.shape[1]
