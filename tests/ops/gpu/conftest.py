"""Tests that launch Triton's kernels: on a GPU, or where its interpreter was asked for.

The interpreter is chosen when kernels are defined, and then for all of a process; so
tests/ops/test_gpu.py runs this folder in a process of its own.
"""

import os
from importlib.util import find_spec

import torch

if find_spec("triton") is None or not (
    os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available()
):
    collect_ignore_glob = ["test_*.py"]
