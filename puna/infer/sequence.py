"""One sample of a request while it runs: its tokens, its pages, how far it was read.

`puna.infer.scheduler` decides when it runs and which pages it holds, `puna.infer.pick` draws its
next token, `puna.infer.engine` writes it.
"""

from puna.infer.ngrams import NGrams
from puna.infer.pages import first_key, next_key
from puna.infer.pick import Picked, Picker
from puna.infer.request import Request
from puna.infer.stops import StopStrings
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.stream import StreamDecoder


class TokenSequence:
    """The prompt, what was written after it, and where its keys and values lie."""

    __slots__ = (
        "_keys", "adopted", "decoder", "drafted", "drafts_wanted", "flight", "handle", "held",
        "ids", "index", "is_running", "limit", "ngrams", "number", "pages", "picker",
        "prompt_tokens", "reach", "request", "samples_to_come", "stops", "total_logprob",
        "was_preempted",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        picker: Picker,
        *,
        handle: int,
        number: int,
        limit: int,
        index: int = 0,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.request, self.picker = request, picker
        self.handle, self.number, self.index = handle, number, index
        self.ids = list(request.ids)
        self.prompt_tokens = len(self.ids)
        self.limit = limit  # tokens that it may write
        self.held = 0  # tokens whose keys and values lie in its pages
        self.pages: list[int] = []
        self._keys: list[bytes] = []  # of full pages, in order
        self.samples_to_come = 0  # that will share this prompt once it was read
        self.is_running = self.was_preempted = False
        self.adopted = 0  # tokens at its begin that were found in the cache
        self.drafted = 0  # tokens that a draft model has read
        self.drafts_wanted = 0
        self.flight = 0  # number of the step that reads it now; 0: none does
        self.reach = 0  # guesses that are worth checking; `puna.infer.speculative` learns it
        self.ngrams: NGrams | None = None
        self.total_logprob = 0.0
        self.stops = StopStrings(request.stop) if request.stop else None
        self.decoder = None
        if self.stops is not None and tokenizer is not None:
            self.decoder = StreamDecoder(tokenizer, skip_special=True, after=request.ids)

    @property
    def written(self) -> int:
        """Tokens after the prompt."""
        return len(self.ids) - self.prompt_tokens

    @property
    def unread(self) -> int:
        """Tokens that are known and not yet read; one while it writes."""
        return len(self.ids) - self.held

    @property
    def user(self) -> str:
        """Whose it is."""
        return self.request.user

    def rank(self) -> tuple[int, int]:
        """Return the order in which sequences are served: higher priority, then older, first."""
        return (-self.request.priority, self.number)

    def key(self, page: int, page_tokens: int) -> bytes:
        """Return the key of its full page with this number."""
        for at in range(len(self._keys), page + 1):
            before = self._keys[-1] if self._keys else first_key(self.request.salt)
            tokens = self.ids[at * page_tokens : (at + 1) * page_tokens]
            assert len(tokens) == page_tokens, "only full pages have keys"
            self._keys.append(next_key(before, tokens))
        return self._keys[page]

    def fork(
        self, picker: Picker, *, index: int, number: int, tokenizer: Tokenizer | None
    ) -> "TokenSequence":
        """Return another sample that holds the same pages, which the caller counts."""
        other = TokenSequence(
            self.request, picker, handle=self.handle, number=number, limit=self.limit, index=index,
            tokenizer=tokenizer,
        )  # fmt: skip
        other.held, other.pages, other._keys = self.held, list(self.pages), list(self._keys)
        other.adopted, other.drafted = self.adopted, self.drafted
        return other

    def write(self, picked: Picked) -> None:
        """Append the token that was drawn."""
        self.ids.append(picked.id)
        if picked.logprob is not None:
            self.total_logprob += picked.logprob.logprob

    def ends_with_stop(self, token: int) -> str | None:
        """Return the stop string that this token completes, if it does."""
        if self.decoder is None or self.stops is None:
            return None
        self.stops.feed(self.decoder.feed(token))
        return self.stops.found
