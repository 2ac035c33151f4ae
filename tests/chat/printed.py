"""The examples printed in Meta's three prompt-format documents, as dialogs of a user of puna.

One row for each example, in the order of the documents: tools and dates are arguments, and not in
the text, and a style has the options that its examples need. `tests.chat.test_printed_examples`
proves that the rows are all there are, and that what is printed comes from them.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from puna.chat.format import ChatFormat
from puna.chat.messages import Message, to_messages
from puna.chat.pieces import Prompt
from puna.tokenizer.interface import Tokenizer
from tests.chat.dialogs import assistant, call, examples

DOCUMENTS = (
    "llama3_1_prompt_format.md",
    "llama3_2_text_prompt_format.md",
    "llama3_2_vision_prompt_format.md",
)
LLAMA_31, LLAMA_32, VISION = DOCUMENTS

SONGS = {
    "type": "function",
    "function": {
        "name": "trending_songs",
        "description": "Returns the trending songs on a Music site",
        "parameters": {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "description": "The number of songs to return"},
                "genre": {"type": "string", "description": "The genre of the songs to return"},
            },
            "required": ["n"],
        },
    },
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get weather info for places",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {
                    "type": "string",
                    "description": "The name of the city to get the weather for",
                },
                "metric": {
                    "type": "string",
                    "description": "The metric for weather. Options are: celsius, fahrenheit",
                    "default": "celsius",
                },
            },
            "required": ["city"],
        },
    },
}
USER_INFO = {
    "type": "function",
    "function": {
        "name": "get_user_info",
        "description": (
            "Retrieve details for a specific user by their unique identifier. "
            "Note that the provided function is in Python 3 syntax."
        ),
        "parameters": {
            "type": "object",
            "properties": {
                "user_id": {
                    "type": "integer",
                    "description": (
                        "The unique identifier of the user. "
                        "It is used to fetch the specific user details from the database."
                    ),
                },
                "special": {
                    "type": "string",
                    "description": (
                        "Any special information or parameters that need to be considered "
                        "while fetching user details."
                    ),
                    "default": "none",
                },
            },
            "required": ["user_id"],
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One printed example."""

    title: str
    document: str = ""
    number: int = 0  # in its document
    messages: tuple[Message, ...] = ()
    text: str | tuple[dict[str, str], ...] | None = None  # what a base model goes on with
    tools: tuple[Any, ...] = ()
    day: date | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def printed(self) -> tuple[str, str]:
        """The prompt and the answer, as the document has them."""
        return examples(self.document)[self.number]

    def chat(self, tok: Tokenizer) -> ChatFormat:
        """Return the format of this example's style."""
        return ChatFormat(tok, "meta", **self.options)

    def render(self, tok: Tokenizer, *answer: Message) -> Prompt:
        """Render the prompt, or the dialog that the answer ends."""
        if self.text is not None:
            return self.chat(tok).render_text(self.text)
        dialog = [*self.messages, *answer]
        return self.chat(tok).render(dialog, self.tools, self.day, reply=not answer)


def _system(text: str) -> Message:
    return Message(role="system", content=text)


def _user(text: str | list[dict[str, str]]) -> Message:
    return to_messages([{"role": "user", "content": text}])[0]


def _result(document: str, number: int) -> Message:
    """Read a tool's result, which may be long, from the printed prompt."""
    prompt, _ = examples(document)[number]
    body = prompt.split("ipython<|end_header_id|>\n\n")[1].split("<|eot_id|>")[0]
    return Message(role="tool", content=body)


IMAGE = {"type": "image"}
HELPFUL = _system("You are a helpful assistant")
HELPFUL_LINE = _system("You are a helpful assistant.\n")
HEADER_ALONE = _system("")  # a system message that holds the header block and nothing else
GOLD = (HELPFUL_LINE, _user("Search the web for the latest price of 1oz gold?"))
TRENDING = (HELPFUL_LINE, _user("Use tools to get latest trending songs"))
SEARCHES = ("brave_search", "wolfram_alpha")
LISTS = {"tool_style": "python_list", "meta_compat": True}
BLUE = "The color of the sky is blue but sometimes it can also be"


def table() -> list[Example]:
    """Return every example of the three documents, in their order."""
    rows = (_llama_31(), _llama_32(), _vision())
    return [
        replace(example, document=document, number=number)
        for document, listed in zip(DOCUMENTS, rows, strict=True)
        for number, example in enumerate(listed)
    ]


def _llama_31() -> list[Example]:
    jeopardy = "Answer who are you in the form of jeopardy?"
    prime = "Write code to check if number is prime, use that to see if the number 7 is prime"
    pi = (
        HEADER_ALONE,
        _user("What is the 100th decimal of pi?"),
        assistant(call("wolfram_alpha", query="100th decimal of pi")),
        _result(LLAMA_31, 4),
    )
    day = date(2024, 9, 21)
    return [
        Example(
            title="text completion of a base model",
            text="Color of sky is blue but sometimes can also be",
        ),
        Example(title="user and assistant", messages=(HELPFUL, _user(jeopardy))),
        Example(title="built-in search", messages=GOLD, tools=SEARCHES, day=day),
        Example(title="code interpreter", messages=(_user(prime),), tools=("code_interpreter",)),
        Example(title="full interaction with a built-in tool", messages=pi, tools=SEARCHES),
        Example(
            title="JSON functions",
            messages=TRENDING,
            tools=(SONGS,),
            day=day,
            options={"meta_compat": True},
        ),
        Example(
            title="functions in tags",
            messages=TRENDING,
            tools=(SONGS,),
            day=day,
            options={"tool_style": "function_tag"},
        ),
    ]


def _llama_32() -> list[Example]:
    details = (
        "Can you retrieve the details for the user with the ID 7890, who has black as their "
        "special request?"
    )
    prime = "Write code to check if number is prime. Use it to verify if number 7 is prime"
    whole_round = (
        _user("What is the weather in SF?"),
        assistant(call("get_weather", city="San Francisco", metric="celsius")),
        _result(LLAMA_32, 4),
    )
    return [
        Example(title="user and assistant", messages=(HELPFUL, _user("Who are you?"))),
        Example(
            title="functions in the system message",
            messages=(_user("What is the weather in SF and Seattle?"),),
            tools=(WEATHER,),
            options=LISTS,
        ),
        Example(
            title="functions in the question",
            messages=(_user(details),),
            tools=(USER_INFO,),
            options=LISTS | {"tools_in": "user"},
        ),
        Example(
            title="code interpreter",
            messages=(HEADER_ALONE, _user(prime)),
            tools=("code_interpreter",),
            day=date(2024, 9, 24),
        ),
        Example(title="a whole round", messages=whole_round, tools=(WEATHER,), options=LISTS),
        Example(title="text completion of a base model", text=BLUE),
    ]


def _vision() -> list[Example]:
    picture = [IMAGE, {"type": "text", "text": "Describe this image in two sentences"}]
    haiku = (IMAGE, {"type": "text", "text": "If I had to write a haiku for this one"})
    return [
        Example(title="user and assistant", messages=(HELPFUL, _user("Who are you?"))),
        Example(title="a question with an image", messages=(_user(picture),)),
        Example(title="built-in search", messages=GOLD, tools=SEARCHES, day=date(2024, 9, 23)),
        Example(title="text completion of a base model", text=BLUE),
        Example(title="completion of an image and a text", text=haiku),
    ]
