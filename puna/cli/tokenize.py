"""`puna tokenize`: the ids of a text, each with its piece, exactly as the model will see them."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from puna.chat.pieces import Prompt
    from puna.tokenizer.interface import Tokenizer


def tokenize(
    model: str,
    text: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    chat: bool = False,
    bos: bool = True,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Show the ids of a text and what each stands for, one a line.

    A piece that is no whole character is shown as bytes. With --chat a column says which ids the
    assistant is trained to write: 0 for all that a user says.

    For example:
      puna tokenize tokenizer.model "Hello, world!"
      puna tokenize runs/cria --chat "What is 12 * 34?"

    Args:
        model: A model, or a tokenizer's own file.
        text: The text; words that look like control tokens are text.
        chat: Write the text as one user message, in the model's chat format.
        bos: Begin with the token that begins every text, as a model reads it.
        json_: Print one JSON object: ids, pieces, the pieces' bytes in hex, and the loss mask.
    """
    from puna.checkpoint.load import load_tokenizer

    tok = load_tokenizer(model)
    prompt = _prompt(model, tok, text) if chat else None
    ids = prompt.ids if prompt else tok.encode(text, bos=bos)
    mask = prompt.loss_mask if prompt else None
    lines = [_as_json(tok, ids, mask)] if json_ else _as_lines(tok, ids, mask)
    sys.stdout.buffer.write("".join(line + "\n" for line in lines).encode())
    sys.stdout.buffer.flush()


def _prompt(model: str, tok: "Tokenizer", text: str) -> "Prompt":
    """Render one user message in the format that the model's other commands use."""
    from puna.chat.format import ChatFormat
    from puna.checkpoint.open import open_checkpoint
    from puna.errors import FormatError, NotFoundError, RequestError
    from puna.llm import chat_style
    from puna.log import note

    try:
        style = chat_style(open_checkpoint(model), tok)
    except (FormatError, NotFoundError):  # a tokenizer alone, which has no format of its own
        dialect, source = "meta", "Llama 3.1's, as there is a tokenizer alone"
    else:
        if style.dialect is None:
            raise RequestError(
                f"{model}: no chat format is known ({style.source}); a model made for dialogs is "
                "expected. Leave --chat out."
            )
        dialect, source = style.dialect, style.source
    note(f"chat format: {source}")
    return ChatFormat(tok, dialect).render([{"role": "user", "content": text}])


def _as_lines(tok: "Tokenizer", ids: list[int], mask: list[int] | None) -> list[str]:
    width = len(str(tok.vocab - 1))
    lines = []
    for n, token_id in enumerate(ids):
        piece = tok.piece(token_id)
        try:
            shown = repr(piece.decode())
        except UnicodeDecodeError:
            shown = repr(piece)
        lines.append(f"{token_id:>{width}}  {f'{mask[n]}  ' if mask else ''}{shown}")
    return lines


def _as_json(tok: "Tokenizer", ids: list[int], mask: list[int] | None) -> str:
    pieces = [tok.piece(token_id) for token_id in ids]
    table = {
        "ids": ids,
        "pieces": [piece.decode("utf-8", "replace") for piece in pieces],
        "pieces_hex": [piece.hex() for piece in pieces],
    }
    return json.dumps(table if mask is None else table | {"loss_mask": mask}, ensure_ascii=False)
