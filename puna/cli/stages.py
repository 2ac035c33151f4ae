"""`puna raise` and the verbs of its stages: one recipe, one run folder, one function.

A verb brings its stage up to date, and those before it first. Results go to stdout: the sample
conversation, the path of the report, the command to talk to the model.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Recipe = Annotated[
    str, Parameter(help="A recipe that ships with puna, or the path of a TOML file.")
]
RunFolder = Annotated[
    Path | None, Parameter(help="Where everything is kept; the default is runs/NAME.")
]
Pages = Annotated[
    list[Path] | None,
    Parameter(
        consume_multiple=True,
        help="Your own documents instead of this machine's: HTML, text, Markdown, JSONL, WARC, "
        "and folders of them.",
    ),
]
Settings = Annotated[
    list[str] | None, Parameter(name="--set", help="Change one key: --set pretrain.batch=8.")
]


def raise_(
    recipe: Recipe = "cria",
    *,
    run: RunFolder = None,
    pages: Pages = None,
    set_: Settings = None,
) -> None:
    """Raise a model: raw pages become an assistant and its report.

    Stages that are up to date are skipped; a run that was killed continues where it was.

    For example:
      puna raise                              the embedded default, in ten minutes
      puna raise --run runs/mine --pages ~/notes
      puna raise my-recipe.toml --set minutes=30
    """
    folder = _bring_up_to_date(recipe, run, pages, set_, until="report")
    _tell(folder)


def _verb(stage: str, line: str) -> Callable[..., None]:
    def verb(
        recipe: Recipe = "cria",
        *,
        run: RunFolder = None,
        pages: Pages = None,
        set_: Settings = None,
    ) -> None:
        folder = _bring_up_to_date(recipe, run, pages, set_, until=stage)
        print(folder / "stages" / stage)

    verb.__doc__ = f"{line}\n\nThe stages before it are brought up to date first."
    return verb


curate = _verb("curate", "Turn raw pages into clean documents.")
tokenizer = _verb("tokenizer", "Train the tokenizer on the curated documents.")
pack = _verb("pack", "Turn documents and dialogs into token shards.")
pretrain = _verb("pretrain", "Train the base model.")
extend = _verb("extend", "Lengthen the base model's context.")
sft = _verb("sft", "Fine-tune the base model on dialogs.")


def eval_(run: Path) -> None:
    """Evaluate the model of a run folder on what its training never saw.

    Args:
        run: a run folder.
    """
    import json

    folder = _resume(run, until="eval")
    manifest = json.loads((folder / "stages" / "eval" / "manifest.json").read_text())
    for name, value in manifest["facts"].items():
        print(f"{name}\t{value:.4f}")


def report(run: Path) -> None:
    """Write the report card of a run folder from whatever it holds.

    Args:
        run: a run folder.
    """
    from puna.report.page import write_report

    print(write_report(run))


def _bring_up_to_date(
    recipe: str, run: Path | None, pages: list[Path] | None, set_: list[str] | None, *, until: str
) -> Path:
    from puna.life.recipe import load_recipe
    from puna.life.run import open_run
    from puna.life.stages import run_stages

    loaded = load_recipe(recipe, set_ or ())
    folder = run or Path("runs") / loaded.name
    with open_run(loaded, folder, pages or ()) as opened:
        run_stages(opened, until=until)
    return folder


def _resume(run: Path, *, until: str) -> Path:
    """Bring a stage of an existing run up to date with the recipe and pages it was raised with."""
    import json

    from puna.errors import NotFoundError

    config = run / "config.toml"
    if not config.is_file():
        raise NotFoundError(f"{run}: no config.toml; a run folder of `puna raise` is expected.")
    pages = json.loads((run / "pages.json").read_text())
    return _bring_up_to_date(str(config), run, [Path(p) for p in pages], None, until=until)


def _command() -> str:
    """Return how this command was called, where that leads back to it, else its name."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "puna" and called.is_file() else "puna"


def _tell(folder: Path) -> None:
    """Print what a person wants to see at the end."""
    import json

    samples = folder / "stages" / "eval" / "samples.json"
    for sample in json.loads(samples.read_text()) if samples.is_file() else ():
        print(f"\nyou   {sample['question']}")
        for call in sample["calls"]:
            print(f"      {call['name']}({call['arguments'].get('query', '')}) = {call['result']}")
        print(f"{folder.name:<6}{sample['answer']}")
    print(f"\nReport:   {folder / 'report.html'}")
    print(f"Talk:     {_command()} chat {folder}")
