"""Stop strings in a stream: nothing is shown that may turn out to be the start of one.

Stop ids end a row by themselves (`puna.infer.generate`); stop strings are text, may begin and end
inside tokens, and are found here, between the decoder and whoever reads the stream.
"""

from collections.abc import Sequence

from puna.errors import RequestError
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.stream import StreamDecoder


class StopStrings:
    """Passes text on until a stop string is complete, and holds back what could begin one.

    The stop string that ends first wins; of two that end together, the longer. The text passed on
    is the same however the stream is cut into pieces.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        if isinstance(stops, str) or not all(isinstance(stop, str) and stop for stop in stops):
            raise RequestError(
                f"stop: {stops!r} was given; a list of strings that are not empty is expected."
            )
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None  # the stop string that ended the stream

    def feed(self, text: str) -> str:
        """Take more text and return what is now certain not to belong to a stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        ends = [(text.find(s) + len(s), -len(s), s) for s in self._stops if s in text]
        if ends:
            end, _, self.found = min(ends)
            self._held = ""
            return text[: end - len(self.found)]
        keep = self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back: the stream has ended, so it was ordinary text."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Return the length of the longest end of `text` that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class TextStream:
    """Token ids in, text out: whole characters only, special tokens unseen, stop strings kept out.

    The text continues the prompt's: a SentencePiece tokenizer drops the first space of a text, not
    that of a continuation.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, stops: Sequence[str] = (), prompt: Sequence[int] = ()
    ) -> None:
        self._decoder = StreamDecoder(tokenizer, skip_special=True, after=prompt)
        self._stops = StopStrings(stops)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found; text after it is dropped."""
        return self._stops.found is not None

    def feed(self, token: int) -> str:
        """Take one token and return the text that it settles."""
        return self._stops.feed(self._decoder.feed(token))

    def flush(self) -> str:
        """Return the rest: the stream has ended."""
        return self._stops.feed(self._decoder.flush()) + self._stops.flush()
