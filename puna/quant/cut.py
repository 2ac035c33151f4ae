"""Some rows or columns of a matrix in few bits, without widening it.

A rank of a divided model holds such a part (`puna.checkpoint.shard`). Rows are independent of each
other, and columns come apart between groups, since a scale belongs to one matrix. What is cut out
has the codes and scales of the whole; a product with rows is the same to the bit.
"""

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import pad

from puna.errors import ConfigError
from puna.ops.lowbit import INPUT_GROUP, LANES, Packed
from puna.quant.codes import Codes
from puna.quant.fp8 import Fp8Weight
from puna.quant.words import Words

Low = Codes | Words | Fp8Weight | Packed

_FP8_STEP = 16  # inputs that the matrix units of a GPU take together; torch._scaled_mm
_WORD = 8  # int4 codes of a 32-bit word; two words of int8


def steps_of(low: Low) -> tuple[int, ...]:
    """Return in what numbers of columns a matrix may be divided, the best first.

    The best leaves together what is rounded together when it meets the matrix, so that a sum over
    parts differs from the whole product by the order of its terms alone.
    """
    if isinstance(low, Fp8Weight):
        return (_FP8_STEP, 1)
    if low.group >= low_shape(low)[1]:
        return (INPUT_GROUP, _WORD)
    return (low.group * -(-INPUT_GROUP // low.group), low.group)


def low_shape(low: Low) -> tuple[int, int]:
    """Return rows and columns of a matrix."""
    return (low.out, low.inner) if isinstance(low, Packed) else low.shape


def cut(low: Low, dim: int, span: tuple[int, int], *, where: str) -> Low:
    """Return rows (dim 0) or columns (dim 1) from begin to end.

    Raises:
        ConfigError: the columns begin or end within a group.
    """
    begin, end = span
    if (begin, end) == (0, low_shape(low)[dim]):
        return low
    if dim == 1 and not isinstance(low, Fp8Weight):
        _require_whole_groups(low, span, where)
    match low:
        case Codes():
            return _codes(low, dim, begin, end)
        case Words():
            return _words(low, dim, begin, end)
        case Fp8Weight():
            return _fp8(low, dim, begin, end, where)
        case Packed():
            return _packed_rows(low, begin, end) if dim == 0 else _packed_columns(low, begin, end)


def _require_whole_groups(low: Codes | Words | Packed, span: tuple[int, int], where: str) -> None:
    columns = low_shape(low)[1]
    step = low.group if low.group < columns else (1 if isinstance(low, Codes) else _WORD)
    if any(edge % step and edge != columns for edge in span):
        raise ConfigError(
            f"{where}: columns {span[0]} to {span[1]} were asked for, and {step} share a scale or "
            "a word; whole groups are expected. Divide the model over fewer ranks, or take weights "
            "with smaller groups."
        )


def _groups(low: Codes | Words | Packed, begin: int, end: int) -> slice:
    """Return the groups that columns lie in: all of them where a row has one."""
    if low.group >= low_shape(low)[1]:
        return slice(None)
    return slice(begin // low.group, -(-end // low.group))


def _of(shared: Tensor | None, dim: int, rows: slice, groups: slice) -> Tensor | None:
    if shared is None:
        return None
    return shared[rows] if dim == 0 else shared[:, groups]


def _codes(low: Codes, dim: int, begin: int, end: int) -> Codes:
    rows, groups = slice(begin, end), _groups(low, begin, end)
    scales, zeros = _of(low.scales, dim, rows, groups), _of(low.zeros, dim, rows, groups)
    assert scales is not None
    codes = low.codes[begin:end] if dim == 0 else low.codes[:, begin:end]
    return replace(low, codes=codes, scales=scales, zeros=zeros)


def _words(low: Words, dim: int, begin: int, end: int) -> Words:
    each = 8 if low.format == "int4" else 4
    rows, groups = slice(begin, end), _groups(low, begin, end)
    scales, zeros = _of(low.scales, dim, rows, groups), _of(low.zeros, dim, rows, groups)
    assert scales is not None
    if dim == 0:
        words, shape = low.words[begin:end], (end - begin, low.shape[1])
    else:
        words, shape = low.words[:, begin // each : -(-end // each)], (low.shape[0], end - begin)
    return replace(low, words=words, shape=shape, scales=scales, zeros=zeros)


def _fp8(low: Fp8Weight, dim: int, begin: int, end: int, where: str) -> Fp8Weight:
    """Cut e4m3 codes; of a row with several scales whole parts, or what lies within one."""
    if dim == 0:
        return replace(low, codes=low.codes[begin:end], scales=low.scales[begin:end])
    width = low.shape[1] // low.scales.shape[1]
    first, last = begin // width, -(-end // width)
    if last - first > 1 and (begin % width or end % width):
        raise ConfigError(
            f"{where}: columns {begin} to {end} were asked for, and {width} share a scale; whole "
            "parts are expected. Divide the model over fewer ranks."
        )
    return replace(low, codes=low.codes[:, begin:end], scales=low.scales[:, first:last])


def _packed_rows(low: Packed, begin: int, end: int) -> Packed:
    """Take whole panels where they lie; rows that begin within one are laid out again."""
    if low.scales is None:  # a plain matrix
        return replace(low, out=end - begin, codes=low.codes[begin:end])

    def lanes(part: Tensor | None) -> Tensor | None:
        if part is None:
            return None
        if begin % LANES == 0:
            return part[begin // LANES : -(-end // LANES)]
        rows = part.transpose(1, 2).flatten(0, 1)[begin:end]  # a row each: [rows, words or groups]
        room = (0, 0) * (rows.ndim - 1) + (0, -len(rows) % LANES)
        return pad(rows, room).view(-1, LANES, *rows.shape[1:]).transpose(1, 2).contiguous()

    codes = lanes(low.codes)
    assert codes is not None
    return replace(
        low, out=end - begin, codes=codes, scales=lanes(low.scales), zeros=lanes(low.zeros)
    )


def _packed_columns(low: Packed, begin: int, end: int) -> Packed:
    if low.scales is None:
        return replace(
            low, inner=end - begin, group=end - begin, codes=low.codes[:, begin:end].contiguous()
        )
    words, groups = (1 if low.format == "int4" else 2), _groups(low, begin, end)
    codes = low.codes[:, begin // _WORD * words : -(-end // _WORD) * words]
    return replace(
        low,
        inner=end - begin,
        group=min(low.group, end - begin),
        codes=codes.contiguous(),
        scales=low.scales[:, groups].contiguous(),
        zeros=None if low.zeros is None else low.zeros[:, groups].contiguous(),
    )
