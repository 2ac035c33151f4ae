"""A program of its own: computes the answer to one question within hard limits, then ends.

`process` starts it. The question comes on stdin, JSON goes to stdout: the pods, or an error for the
model. sympy may need more time or memory than anyone has; here that ends this process alone.
"""

import contextlib
import dataclasses
import json
import resource
import sys

from puna.errors import PunaError
from puna.tools.compute.answer import shortened
from puna.tools.compute.question import answer

CPU_S = 10
MEMORY_BYTES = 1 << 30


def main() -> None:
    """Answer the question on stdin."""
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a system that does not know the limit
            resource.setrlimit(limit, (most, most))
    sys.set_int_max_str_digits(0)  # sizes are bounded where they arise
    sys.setrecursionlimit(5000)
    question = sys.stdin.buffer.read().decode(errors="replace")
    print(json.dumps(_told(question)))


def _told(question: str) -> dict[str, object]:
    try:
        pods = answer(question)
    except PunaError as error:
        return {"error": str(error)}
    except (MemoryError, RecursionError):
        return {"error": "it is too large to be computed."}
    except Exception as error:  # a worker: sympy fails in many ways, and the model is told
        return {"error": f"it cannot be computed ({type(error).__name__})."}
    return {"pods": [dataclasses.asdict(pod) | {"text": shortened(pod.text)} for pod in pods]}


if __name__ == "__main__":
    main()
