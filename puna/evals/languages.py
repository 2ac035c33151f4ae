"""Words in eight languages: numbers that training never wrote out, names in an unseen phrasing.

A number word follows a rule and is asked for a held-out number. A name follows none: every name was
taught, and the question is put in words that training never used. The scores say which is which.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from puna.data.heldout import held_out_number
from puna.data.number_words import number_words
from puna.evals.reply import Reply
from puna.evals.score import Score, share
from puna.evals.sums import HeldOut
from puna.evals.vocabulary import (
    LANGUAGES,
    TRAINING_PHRASES,
    UNSEEN_PHRASES,
    draw_held_out_numbers,
    names,
    same_word,
)

_EXAMPLES = 3  # wrong answers kept for each language


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question with its only right answer."""

    text: str
    answer: str
    language: str
    kind: str  # "numbers" or "names"


def languages(
    reply: Reply,
    *,
    numbers: int = 12,
    words: int = 8,
    seed: int = 0,
    tools: Sequence[str] = (),
    system: str | None = None,
    held_out: HeldOut = held_out_number,
) -> list[Score]:
    """Return the scores `languages.numbers`, `languages.names` and one for each language.

    Args:
        numbers: held-out numbers asked in each language, or all there are.
        words: names asked in each language but English.
        tools: what the system message declares; none has to be called.
    """
    asked = questions(numbers=numbers, words=words, seed=seed, held_out=held_out)
    begin = [] if system is None else [{"role": "system", "content": system}]
    dialogs = [[*begin, {"role": "user", "content": question.text}] for question in asked]
    answers = [message.content for message in reply(dialogs, tools)]
    right = [same_word(a, q.answer) for a, q in zip(answers, asked, strict=True)]
    rows = list(zip(asked, answers, right, strict=True))
    scores = [
        _score(f"languages.{kind}", [row for row in rows if row[0].kind == kind])
        for kind in ("numbers", "names")
        if any(row[0].kind == kind for row in rows)
    ]
    scores += [
        _score(f"languages.{code}", [row for row in rows if row[0].language == code])
        for code in LANGUAGES
        if any(row[0].language == code for row in rows)
    ]
    return scores


def questions(*, numbers: int, words: int, seed: int, held_out: HeldOut) -> list[Question]:
    """Draw what is asked; the same arguments give the same questions."""
    rng = random.Random(f"languages {seed}")
    asked = []
    taught = list(names())
    for code, language in LANGUAGES.items():
        # The phrasing is one that training used: here the number is what is new.
        phrase = TRAINING_PHRASES[0].replace("'", "")
        for number in draw_held_out_numbers(rng, held_out, numbers):
            text = phrase.format(word=number, language=language)
            answer = number_words(number, code)
            asked.append(Question(text=text, answer=answer, language=code, kind="numbers"))
        known = [name for name in taught if name.language == code]
        for name in rng.sample(known, min(words, len(known))):
            text = UNSEEN_PHRASES[0].format(word=name.english, language=language)
            asked.append(Question(text=text, answer=name.foreign, language=code, kind="names"))
    return asked


def _score(name: str, rows: Sequence[tuple[Question, str, bool]]) -> Score:
    detail = {
        kind: {
            "right": sum(ok for question, _, ok in rows if question.kind == kind),
            "n": sum(question.kind == kind for question, _, _ in rows),
        }
        for kind in ("numbers", "names")
    }
    wrong = [
        {"question": question.text, "answer": answer, "expected": question.answer}
        for question, answer, ok in rows
        if not ok
    ]
    right = sum(ok for _, _, ok in rows)
    return share(name, right, len(rows), {**detail, "wrong": wrong[:_EXAMPLES]})
