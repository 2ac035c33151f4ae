"""What a raised model is asked: held-out text, sums, words, and a needle in a long text.

Everything here was kept from training: documents by module, numbers by a hash. Scores carry
intervals; compressors read the same bytes as the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from puna.chat.format import ChatFormat
from puna.evals.arithmetic import arithmetic
from puna.evals.bits import bits_per_byte, compressors
from puna.evals.languages import languages
from puna.evals.needle import needle
from puna.evals.reply import batched_reply
from puna.evals.score import Score, write_scores
from puna.files import write_json
from puna.log import progress
from puna.model.llama import Llama
from puna.tokenizer.interface import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """How much is asked."""

    held_out_bytes: int = 120_000  # of each source
    sums: int = 200
    numbers: int = 12  # number words of each language
    words: int = 8  # names of each language
    needles: int = 4  # at each length and depth
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The three models of a life, as far as it got, and what belongs to them."""

    tokenizer: Tokenizer
    before: Llama  # pretrained
    after: Llama  # context extended; the same as `before` without an extension
    assistant: Llama | None  # fine-tuned


def judge(
    models: Judged,
    held_out: dict[str, Sequence[str]],
    config: EvalConfig,
    folder: Path,
    *,
    lengths: Sequence[int],
    calculator: Callable[[str], str],
    system: str,
    seed: int,
) -> list[Score]:
    """Ask everything, write one file of scores each, and return the scores.

    Args:
        held_out: texts of each source that training never saw.
        lengths: the first context and those of the extension.
    """
    scores: list[Score] = []
    with progress(total=4, title="evaluate") as bar:
        bits = _bits(models, held_out, config, folder)
        write_scores(folder / "bits_per_byte.json", bits)
        bar.advance(1, f"{bits[0].value:.3f} bits per byte")
        found = _needles(models, held_out, config, lengths=lengths, seed=seed)
        write_scores(folder / "needle.json", found)
        bar.advance(1, "needle")
        scores += [*bits, *found]
        if models.assistant is not None:
            chat = ChatFormat(models.tokenizer, dialect="meta")
            reply = batched_reply(models.assistant, chat)
            sums = arithmetic(reply, calculator=calculator, n=config.sums, seed=seed, system=system)
            write_scores(folder / "arithmetic.json", sums)
            bar.advance(1, f"{sums[-1].value:.0%} of sums right")
            words = languages(
                reply, numbers=config.numbers, words=config.words, seed=seed, system=system
            )
            write_scores(folder / "languages.json", words)
            bar.advance(1, "languages")
            scores += [*sums, *words]
    return scores


def _bits(
    models: Judged, held_out: dict[str, Sequence[str]], config: EvalConfig, folder: Path
) -> list[Score]:
    """Score each source's held-out texts; the first score is of the pages."""
    chosen = {name: _first_bytes(texts, config.held_out_bytes) for name, texts in held_out.items()}
    sources = sorted((name for name in chosen if chosen[name]), key=lambda n: n != "general")
    baselines = {name: compressors(chosen[name]) for name in sources}
    write_json(folder / "compressors.json", baselines)
    return [
        bits_per_byte(models.after, models.tokenizer, chosen[name], name=f"bits_per_byte.{name}")
        for name in sources
    ]


def _needles(
    models: Judged,
    held_out: dict[str, Sequence[str]],
    config: EvalConfig,
    *,
    lengths: Sequence[int],
    seed: int,
) -> list[Score]:
    hay = next(texts for texts in held_out.values() if texts)
    scores: list[Score] = []
    after = models.assistant or models.after
    for name, model in (("needle.before", models.before), ("needle.after", after)):
        scores += needle(
            model,
            models.tokenizer,
            hay=hay,
            lengths=lengths,
            depths=config.depths,
            each=config.needles,
            seed=seed,
            name=name,
        )
    return scores


def _first_bytes(texts: Sequence[str], most: int) -> list[str]:
    """Take whole texts until `most` bytes are reached; at least one."""
    chosen: list[str] = []
    size = 0
    for text in texts:
        if chosen and size + len(text.encode()) > most:
            break
        chosen.append(text)
        size += len(text.encode())
    return chosen
