"""Arithmetic and languages, asked of scripted models whose answers are known."""

import random
import re
from collections.abc import Sequence

from puna.chat.messages import Message, ToolCall
from puna.data.heldout import held_out_number
from puna.evals.arithmetic import arithmetic
from puna.evals.languages import languages, questions
from puna.evals.sums import draw_sum
from puna.evals.vocabulary import LANGUAGES, names, same_word
from puna.tools.tool import Tool

SIGNS = {"plus": "+", "Add": "+", "sum": "+", "minus": "-", "subtract": "-"}
SIGNS |= {"times": "*", "Multiply": "*", "product": "*", "divided": "/", "Divide": "/"}


def solve(expression: str) -> str:
    a, sign, b = expression.split()
    x, y = int(a), int(b)
    return str({"+": x + y, "-": x - y, "*": x * y, "/": x // y}[sign])


def perfect(dialogs: Sequence[Sequence[Message]], tools: Sequence[str]) -> list[Message]:
    """Call the calculator with what the user asked, then repeat its answer."""
    answers = []
    for dialog in dialogs:
        last = dialog[-1]
        if last.role == "tool":
            answers.append(Message(role="assistant", content=f"The answer is {last.content}."))
            continue
        a, b = re.findall(r"\d+", last.content)
        signs = [s for word, s in SIGNS.items() if word in last.content]
        sign = signs[0] if signs else re.findall(r" ([-+*/]) ", last.content)[0]
        call = ToolCall(name="calculator", arguments={"query": f"{a} {sign} {b}"})
        answers.append(Message(role="assistant", tool_calls=(call,)))
    return answers


def test_a_perfect_model_gets_every_sum_right() -> None:
    call, answer = arithmetic(perfect, calculator=solve, n=60)
    assert (call.name, call.value) == ("arithmetic.call", 1.0)
    assert (answer.name, answer.value) == ("arithmetic.answer", 1.0)
    assert 0.9 < answer.low < 1.0
    assert sum(count["n"] for count in answer.detail["by_operator"].values()) == 60


def test_a_wrong_call_and_a_wrong_answer_are_counted_apart() -> None:
    """Right call, misread result: every call counts, no answer does, and the wrong are kept."""

    def misreads(dialogs: Sequence[Sequence[Message]], tools: Sequence[str]) -> list[Message]:
        return [
            m if m.tool_calls else Message(role="assistant", content="The answer is 1.")
            for m in perfect(dialogs, tools)
        ]

    call, answer = arithmetic(misreads, calculator=solve, n=20)
    assert (call.value, answer.value) == (1.0, 0.0)
    assert len(answer.detail["wrong"]) == 5


def test_a_model_that_does_not_call_is_wrong_and_gets_one_turn() -> None:
    turns = []

    def talks(dialogs: Sequence[Sequence[Message]], tools: Sequence[str]) -> list[Message]:
        turns.append(len(dialogs))
        return [Message(role="assistant", content="Hello!") for _ in dialogs]

    call, answer = arithmetic(talks, calculator=solve, n=10)
    assert (call.value, answer.value, turns) == (0.0, 0.0, [10])


def with_code(dialogs: Sequence[Sequence[Message]], tools: Sequence[str]) -> list[Message]:
    """Print the sum, and read what the interpreter's frame holds."""
    answers = []
    for message in perfect(dialogs, tools):
        if message.tool_calls:
            code = f"print({message.tool_calls[0].arguments['query'].replace('/', '//')})"
            call = ToolCall(name=tools[0], arguments={"code": code})
            message = Message(role="assistant", tool_calls=(call,))
        else:
            said = re.sub(r"completed\s*\[stdout\]|\[/stdout\]", "", message.content)
            message = Message(role="assistant", content=said)
        answers.append(message)
    return answers


def test_the_same_sums_run_through_a_code_interpreter() -> None:
    """Whole numbers are divided as `//` there."""

    def run(arguments: dict[str, str]) -> str:
        inside = arguments["code"].removeprefix("print(").removesuffix(")")
        return f"completed\n[stdout]{solve(inside.replace('//', '/'))}[/stdout]"

    interpreter = Tool(name="code_interpreter", description="", call=run, is_builtin=True)
    call, answer = arithmetic(with_code, calculator=interpreter, n=40)
    assert (call.value, answer.value) == (1.0, 1.0)


def test_the_calculator_is_the_real_one_where_none_is_given() -> None:
    call, answer = arithmetic(perfect, n=20)
    assert (call.value, answer.value) == (1.0, 1.0)


def test_a_model_that_goes_on_calling_gets_no_third_turn() -> None:
    turns = []

    def calls(dialogs: Sequence[Sequence[Message]], tools: Sequence[str]) -> list[Message]:
        turns.append(len(dialogs))
        again = ToolCall(name="calculator", arguments={"query": "1 + 1"})
        return [Message(role="assistant", tool_calls=(again,)) for _ in dialogs]

    call, answer = arithmetic(calls, n=10)
    assert (call.value, answer.value, turns) == (0.0, 0.0, [10, 10])


def test_sums_for_the_test_are_made_of_held_out_numbers_only() -> None:
    rng = random.Random(3)
    for _ in range(200):
        drawn = draw_sum(rng, held_out_number, for_training=False)
        a, sign, b = drawn.expression.split()
        assert held_out_number(drawn.result if sign == "/" else int(a))
        assert held_out_number(int(b))
        assert str(drawn.result) == solve(drawn.expression)


def test_sums_for_training_hold_no_held_out_number() -> None:
    rng = random.Random(4)
    for _ in range(500):
        drawn = draw_sum(rng, held_out_number, for_training=True)
        numbers = [*map(int, re.findall(r"\d+", drawn.question)), abs(drawn.result)]
        assert not any(held_out_number(number) for number in numbers)


def test_a_perfect_translator_is_right_in_every_language() -> None:
    asked = questions(numbers=3, words=4, seed=0, held_out=held_out_number)
    key = {question.text: question.answer for question in asked}

    def knows(dialogs: Sequence[Sequence[dict[str, str]]], tools: Sequence[str]) -> list[Message]:
        return [Message(role="assistant", content=key[d[-1]["content"]] + ".") for d in dialogs]

    scores = languages(knows, numbers=3, words=4)  # type: ignore[arg-type]
    assert all(score.value == 1.0 for score in scores)
    assert {score.name for score in scores} == {
        "languages.numbers",
        "languages.names",
        *(f"languages.{code}" for code in LANGUAGES),
    }
    assert {s.name: s.n for s in scores}["languages.de"] == 7


def test_numbers_asked_in_words_are_held_out_and_names_are_phrased_anew() -> None:
    for question in questions(numbers=5, words=5, seed=1, held_out=held_out_number):
        if question.kind == "numbers":
            assert held_out_number(int(re.findall(r"\d+", question.text)[0]))
        else:
            assert question.text.startswith("Please tell me")


def test_words_are_those_of_the_language() -> None:
    taught = {(n.english, n.language): n.foreign for n in names()}
    assert taught["Germany", "fr"] == "Allemagne"
    assert taught["Monday", "es"] == "lunes"


def test_an_answer_is_judged_by_its_word() -> None:
    assert same_word(" Allemagne.", "Allemagne")
    assert same_word("'twenty-one'", "Twenty-one")
    assert not same_word("Allemagne et France", "Allemagne")
