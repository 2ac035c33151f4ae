"""One life from pages to a report: raised, raised again for nothing, killed and continued."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from safetensors.torch import load_file

import puna
from puna.errors import ConfigError, NotFoundError, StateError
from puna.life.recipe import Recipe, load_recipe
from puna.life.run import open_run
from puna.life.stages import run_stages

MICRO = Path(__file__).with_name("micro.toml")
PROGRAM = "import sys; from puna.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own documents: chapters of the language reference, as text and as HTML."""
    folder = tmp_path_factory.mktemp("pages")
    for number, name in enumerate(sorted(topics)[:14]):
        if number % 2:
            (folder / f"{name}.txt").write_text(topics[name])
        else:
            body = "".join(f"<p>{part}</p>" for part in topics[name].split("\n\n"))
            (folder / f"{name}.html").write_text(f"<html><body><h1>{name}</h1>{body}</body></html>")
    return folder


def raise_in(folder: Path, pages: Path, *overrides: str, until: str = "report") -> None:
    with open_run(load_recipe(str(MICRO), overrides), folder, [pages]) as run:
        run_stages(run, until=until)


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory, pages: Path) -> Path:
    folder = tmp_path_factory.mktemp("raised") / "run"
    raise_in(folder, pages)
    return folder


def manifests(run: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in run.glob("stages/*/manifest.json")}


def test_a_life_ends_with_a_model_that_answers_and_a_report(raised: Path) -> None:
    llm = puna.load(raised)
    message = llm.chat([{"role": "user", "content": "Hello!"}], max_tokens=5, temperature=0.0)
    assert message.usage is not None
    assert llm.style.dialect == "meta"
    assert llm.model.config.context == 512
    assert "<html" in (raised / "report.html").read_text()
    samples = json.loads((raised / "stages" / "eval" / "samples.json").read_text())
    assert len(samples) >= 5


def test_every_stage_signs_its_inputs_its_command_and_its_files(raised: Path) -> None:
    names = ["curate", "tokenizer", "pack", "plan", "pretrain", "extend", "plan-sft", "sft"]
    names += ["eval", "report"]
    found = manifests(raised)
    assert set(found) == set(names)
    for text in found.values():
        manifest = json.loads(text)
        assert len(manifest["inputs"]) == 64
        assert manifest["command"].startswith("puna")
        assert manifest["seconds"] >= 0
        for file, facts in manifest["outputs"].items():
            path = raised / "stages" / manifest["stage"] / file
            assert path.stat().st_size == facts["bytes"]


def test_a_second_call_runs_nothing(raised: Path, pages: Path) -> None:
    before = manifests(raised)
    raise_in(raised, pages)
    assert manifests(raised) == before


def test_a_change_runs_only_what_depends_on_it(raised: Path, pages: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(raised, copy)
    before = manifests(copy)
    raise_in(copy, pages, "sft.optimizer.peak_lr=0.002", until="sft")
    after = manifests(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"sft"}


@pytest.mark.parametrize("phase", ["pretrain", "sft"])
def test_a_killed_raise_continues_to_the_same_weights(
    raised: Path, pages: Path, tmp_path: Path, phase: str
) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", PROGRAM, "sft", str(MICRO), "--run", str(folder)]
    command += ["--pages", str(pages)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                rows = (folder / "metrics.jsonl").read_text().count(f'"{phase}"')
                if rows >= 3:
                    break
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert not (folder / "stages" / phase / "manifest.json").exists()
    raise_in(folder, pages, until="sft")
    for stage in ("pretrain", "sft"):
        whole = load_file(raised / "stages" / stage / "model" / "model.safetensors")
        continued = load_file(folder / "stages" / stage / "model" / "model.safetensors")
        assert whole.keys() == continued.keys()
        assert all(bool((whole[name] == continued[name]).all()) for name in whole)


def test_a_run_folder_of_another_recipe_is_refused(raised: Path, pages: Path) -> None:
    other = load_recipe(str(MICRO), ["name='other'"])
    refused = pytest.raises(StateError, match="a run of the recipe 'micro'; 'other' was given")
    with refused, open_run(other, raised, [pages]):
        pass


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    refused = pytest.raises(StateError, match=r"no config\.toml")
    with refused, open_run(load_recipe(str(MICRO)), tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_pages_that_do_not_exist_are_named(tmp_path: Path) -> None:
    refused = pytest.raises(NotFoundError, match="nowhere: no such file or folder")
    with refused, open_run(load_recipe(str(MICRO)), tmp_path / "run", [tmp_path / "nowhere"]):
        pass


def test_a_file_in_the_place_of_a_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("important")
    refused = pytest.raises(StateError, match="a run is a folder")
    with refused, open_run(load_recipe(str(MICRO)), tmp_path / "run"):
        pass
    assert (tmp_path / "run").read_text() == "important"


def test_two_raises_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    recipe = load_recipe(str(MICRO))
    refused = pytest.raises(StateError, match="at work")
    with open_run(recipe, tmp_path / "run"), refused, open_run(recipe, tmp_path / "run"):
        pass


def test_an_empty_set_of_documents_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    with pytest.raises(ValueError, match="document"):
        raise_in(tmp_path / "run", tmp_path / "pages")


def test_a_recipe_with_a_typo_names_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'sequnce'\. Did you mean 'sequence'"):
        load_recipe(str(MICRO), ["pretrain.sequnce=64"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("pretrain.sequence=300", "each increment must be longer"),
        ("sft.sequence=4096", "longer than the context"),
        ("pretrain.steps=0", "minutes is 0"),
        ("pretrain.batch=-1", "all must be positive"),
        ("shape.heads=5", "must be a multiple"),
    ],
)
def test_a_contradictory_recipe_is_refused(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe = load_recipe(str(MICRO), [change])
        recipe.shape.model_config(vocab=640, context=128)


def test_an_unknown_recipe_names_those_that_ship() -> None:
    with pytest.raises(NotFoundError, match="one of: cria"):
        load_recipe("lama")


def test_the_default_recipe_grows_its_context_fourfold() -> None:
    recipe: Recipe = load_recipe("cria")
    assert recipe.minutes <= 10
    assert recipe.extend[-1].sequence == 4 * recipe.pretrain.sequence
