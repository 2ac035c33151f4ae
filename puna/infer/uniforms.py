"""The random numbers that tokens are drawn by: those of torch's generator, without torch.

A seed gives the numbers of `torch.rand(1, generator=..., dtype=torch.float64)` on the CPU, which it
gave before there was a start without torch; Python's generator is the same Mersenne twister.
Source: Matsumoto and Nishimura 1998, `init_genrand`; PyTorch, ATen/core/MT19937RNGEngine.h and
TransformationHelper.h.
"""

from random import Random

_WORDS = 624  # of the twister's state
_GROWTH = 1_812_433_253  # what each word of a fresh state is grown from the last by
_BITS = 53  # of a float64's fraction


class Uniforms:
    """Numbers from 0 up to 1, without end; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        word = seed % 2**32  # torch looks at no more of it
        words = [word]
        for place in range(1, _WORDS):
            word = (_GROWTH * (word ^ word >> 30) + place) % 2**32
            words.append(word)
        self._random = Random(0)
        self._random.setstate((3, (*words, _WORDS), None))

    def next(self) -> float:
        """Take the next number."""
        high = self._random.getrandbits(32)
        return float((high << 32 | self._random.getrandbits(32)) % 2**_BITS) / 2.0**_BITS

    def ahead(self, count: int) -> list[float]:
        """Return the next numbers without taking them."""
        state = self._random.getstate()
        numbers = [self.next() for _ in range(count)]
        self._random.setstate(state)
        return numbers
