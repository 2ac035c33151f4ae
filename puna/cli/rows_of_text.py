"""Rows of tokens to calibrate on and others to measure on, from the best text at hand.

The text that a person gives comes first; else the dialogs that a run of puna was fine-tuned on;
else the manual pages that every Python carries. No row is in both halves.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from puna.errors import FormatError, NotFoundError, RequestError
from puna.model.config import ModelConfig
from puna.tokenizer.interface import Tokenizer

ROW_TOKENS = 512
MEASURED_TOKENS = 8192  # at most, of the half that is measured on
_MEASURED_WORK = 1 << 40  # parameters times tokens: a minute or two of a small processor
_LEAST_ROWS = 4
_PAGES = (
    "argparse asyncio.base_events collections configparser csv datetime decimal email.message enum "
    "fractions functools heapq html.parser http.client inspect itertools json logging math "
    "multiprocessing.pool optparse os pathlib pickle random re sched shutil smtplib socket "
    "sqlite3 statistics string subprocess tarfile tempfile textwrap threading typing unittest.case "
    "urllib.request uuid xml.dom.minidom zipfile"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Rows of tokens, and where they are from."""

    calibration: Int[Tensor, "N T"]
    measured: Int[Tensor, "M T"]
    source: str
    marked: Bool[Tensor, "M T"] | None = None  # tokens that are measured; None: all


def rows_of_text(
    model: Path, tok: Tokenizer | None, config: ModelConfig, *, files: Sequence[Path], tokens: int
) -> Text:
    """Return rows for calibration, about `tokens` tokens of them, and rows for measuring.

    A large model is measured on fewer tokens, so that this takes no longer than its rounding.

    Raises:
        RequestError: there is no tokenizer, or too little text.
        NotFoundError: a file does not exist.
    """
    if tok is None:
        raise RequestError(
            f"{model}: text is needed to calibrate and to measure, and the model came without a "
            "tokenizer. Give it with --tokenizer FILE."
        )
    length = min(ROW_TOKENS, config.context)
    measured = min(MEASURED_TOKENS, _MEASURED_WORK // config.parameters) // length
    measured = max(_LEAST_ROWS, measured)
    wanted = 2 * max(tokens // length, measured)
    dialogs = model / "stages" / "pack" / "sft"
    masks = None
    if files:
        source = ", ".join(map(str, files))
        rows = list(_cut(_encoded((_read(file) for file in files), tok), length, wanted))
    elif (dialogs / "index.json").is_file():
        source = "the assistant's words in the dialogs that the run was fine-tuned on"
        rows, masks = _windows(dialogs, length, wanted)
    else:
        source = "manual pages of Python"
        rows = list(_cut(_encoded(_pages(), tok), length, wanted))
    if len(rows) < 2 * _LEAST_ROWS:
        raise RequestError(
            f"{source}: {len(rows)} rows of {length} tokens; at least {2 * _LEAST_ROWS} are "
            "needed, half to calibrate and half to measure. Give more text with --text FILE."
        )
    return Text(
        calibration=torch.tensor(rows[0::2][: max(_LEAST_ROWS, tokens // length)]),
        measured=torch.tensor(rows[1::2][:measured]),
        source=source,
        marked=None if masks is None else torch.tensor(masks[1::2][:measured]).bool(),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file. Check --text.") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: this is not UTF-8 text ({error}). Check --text.") from error


def _pages() -> Iterator[str]:
    from puna.data.pages import page_documents

    failures: dict[str, str] = {}
    for document in page_documents(_PAGES.split(), failures, workers=1):
        yield document.text


def _encoded(texts: Iterable[str], tok: Tokenizer) -> Iterator[list[int]]:
    for text in texts:
        yield tok.encode(text, bos=True)


def _cut(documents: Iterable[list[int]], length: int, wanted: int) -> Iterator[list[int]]:
    """Lay documents end to end and cut them into rows."""
    ids: list[int] = []
    for document in documents:
        ids += document
        while len(ids) >= length:
            yield ids[:length]
            ids = ids[length:]
            wanted -= 1
            if not wanted:
                return


def _windows(folder: Path, length: int, wanted: int) -> tuple[list[list[int]], list[list[int]]]:
    """Take windows spread evenly over a stream of tokens, and which tokens were targets."""
    from puna.data.shards import TokenStream

    stream = TokenStream(folder)
    count = min(wanted, stream.tokens // length)
    starts = [n * (stream.tokens - length) // max(1, count - 1) for n in range(count)]
    spans = [(start, start + length) for start in starts]
    return (
        [stream.ids(*span).tolist() for span in spans],
        [stream.mask(*span).tolist() for span in spans],
    )
