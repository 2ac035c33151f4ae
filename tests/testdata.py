"""Real data that the tests read in place: it lies beside the project, never inside it."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("PUNA_TESTDATA", Path(__file__).parents[2] / "shared" / "testdata"))


def testdata(name: str) -> Path:
    """Return the path of a file or folder of the test data, or skip where the folder is absent."""
    if not ROOT.is_dir():
        pytest.skip(
            f"no test data at {ROOT}; set PUNA_TESTDATA to its folder", allow_module_level=True
        )
    path = ROOT / name
    assert path.exists(), f"{path} is missing from the test data"
    return path


testdata.__test__ = False  # type: ignore[attr-defined]  # pytest must not collect it
