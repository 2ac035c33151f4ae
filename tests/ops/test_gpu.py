import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from puna.ops.gpu.choice import (
    Gpu,
    decodes_by_graph,
    fp8_product,
    gpu_of,
    lowbit_product,
    rounds_to_fp8,
)
from puna.ops.gpu.matrix import stacked
from puna.ops.gpu.panels import as_gpu_matrix
from puna.ops.gpu.run import product
from puna.ops.lowbit import linear, pack
from puna.ops.matrix import Format
from tests.ops.weights import random_packed, seeded

AMPERE = Gpu(capability=(8, 0), has_triton=True)
HOPPER = Gpu(capability=(9, 0), has_triton=True)
VOLTA = Gpu(capability=(7, 0), has_triton=True)
BARE = Gpu(capability=(9, 0), has_triton=False)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_every_kernel_equals_its_reference_in_tritons_interpreter() -> None:
    """The interpreter rules a whole process, so its tests have one of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/gpu"],
        env=kept | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_one_row_reads_the_weights_and_more_rows_use_the_matrix_units() -> None:
    shape = {"inner": 4096, "group": 32}
    assert lowbit_product(HOPPER, rows=1, **shape) == "row"
    assert lowbit_product(AMPERE, rows=2, **shape) == "tiles"
    assert lowbit_product(HOPPER, rows=0, **shape) == "torch"


def test_torch_computes_where_kernels_cannot() -> None:
    for gpu in (None, VOLTA, BARE):
        assert lowbit_product(gpu, rows=1, inner=64, group=32) == "torch"
        assert not decodes_by_graph(gpu)
    assert lowbit_product(HOPPER, rows=1, inner=96, group=24) == "torch"
    assert lowbit_product(HOPPER, rows=1, inner=75, group=75) == "row"


def test_fp8_is_multiplied_by_torch_where_its_matrix_units_can() -> None:
    assert fp8_product(HOPPER, rows=7, inner=64, out=48) == "scaled_mm"
    assert fp8_product(Gpu(capability=(8, 9), has_triton=False), rows=1, inner=64, out=48) == (
        "scaled_mm"
    )
    assert fp8_product(HOPPER, rows=1, inner=75, out=7) == "row"
    assert fp8_product(HOPPER, rows=7, inner=75, out=48) == "torch"
    assert fp8_product(HOPPER, rows=7, inner=64, out=50) == "torch"
    for gpu in (None, AMPERE, VOLTA):
        assert fp8_product(gpu, rows=7, inner=64, out=48) == "torch"
        assert not rounds_to_fp8(gpu)


def test_a_processor_is_no_gpu() -> None:
    assert gpu_of(torch.device("cpu")) is None


@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize(("out", "inner", "group"), [(17, 40, 32), (37, 200, 64), (20, 75, 75)])
@pytest.mark.parametrize("has_zeros", [True, False])
def test_a_gpus_layout_holds_the_same_weights(
    format: Format, out: int, inner: int, group: int, has_zeros: bool
) -> None:
    packed = random_packed(format, out, inner, group=group, has_zeros=has_zeros)
    matrix = as_gpu_matrix(packed, "cpu", HOPPER)
    assert matrix is not None
    assert torch.equal(matrix.dequantize(), packed.dequantize())
    index = torch.tensor([[out - 1, 0]])
    assert torch.equal(matrix.rows(index), packed.rows(index))
    x = torch.randn(3, inner, generator=seeded(1))
    expected = x @ packed.dequantize().T
    torch.testing.assert_close(product(x, matrix), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(linear(x, matrix), expected, rtol=1e-5, atol=1e-6)


def test_what_no_kernel_reads_keeps_its_panels() -> None:
    assert as_gpu_matrix(random_packed("int4", 16, 96, group=24), "cpu", HOPPER) is None
    assert as_gpu_matrix(random_packed("int4", 16, 96), "cpu", VOLTA) is None
    assert as_gpu_matrix(pack("bf16", torch.ones(4, 8)), "cpu", HOPPER) is None


def test_matrices_of_one_kind_are_stacked() -> None:
    parts = [
        as_gpu_matrix(random_packed("int4", out, 64, seed=out), "cpu", HOPPER) for out in (10, 22)
    ]
    whole = stacked([part for part in parts if part is not None])
    assert whole is not None
    expected = torch.cat([part.dequantize() for part in parts if part is not None])
    assert torch.equal(whole.dequantize(), expected)
    other = as_gpu_matrix(random_packed("int8", 8, 64), "cpu", HOPPER)
    assert parts[0] is not None
    assert other is not None
    assert stacked([parts[0], other]) is None
