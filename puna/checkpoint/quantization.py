"""`quantization_config` of a Hugging Face folder, read with nothing overlooked.

Three spellings of others are read: compressed-tensors (int4, int8, fp8), FBGEMM's row-wise fp8, in
which Meta's 405B was released, and the plain `fp8` of AutoFP8; puna's own is `panels`.
Which tensors hold what is told by the tensors themselves (puna.checkpoint.compressed); here stands
how activations are treated.
Source: compressed-tensors' QuantizationConfig; transformers' FbgemmFp8Config.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from puna.checkpoint import panels
from puna.checkpoint.facts import Facts
from puna.errors import ConfigError, FormatError

Layout = Literal["compressed-tensors", "fbgemm_fp8", "panels"]

# How ranges were found, and notes of the tool that wrote the file; the logits do not depend on it.
_HARMLESS_ARGS = ("observer", "observer_kwargs", "scale_dtype", "zp_dtype")
_HARMLESS = ("global_compression_ratio", "quantization_status", "version", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """What a folder says about its quantized matrices."""

    groups: tuple[int, ...] = ()  # columns that may share a scale
    bound: float | None = None  # of dynamic fp8 activation scales
    in_panels: bool = False  # as the kernels read them
    is_dynamic: bool = True  # whether fp8 activations get their scales as they come

    def group_of(self, columns: int, count: int, *, where: str) -> int:
        """Return how many columns share a scale, of a matrix with `count` scales a row."""
        if count == 1:
            return columns
        for group in self.groups:
            if -(-columns // group) == count:
                return group
        raise FormatError(
            f"{where} has {count} scales for {columns} columns; the configuration names groups of "
            f"{', '.join(map(str, self.groups)) or 'none'}. The two do not belong together."
        )


def read_quantization(table: Any, *, where: str) -> Quantization:
    """Read `quantization_config`.

    Raises:
        ConfigError: it asks for something puna does not compute.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: {table!r} was given; an object is expected.")
    facts = Facts(table, where=where)
    match facts.value("quant_method"):
        case "compressed-tensors":
            return _read_compressed(facts)
        case "fbgemm_fp8":
            bound = facts.number("activation_scale_ub")
            facts.refuse_rest(("modules_to_not_convert",))
            return Quantization(bound=bound)
        case "fp8":
            facts.must_be("activation_scheme", "static", "dynamic")
            facts.must_be("weight_block_size")
            is_dynamic = facts.value("activation_scheme") != "static"
            facts.refuse_rest(("ignored_layers", "modules_to_not_convert"))
            return Quantization(is_dynamic=is_dynamic)
        case panels.METHOD:
            facts.must_be("version", panels.VERSION)
            facts.refuse_rest(("modules_to_not_convert",))
            return Quantization(in_panels=True)
        case method:
            raise ConfigError(
                f"{where}: quant_method is {method!r}; 'compressed-tensors', 'fbgemm_fp8' or 'fp8' "
                "is expected. Choose a checkpoint in one of these, or an unquantized one."
            )


def _read_compressed(facts: Facts) -> Quantization:
    formats = ("pack-quantized", "float-quantized", "int-quantized", "naive-quantized")
    facts.must_be("format", *formats, "mixed-precision")
    facts.must_be("kv_cache_scheme")
    for key in ("sparsity_config", "transform_config"):
        facts.must_be(key, {})
    groups: list[int] = []
    static = False
    listed = facts.value("config_groups")
    if not isinstance(listed, Mapping) or not listed:
        raise ConfigError(f"{facts.where}: config_groups={listed!r}; an object is expected.")
    for name, group in listed.items():
        inner = Facts(group, where=f"{facts.where} {name}")
        inner.must_be("format", *formats)
        inner.must_be("output_activations")
        inner.value("targets")
        columns = _read_weights(inner)
        groups += [columns] if columns else []
        static |= _is_static(inner)
        inner.refuse_rest()
    facts.refuse_rest(_HARMLESS)
    return Quantization(groups=tuple(dict.fromkeys(groups)), is_dynamic=not static)


def _read_weights(group: Facts) -> int | None:
    """Check how weights are stored; return how many columns share a scale, where it is stated."""
    given = group.value("weights")
    facts = Facts(given if isinstance(given, Mapping) else {}, where=f"{group.where} weights")
    facts.must_be("num_bits", 4, 8)
    facts.must_be("type", "int", "float")
    facts.must_be("strategy", "group", "channel", "tensor")
    facts.flag("symmetric", True)
    facts.must_be("dynamic", False)
    facts.must_be("block_structure")
    facts.must_be("actorder", "weight", "static", False)
    size = facts.value("group_size")
    columns = facts.integer("group_size") if size not in (None, -1) else None
    facts.refuse_rest(_HARMLESS_ARGS)
    return columns


def _is_static(group: Facts) -> bool:
    """Say whether fp8 activations have stored scales; int8 ones are computed as they come."""
    given = group.value("input_activations")
    if given is None:
        return False
    facts = Facts(given if isinstance(given, Mapping) else {}, where=f"{group.where} inputs")
    facts.must_be("num_bits", 8)
    facts.must_be("type", "int", "float")
    facts.must_be("strategy", "token", "tensor")
    facts.must_be("block_structure")
    facts.must_be("group_size")
    facts.must_be("actorder")
    facts.flag("symmetric", True)
    is_static = not facts.flag("dynamic", False)
    facts.refuse_rest(_HARMLESS_ARGS)
    return is_static
