"""The needle is in the prompt, where it should be, and what is measured is greedy decoding."""

import random
import re

import pytest
import torch

from puna.errors import ContextError, RequestError
from puna.evals.needle import make_haystack, needle, reading_up_to
from tests.evals.tiny import ByteTokenizer, tiny_model

HAY = ["The sea is wide. Ships sail over it.", "Birds sing in the morning. Cats sleep.\nRain."]


@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("length", [100, 333])
def test_the_needle_lies_in_a_prompt_of_the_asked_length(length: int, depth: float) -> None:
    """E6: a needle that was cut off would measure nothing."""
    tok = ByteTokenizer()
    stack = make_haystack(tok, random.Random(1), HAY, length, depth)
    text = tok.decode(stack.prompt)
    assert len(stack.prompt) == length
    assert stack.prompt[0] == tok.bos_id
    name, family = text.split()[-1], tok.decode(stack.answer)
    assert f"called {name} {family}." in text
    if length > 300:  # in a short prompt there is hardly a place to choose
        place = text.index("One keeper") / (len(text) - 70)
        assert place == pytest.approx(depth, abs=0.2)


def test_the_candidates_are_different_tokens_and_the_first_is_right() -> None:
    stack = make_haystack(ByteTokenizer(), random.Random(2), HAY, 200, 0.5)
    assert stack.candidates[0] == stack.answer[0]
    assert len(set(stack.candidates)) == len(stack.candidates) == 9


def test_a_prompt_too_short_for_its_needle_is_refused() -> None:
    with pytest.raises(RequestError, match="Ask for longer prompts"):
        make_haystack(ByteTokenizer(), random.Random(0), HAY, 40, 0.5)


def test_a_model_that_copies_finds_every_needle() -> None:
    """A stand-in model that writes what followed the name when it was first read."""
    tok = ByteTokenizer()
    model = tiny_model(context=256)

    def copies(ids: torch.Tensor) -> torch.Tensor:
        hidden = torch.zeros(*ids.shape, tok.vocab)
        for row, line in enumerate(ids.tolist()):
            text = tok.decode(line)
            name = re.findall(r"Keeper: (\w+) ", text)[-1]
            at = text.index(f"called {name}") + len(f"called {name} ")
            question = text.rindex(f"Keeper: {name}") + len(f"Keeper: {name} ") - 1
            shift = len(SPECIAL) - 1  # BOS is one id and many characters
            for step in range(text.index(".", at) - at):
                hidden[row, question + step - shift, ord(text[at + step])] = 1.0
        return hidden

    SPECIAL = "<|begin_of_text|>"
    model.hidden = copies  # type: ignore[method-assign, assignment]
    model.logits = lambda hidden: hidden  # type: ignore[method-assign, assignment]
    scores = needle(model, tok, hay=HAY, lengths=[128, 200], depths=(0.0, 0.5, 1.0), each=2)
    assert [score.value for score in scores] == [1.0] * 4
    assert scores[0].name == "needle.found.128"
    assert scores[0].detail["by_depth"]["0.5"] == {"right": 2, "n": 2}


def test_an_untrained_model_finds_nothing_and_may_be_asked_beyond_its_context() -> None:
    model = tiny_model(context=64)
    scores = needle(model, ByteTokenizer(), hay=HAY, lengths=[128], depths=(0.5,), each=3)
    assert {score.name: score.value for score in scores}["needle.found.128"] == 0.0


def test_reading_further_changes_no_logit_within_the_context() -> None:
    model = tiny_model(context=32)
    ids = torch.arange(20)[None]
    reader = reading_up_to(model, 128)
    torch.testing.assert_close(reader(ids), model(ids), rtol=0, atol=0)
    assert model.config.context == 32
    assert reader(torch.zeros(1, 100, dtype=torch.int64)).shape[1] == 100
    with pytest.raises(ContextError):
        model(torch.zeros(1, 100, dtype=torch.int64))
