"""What training must never see: one number in ten, and one group of documents in twenty.

The generated sources (`maths`, `languages`) ask `held_out_number` before they write a number, and
the evaluations of arithmetic and of number words ask only about held-out ones, so that a right
answer cannot be remembered. Pages and sources are not searched for numbers: a held-out number may
stand in a docstring, never in a sum or beside its name. `held_out_group` splits documents: a page
and the source of one module share a group and so stay on one side.
"""

import hashlib
import re

# Below this every number is needed to learn counting at all.
FIRST_HELD_OUT = 20

_MASK = 2**64 - 1
_DIGITS = re.compile(r"[0-9]+")


def held_out_number(n: int) -> bool:
    """Whether `n` is reserved for evaluation: n >= 20 and its hash falls in one tenth.

    The hash is the finaliser of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable
    pseudorandom number generators"), so neighbours fall independently.
    """
    if n < FIRST_HELD_OUT:
        return False
    z = (n + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) % 10 == 0


def mentions_held_out(text: str) -> bool:
    """Whether any run of ASCII digits in `text` is a held-out number."""
    return any(held_out_number(int(digits)) for digits in _DIGITS.findall(text))


def held_out_group(group: str, share: float, seed: int = 0) -> bool:
    """Whether all documents of `group` belong to the held-out side.

    Args:
        share: expected fraction of groups that are held out.
        seed: another seed chooses other groups.
    """
    digest = hashlib.sha256(f"{seed}/{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
