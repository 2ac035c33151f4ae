"""Asking the computing process: one for each question, with nothing of ours but the question.

It gets no environment and no files to write; when its time is up it is killed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import puna
from puna.errors import RequestError, StateError
from puna.tools.compute.answer import Pod

TIMEOUT_S = 15.0


def compute(question: str, *, timeout_s: float = TIMEOUT_S) -> list[Pod]:
    """Answer a question in a process of its own.

    Raises:
        RequestError: the question is not understood or has no answer; the message says why.
        StateError: it takes too long, or the process fails.
    """
    packages = str(Path(puna.__file__).parents[1])
    environment = {"PYTHONPATH": packages, "PATH": os.defpath, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-P", "-B", "-m", "puna.tools.compute.child"]
    try:
        done = subprocess.run(
            command,
            input=question.encode(errors="replace"),
            capture_output=True,
            env=environment,
            cwd="/",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise StateError(f"it takes longer than {timeout_s:g} s; ask something simpler.") from error
    try:
        told = json.loads(done.stdout)
        if "error" in told:
            raise RequestError(told["error"])
        return [Pod(**pod) for pod in told["pods"]]
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, RequestError):
            raise
        raise StateError("it takes more time or memory than there is.") from error
