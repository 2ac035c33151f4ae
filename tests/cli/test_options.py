"""Options that several commands share: what each kind becomes."""

import inspect
from collections.abc import Callable

import pytest

from puna.cli.chat import chat
from puna.cli.generate import generate
from puna.cli.options import Sampling, Tools, Weights
from puna.cli.serve import serve
from puna.errors import RequestError


def test_only_what_was_given_overrides_the_model() -> None:
    assert Sampling().options() == {}
    assert Sampling(temperature=0.0, seed=0).options() == {"temperature": 0.0, "seed": 0}


def test_no_tools_and_nothing_said_about_tools_are_two_things() -> None:
    assert Tools().names is None
    assert Tools(tools=["none"]).names == []
    assert Tools(tools=["calc,code:here", "wolfram"]).names == ["calc", "code:here", "wolfram"]
    with pytest.raises(RequestError, match="telepathy"):
        _ = Tools(tools=["telepathy"]).names


@pytest.mark.parametrize("verb", [chat, generate, serve])
def test_every_command_that_loads_a_model_takes_all_options_of_loading(
    verb: Callable[..., object],
) -> None:
    assert inspect.signature(verb).parameters["weights"].annotation is Weights
