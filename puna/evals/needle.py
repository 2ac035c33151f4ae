"""A needle in a haystack: one fact hidden at a depth of a long text, asked for at its end.

Two readings of one forward pass. *Found*: greedy decoding would write exactly the name; that is so
when each of its tokens is the likeliest after the true ones, so no decoding is needed. *Chosen*:
the true name's first token is likelier than those of eight others; a model that sees nothing is
right about one time in nine.
"""

import copy
import dataclasses
import random
from collections.abc import Sequence

import torch

from puna.data.recall import FAMILIES, Needle, draw_needles, split_sentences
from puna.errors import RequestError, StateError
from puna.evals.score import Score, share
from puna.model.llama import Llama
from puna.tokenizer.interface import Tokenizer

CANDIDATES = 9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Haystack:
    """A prompt with its needle, the answer, and other answers that could be given."""

    prompt: tuple[int, ...]
    needle: tuple[int, ...]
    answer: tuple[int, ...]
    candidates: tuple[int, ...]  # first tokens, the true one first
    length: int
    depth: float


def needle(
    model: Llama,
    tok: Tokenizer,
    *,
    hay: Sequence[str],
    lengths: Sequence[int],
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    each: int = 4,
    seed: int = 0,
    name: str = "needle",
    batch_tokens: int = 8192,
) -> list[Score]:
    """Return the scores `{name}.found.{length}` and `{name}.chosen.{length}` for each length.

    The model is asked beyond its own context too, with the rotations it has: this is what shows
    that an extension was needed.

    Args:
        hay: texts to hide the needle in.
        lengths: tokens of the whole prompt, BOS and question included.
        depths: where the needle lies, 0 at the start and 1 at the end.
        each: prompts a length and depth.
    """
    rng = random.Random(f"needle {seed}")
    reader = reading_up_to(model, max(lengths) + 8)
    scores: list[Score] = []
    for length in lengths:
        stacks = [
            make_haystack(tok, rng, hay, length, depth) for depth in depths for _ in range(each)
        ]
        rows = max(1, batch_tokens // length)
        found: list[bool] = []
        chosen: list[bool] = []
        for start in range(0, len(stacks), rows):
            seen = _ask(reader, stacks[start : start + rows])
            found += [row[0] for row in seen]
            chosen += [row[1] for row in seen]
        for kind, right in (("found", found), ("chosen", chosen)):
            by_depth = {
                str(depth): {"right": sum(right[i * each : (i + 1) * each]), "n": each}
                for i, depth in enumerate(depths)
            }
            detail = {"length": length, "context": model.config.context, "by_depth": by_depth}
            scores.append(share(f"{name}.{kind}.{length}", sum(right), len(right), detail))
    return scores


def make_haystack(
    tok: Tokenizer,
    rng: random.Random,
    hay: Sequence[str],
    length: int,
    depth: float,
) -> Haystack:
    """Hide one needle in as much hay as makes the prompt exactly `length` tokens.

    Raises:
        RequestError: the length has no room for the needle and the question.
    """
    hidden = draw_needles(rng, 1)[0]
    shared, answer, others = _answers(tok, rng, hidden)
    fact = tok.encode(" " + hidden.fact)
    question = [*tok.encode("\n" + hidden.question), *shared]
    room = length - 1 - len(fact) - len(question)
    if room < 0:
        raise RequestError(
            f"needle: a prompt of {length} tokens; needle and question alone take {length - room}. "
            "Ask for longer prompts."
        )
    straw = _straw(tok, rng, hay, room)
    place = round(depth * len(straw))
    before = [token for sentence in straw[:place] for token in sentence]
    after = [token for sentence in straw[place:] for token in sentence]
    return Haystack(
        prompt=(tok.bos_id, *before, *fact, *after, *question),
        needle=tuple(fact),
        answer=tuple(answer),
        candidates=(answer[0], *others),
        length=length,
        depth=depth,
    )


def reading_up_to(model: Llama, context: int) -> Llama:
    """Return the same model, weights and rotations shared, that lets itself be asked further."""
    if context <= model.config.context:
        return model
    reader = copy.copy(model)
    reader.config = dataclasses.replace(model.config, context=context)
    return reader


def _straw(tok: Tokenizer, rng: random.Random, hay: Sequence[str], room: int) -> list[list[int]]:
    """Return sentences of exactly `room` tokens together, from a random start; the last is cut."""
    sentences = [sentence for text in hay for sentence in split_sentences(text)]
    if not sentences:
        raise RequestError("needle: the hay holds no text; at least one sentence is expected.")
    straw: list[list[int]] = []
    index = rng.randrange(len(sentences))
    while room > 0:
        ids = tok.encode(" " + sentences[index % len(sentences)])[:room]
        straw.append(ids)
        room -= len(ids)
        index += 1
    return straw


def _answers(
    tok: Tokenizer, rng: random.Random, hidden: Needle
) -> tuple[list[int], list[int], list[int]]:
    """Return what all answers begin with, the rest of the true one, and others' next tokens.

    Some tokenizers give every word the same first token, a space: it belongs to the prompt.
    """
    others = [family for family in FAMILIES if family != hidden.family]
    coded = [tok.encode(f" {name}") for name in (hidden.family, *rng.sample(others, len(others)))]
    shared = 0
    while len({ids[shared] for ids in coded}) == 1:
        shared += 1
    true = coded[0][shared:]
    firsts = dict.fromkeys(ids[shared] for ids in coded if ids[shared] != true[0])
    return coded[0][:shared], true, list(firsts)[: CANDIDATES - 1]


@torch.inference_mode()
def _ask(model: Llama, stacks: Sequence[Haystack]) -> list[tuple[bool, bool]]:
    """Return for each prompt whether the answer is found, and whether it is chosen."""
    for stack in stacks:
        # A needle that was cut off would make every model fail.
        if not _holds(stack.prompt, stack.needle):
            raise StateError(f"needle: a prompt of {stack.length} tokens has lost its needle.")
    device = model.embed.weight.device
    width = max(len(stack.prompt) + len(stack.answer) for stack in stacks)
    ids = torch.zeros(len(stacks), width, dtype=torch.int64)
    for row, stack in enumerate(stacks):
        whole = (*stack.prompt, *stack.answer)
        ids[row, : len(whole)] = torch.tensor(whole)
    hidden = model.hidden(ids.to(device))
    results = []
    for row, stack in enumerate(stacks):
        start = len(stack.prompt) - 1  # the last token of the prompt predicts the first answer
        logits = model.logits(hidden[row, start : start + len(stack.answer)]).cpu()
        found = logits.argmax(-1).tolist() == list(stack.answer)
        scores = logits[0, list(stack.candidates)]
        results.append((found, int(scores.argmax()) == 0))
    return results


def _holds(prompt: Sequence[int], part: Sequence[int]) -> bool:
    """Whether `part` stands in `prompt` as one run."""
    wanted = list(part)
    return any(
        list(prompt[start : start + len(wanted)]) == wanted
        for start in range(len(prompt) - len(wanted) + 1)
    )
