"""`puna conformance`: does a server, a template or a parser speak Llama 3.1 rightly?"""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from puna.cli.options import AsJson
from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.evals.conformance.outcome import Outcome, Report

Group = Literal["requests", "prompts", "injection", "answers"]

_MARKS = {"passed": "green", "failed": "bold red", "refused": "yellow", "skipped": "dim"}


def conformance(
    *,
    template: Path | None = None,
    url: str | None = None,
    parser: str | None = None,
    model: str | None = None,
    key_env: str | None = None,
    tokenizer: Path | None = None,
    dialect: Literal["meta", "hf", "hf3"] | None = None,
    groups: Annotated[list[Group] | None, Parameter(name="--group")] = None,
    timeout_s: float = 60.0,
    json_: AsJson = False,
) -> int:
    """Tell whether a server, a chat template or a parser speaks Llama 3.1 rightly.

    Vectors with known answers are put to it: prompts, tool calls in every dialect, streams, stop
    reasons, dates, and control tokens in texts. What it does not offer is skipped, what it refuses
    is told apart from what it gets wrong. Without a target puna checks itself. The exit code is 0
    where every vector that applies passes.

    For example:
      puna conformance
      puna conformance --template llama-3.1-8b-instruct/
      puna conformance --url http://127.0.0.1:8000/v1 --key-env MY_KEY
      puna conformance --parser "python my_parser.py"

    Args:
        template: A jinja chat template, a tokenizer_config.json, a model folder or a .gguf file.
        url: An OpenAI-compatible server, up to and with /v1.
        parser: A program that reads answers as JSON lines and writes what it found.
        model: The model to ask the server for; by default the first that it lists.
        key_env: The variable of the environment that holds the server's key.
        tokenizer: The server's tokenizer, to count its prompts where it does not show them.
        dialect: Hold prompts to the exact texts of this dialect, not to the one that is found.
        groups: Ask the server for these groups of vectors alone; may be given several times.
        timeout_s: Seconds to wait for one answer of the server, or for the program's end.
        json_: Print one JSON object with every verdict.
    """
    from puna.log import note

    _refuse_two({"--template": template, "--url": url, "--parser": parser})
    reports: list[Report]
    if template is not None:
        reports = [_of_template(template, dialect)]
    elif url is not None:
        reports = [_of_server(url, model, key_env, tokenizer, dialect, groups, timeout_s)]
    elif parser is not None:
        reports = [_of_parser(parser, timeout_s)]
    else:
        reports = _of_puna(dialect)
    for report in reports:
        note(_page(report))
    if json_:
        print(json.dumps([_table(report) for report in reports], indent=2, ensure_ascii=False))
    else:
        print("\n".join(_summary(report) for report in reports))
    return 0 if all(report.is_well for report in reports) else 1


def _refuse_two(targets: dict[str, object]) -> None:
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise RequestError(f"conformance: {' and '.join(given)} given; one of them is expected.")


def _of_template(path: Path, dialect: str | None) -> "Report":
    from puna.evals.conformance.prompts import check_renderer
    from puna.evals.conformance.renderers import open_template

    return check_renderer(open_template(path), subject=str(path), dialect=dialect)


def _of_server(
    url: str,
    model: str | None,
    key_env: str | None,
    tokenizer: Path | None,
    dialect: str | None,
    groups: Sequence[str] | None,
    timeout_s: float,
) -> "Report":
    from puna.evals.conformance.client import Client
    from puna.evals.conformance.server import check_server
    from puna.evals.conformance.vectors import GROUPS, load
    from puna.log import progress

    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise RequestError(
            f"--key-env: the environment has no variable {key_env}; the server's key is expected "
            "in it. Export it first."
        )
    client = Client(url, key=key, timeout_s=timeout_s)
    client.reach()
    with progress(total=len(load("requests")), title="conformance") as bar:
        return check_server(
            client,
            model=model,
            dialect=dialect,
            tokens=None if tokenizer is None else _counters(tokenizer),
            groups=groups or GROUPS,
            advance=lambda name: bar.advance(note=name),
        )


def _counters(path: Path) -> dict[str, Any]:
    """Return puna's renderers on a tokenizer, of the dialects that it has the tokens for."""
    from puna.chat.format import DIALECTS
    from puna.checkpoint.tokenizers import load_tokenizer
    from puna.evals.conformance.renderers import FormatRenderer

    tok = load_tokenizer(path)
    names = [name for name in ("hf", "hf3", "meta") if set(DIALECTS[name]) <= set(tok.specials)]
    if not names:
        raise RequestError(
            f"{path}: its tokenizer has none of Llama 3's control tokens; one of Llama 3 to 3.3 is "
            "expected. Leave --tokenizer out."
        )
    return {name: FormatRenderer(tok, name) for name in names}


def _of_parser(command: str, timeout_s: float) -> "Report":
    from puna.evals.conformance.answers import check_parser
    from puna.evals.conformance.parsers import CommandParser

    return check_parser(CommandParser(command, timeout_s=timeout_s), subject=command)


def _of_puna(dialect: str | None) -> "list[Report]":
    from puna.evals.conformance.answers import check_parser
    from puna.evals.conformance.parsers import OwnParser
    from puna.evals.conformance.prompts import check_renderer
    from puna.evals.conformance.renderers import FormatRenderer
    from puna.evals.conformance.shapes import BYTES

    dialects = [dialect] if dialect else ["meta", "hf", "hf3"]
    reports = [
        check_renderer(FormatRenderer(BYTES, name), subject=f"puna, dialect {name}", dialect=name)
        for name in dialects
    ]
    return [*reports, check_parser(OwnParser(), subject="puna, parser")]


def _summary(report: "Report") -> str:
    counts = ", ".join(f"{report.count(status)} {status}" for status in ("passed", "failed"))
    others = f"{report.count('refused')} refused, {report.count('skipped')} do not apply"
    return f"{report.subject}: {counts}, {others}"


def _table(report: "Report") -> dict[str, Any]:
    return {
        "subject": report.subject,
        "is_well": report.is_well,
        "facts": dict(report.facts),
        "groups": {name: dict(counts) for name, counts in report.by_group().items()},
        "outcomes": [dataclasses.asdict(outcome) for outcome in report.outcomes],
    }


def _page(report: "Report") -> str:
    """Return what a person reads: facts, a table of groups, and each verdict that needs words."""
    import io
    import shutil
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    page = io.StringIO()
    console = Console(
        file=page,
        width=shutil.get_terminal_size((100, 24)).columns,
        force_terminal=sys.stderr.isatty(),
        no_color="NO_COLOR" in os.environ,
    )
    console.print(Text(report.subject, "bold"))
    for name, value in report.facts.items():
        console.print(Text(f"  {name:<32} {value}"), soft_wrap=True)
    table = Table("group", *_MARKS, box=None, pad_edge=True)
    for group, counts in report.by_group().items():
        cells = [Text(str(counts[status] or "."), style) for status, style in _MARKS.items()]
        table.add_row(group, *cells)
    console.print(table)
    for outcome in _worth_words(report.outcomes):
        console.print(_words(outcome), soft_wrap=True)
    return page.getvalue().rstrip()


def _worth_words(outcomes: "Iterable[Outcome]") -> "list[Outcome]":
    ordered = sorted(outcomes, key=lambda outcome: outcome.status != "failed")
    return [outcome for outcome in ordered if outcome.status in ("failed", "refused")]


def _words(outcome: "Outcome") -> Any:
    from rich.text import Text

    words = Text.assemble((f"{outcome.status:<8}", _MARKS[outcome.status]), (outcome.id, "bold"))
    words.append(f"  {outcome.says}\n" if outcome.says else "\n")
    words.append(f"         {' '.join(outcome.detail.split())}")
    if outcome.status == "failed":
        where = "; ".join([*outcome.pitfalls, *outcome.source])
        words.append(f"\n         guards against: {where}", "dim")
    return words
