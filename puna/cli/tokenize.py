"""`puna tokenize`: the ids of a text or a dialog, each with its piece, as a model sees them."""

import datetime
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from puna.cli.options import AsJson

if TYPE_CHECKING:
    from puna.chat.pieces import Prompt
    from puna.tokenizer.interface import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One id as it is shown."""

    token_id: int
    piece: bytes
    is_control: bool
    is_trained: bool | None  # None outside the chat format

    @property
    def shown(self) -> str:
        """The piece in quotes; as bytes where it is no whole character."""
        try:
            return repr(self.piece.decode())
        except UnicodeDecodeError:
            return repr(self.piece)

    @property
    def style(self) -> str:
        """Green is what the assistant says, magenta are control tokens, the rest is plain."""
        if self.is_control:
            return "bold green" if self.is_trained else "bold magenta"
        return "green" if self.is_trained else ""


def tokenize(
    model: str,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    chat: bool = False,
    messages: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    date: datetime.date | None = None,
    tool_style: str = "json",
    tools_in: str | None = None,
    reply: bool = True,
    bos: bool = True,
    json_: AsJson = False,
) -> None:
    """Show the ids of a text and what each stands for, one a line.

    A piece that is no whole character is shown as bytes. With --chat or --messages a column says
    which ids the assistant is trained to write: 0 for all that others say. In a terminal, control
    tokens are magenta and what the assistant says is green (NO_COLOR turns this off).

    For example:
      puna tokenize tokenizer.model "Hello, world!"
      puna tokenize runs/cria --chat "What is 12 * 34?"
      puna tokenize runs/cria --messages dialog.json --no-reply

    Args:
        model: A model, or a tokenizer's own file.
        text: The text; words that look like control tokens are text.
        chat: Write the text as one user message, in the model's chat format.
        messages: A JSON file, or - for stdin: a list of messages as OpenAI writes them, or an
            object with "messages" and "tools".
        date: Today, for the formats that tell the model, as 2025-03-05.
        tool_style: How functions are shown and called: json, function_tag or python_list.
        tools_in: Where functions are described: user or system.
        reply: End with the header of the assistant's answer.
        bos: Begin a plain text with the token that begins every text, as a model reads it.
        json_: Print one JSON object: ids, pieces, the pieces' bytes in hex, and the loss mask.
    """
    from puna.checkpoint.tokenizers import load_tokenizer
    from puna.log import note

    dialog = _dialog(text, messages)
    tok = load_tokenizer(model)
    prompt = None
    if chat or messages is not None:
        from puna.chat.format import ChatFormat

        form = ChatFormat(tok, _dialect(model, tok), tool_style=tool_style, tools_in=tools_in)
        prompt = form.render(dialog["messages"], dialog.get("tools"), date, reply)
        note(f"{len(prompt.ids)} ids, {sum(prompt.loss_mask)} of them said by the assistant")
    rows = _rows(tok, prompt or tok.encode(text or "", bos=bos))
    if json_:
        _write_plain([_as_json(rows)])
    elif sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        _write_coloured(rows, width=len(str(tok.vocab - 1)))
    else:
        _write_plain(["".join(_columns(row, len(str(tok.vocab - 1)))) for row in rows])


def _dialog(text: str | None, messages: str | None) -> dict[str, Any]:
    """Return messages and tools: those of the file, or one message of the user's text."""
    from puna.errors import RequestError

    if (text is None) == (messages is None):
        raise RequestError(
            "tokenize: one text, or --messages FILE with a dialog, is expected; "
            f"{'neither' if text is None else 'both'} given. See puna tokenize --help."
        )
    if messages is not None:
        return _read_dialog(messages)
    return {"messages": [{"role": "user", "content": text}]}


def _read_dialog(path: str) -> dict[str, Any]:
    """Read messages, and tools where there are any, from a JSON file or stdin."""
    from puna.errors import FormatError, NotFoundError

    name = "stdin" if path == "-" else path
    try:
        text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        given = json.loads(text)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path}: no such file; give a JSON file with messages, or - to read them from stdin."
        ) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{name}: this is no JSON ({error}); a list of messages is expected. "
            'Write [{"role": "user", "content": "..."}].'
        ) from error
    dialog = given if isinstance(given, Mapping) else {"messages": given}
    unknown = sorted(dialog.keys() - {"messages", "tools"})
    if unknown or "messages" not in dialog:
        raise FormatError(
            f"{name}: keys {', '.join(map(str, dialog)) or 'none'} given; 'messages', and 'tools' "
            "where there are any, are expected. Leave the others out."
        )
    return dict(dialog)


def _dialect(model: str, tok: "Tokenizer") -> str:
    """Return the format that the model's other commands use."""
    from puna.checkpoint.open import open_checkpoint
    from puna.errors import FormatError, NotFoundError, RequestError
    from puna.llm import chat_style
    from puna.log import note

    try:
        style = chat_style(open_checkpoint(model), tok)
    except (FormatError, NotFoundError):  # a tokenizer alone, which has no format of its own
        note("chat format: Llama 3.1's, as there is a tokenizer alone")
        return "meta"
    if style.dialect is None:
        raise RequestError(
            f"{model}: no chat format is known ({style.source}); a model made for dialogs is "
            "expected. Leave --chat out."
        )
    note(f"chat format: {style.source}")
    return style.dialect


def _rows(tok: "Tokenizer", given: "Prompt | Sequence[int]") -> list[_Row]:
    controls = set(tok.specials.values())
    ids = given if isinstance(given, Sequence) else given.ids
    flags = [None] * len(ids) if isinstance(given, Sequence) else map(bool, given.loss_mask)
    return [
        _Row(
            token_id=token_id,
            piece=tok.piece(token_id),
            is_control=token_id in controls,
            is_trained=flag,
        )
        for token_id, flag in zip(ids, flags, strict=True)
    ]


def _columns(row: _Row, width: int) -> tuple[str, str, str]:
    flag = "" if row.is_trained is None else f"{int(row.is_trained)}  "
    return f"{row.token_id:>{width}}  ", flag, row.shown


def _as_json(rows: Sequence[_Row]) -> str:
    table: dict[str, Any] = {
        "ids": [row.token_id for row in rows],
        "pieces": [row.piece.decode("utf-8", "replace") for row in rows],
        "pieces_hex": [row.piece.hex() for row in rows],
    }
    if any(row.is_trained is not None for row in rows):
        table["loss_mask"] = [int(bool(row.is_trained)) for row in rows]
    return json.dumps(table, ensure_ascii=False)


def _write_plain(lines: Sequence[str]) -> None:
    """Write UTF-8 whatever the locale says."""
    sys.stdout.buffer.write("".join(line + "\n" for line in lines).encode())
    sys.stdout.buffer.flush()


def _write_coloured(rows: Sequence[_Row], *, width: int) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for row in rows:
        number, flag, piece = _columns(row, width)
        style = row.style
        console.print(Text.assemble((number, "dim"), (flag, style or "dim"), (piece, style)))
