"""`python -m puna` is the command line."""

import subprocess
import sys

import puna


def test_python_dash_m_puna_is_the_command_line() -> None:
    command = [sys.executable, "-m", "puna", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, f"puna {puna.__version__}")
