"""Guesses of the next tokens, which the model then checks all at once.

A guess never changes what is written. The model draws each token as it always would, with the same
random number; as long as the drawn token is the guessed one, the logits after it are there already.
So the text with guesses is the text without them, token for token at any temperature (on the native
kernels; elsewhere up to the rounding of logits), which is more than keeping the distribution. A
guess is right as often as the model gives it probability: for a single guess nothing is better.

Where a constraint leaves one way to go on, that is the guess. `PromptLookup` guesses that what
followed the last tokens before will follow again; `DraftModel` asks a smaller model, which draws
with the random numbers that the large one will use.
Source: Leviathan et al. 2023, arXiv:2211.17192, for checking guesses in one pass; Saxena 2023,
prompt lookup decoding.
"""

from collections.abc import Sequence
from typing import Protocol

from puna.errors import ConfigError
from puna.infer.ngrams import NGrams
from puna.infer.paged import PagedModel, paged_model
from puna.infer.room import EngineConfig
from puna.infer.runner import Part
from puna.infer.scheduler import Turn
from puna.infer.sequence import TokenSequence
from puna.model.llama import Llama

Guesses = tuple[int, ...]


class Guesser(Protocol):
    """What makes guesses for the sequences of a step."""

    def copy(self, source: int, target: int) -> None:
        """Follow the copy of a page."""

    def guess(self, turns: Sequence[Turn]) -> list[Guesses]:
        """Return at most `turn.drafts` guesses for each turn."""


def wish(sequence: TokenSequence, most: int) -> None:
    """Say how many guesses a sequence would like to have checked."""
    left = sequence.limit - sequence.written - 1
    is_alone = not sequence.samples_to_come  # guesses of one sample must not reach the others
    if not sequence.reach:
        sequence.reach = most
    speculates = sequence.request.speculates and sequence.unread == 1 and is_alone
    sequence.drafts_wanted = max(0, min(sequence.reach, left)) if speculates else 0


def learn(sequence: TokenSequence, *, guessed: int, right: int, most: int) -> None:
    """Guess further where guesses are right, less far where they are not."""
    if guessed and right == guessed:
        sequence.reach = min(most, 2 * sequence.reach)
    elif guessed and not right:
        sequence.reach = max(1, sequence.reach // 2)


def allowed_guesses(turn: Turn, guesses: Guesses) -> Guesses:
    """Return what the constraint of a sequence leaves no choice about, else guesses it allows."""
    matcher = turn.sequence.picker.matcher
    if matcher is None or not turn.drafts:
        return guesses
    forced = tuple(matcher.forced())[: turn.drafts]
    return forced or guesses[: matcher.possible(guesses)]


class PromptLookup:
    """Guesses from the sequence's own text: for summaries, edits, code, quotations."""

    def copy(self, source: int, target: int) -> None:
        """Keep nothing in pages."""

    def guess(self, turns: Sequence[Turn]) -> list[Guesses]:
        """Look every sequence's newest tokens up."""
        return [self._guess(turn) if turn.drafts else () for turn in turns]

    def _guess(self, turn: Turn) -> Guesses:
        sequence = turn.sequence
        if sequence.ngrams is None:
            sequence.ngrams = NGrams()
        return sequence.ngrams.guess(sequence.ids, turn.drafts)


class DraftModel:
    """A smaller model beside the large one; its cache has pages of the same numbers.

    What shares, copies or preempts pages does so for both. Pages that were found by their content
    hold what this model read too; where it has not (guessing was off), guesses are worse and the
    text is the same.
    """

    def __init__(self, model: Llama, pages: int, config: EngineConfig, *, vocab: int) -> None:
        if model.config.vocab != vocab:
            raise ConfigError(
                f"engine: the draft model has {model.config.vocab} ids and the model {vocab}; the "
                "same vocabulary is expected. Draft with a smaller model of the same family."
            )
        self._context = model.config.context
        self._paged: PagedModel = paged_model(
            model, pages, page_tokens=config.page_tokens, is_native=config.is_native
        )

    def copy(self, source: int, target: int) -> None:
        """Copy a page onto another."""
        self._paged.copy(source, target)

    def guess(self, turns: Sequence[Turn]) -> list[Guesses]:
        """Read what the large model will read, and write on as far as each turn may."""
        guesses: list[list[int]] = [[] for _ in turns]
        live: list[tuple[int, Part]] = []
        for place, turn in enumerate(turns):
            part = self._known(turn)
            if part is not None:
                live.append((place, part))
        uniforms = {
            place: turns[place].sequence.picker.uniforms_ahead(turns[place].drafts)
            for place, _ in live
        }
        while live:
            logits = self._paged.read([part for _, part in live])
            following: list[tuple[int, Part]] = []
            for row, (place, part) in enumerate(live):
                turn, made = turns[place], guesses[place]
                until = part.held + len(part.ids)
                turn.sequence.drafted = until
                if len(made) < turn.drafts:
                    uniform = uniforms[place][len(made)]
                    made.append(turn.sequence.picker.guess(logits[row], uniform))
                if len(made) < turn.drafts and until < self._context:
                    following.append((place, Part(ids=made[-1:], held=until, pages=part.pages)))
            live = following
        return [tuple(made) for made in guesses]

    def _known(self, turn: Turn) -> Part | None:
        """Return the known tokens that this model has not read, if they fit its context."""
        sequence = turn.sequence
        end = sequence.held + turn.count
        begin = max(min(sequence.drafted, sequence.held), sequence.adopted)
        if end > self._context:
            return None
        return Part(ids=sequence.ids[begin:end], held=begin, pages=sequence.pages)
