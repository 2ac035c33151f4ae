"""The rules of the house: imports point down, a file is one small idea, the docs are true."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import puna

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "puna"

# docs/architecture.md tells why each room stands where it does.
FLOORS = (
    "errors",
    "config device energy files",
    "log",
    "ops tokenizer",
    "model chat",
    "quant parallel",
    "checkpoint",
    "data infer",
    "train tools",
    "llm",
    "evals",
    "safety pretrain posttrain multimodal",
    "serve plan report",
    "life",
    "cli",
)
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names.split()}


@cache
def tracked() -> tuple[Path, ...]:
    """Return the files of the repository, also of one that was unpacked without git."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        kinds = ("puna", "tests", "bench", "docs")
        paths = [path for kind in kinds for path in (ROOT / kind).rglob("*")]
        paths += ROOT.iterdir()
    return tuple(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


def modules(*folders: str) -> list[Path]:
    tops = folders or ("puna", "tests", "bench")
    return [path for path in sorted(tracked()) if path.suffix == ".py" and home(path, 0) in tops]


def home(path: Path, part: int) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[part] if len(parts) > part else ""


def puna_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and room of every import of puna in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports name the whole path"
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            names = within if node.module == "puna" else [node.module or ""]
        for name in names:
            first, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            if first == "puna" and room in FLOOR:
                yield node.lineno, room


def test_imports_point_down() -> None:
    """A module may import lower floors only; peers stay independent (docs/architecture.md)."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room} (floor {FLOOR[room]}) imports "
        f"{target} (floor {FLOOR[target]})"
        for path in modules("puna")
        if (room := home(path, 1)) in FLOOR
        for line, target in puna_imports(path)
        if room != target and FLOOR[target] >= FLOOR[room]
    ]
    assert not wrong, "imports must point to a lower floor:\n" + "\n".join(wrong)


def test_every_room_stands_on_a_floor() -> None:
    rooms = {home(path, 1) for path in modules("puna")} - {"__init__", "__main__"}
    assert rooms <= set(FLOOR), f"rooms without a floor: {sorted(rooms - set(FLOOR))}"


def test_importing_puna_is_light_and_its_names_come_when_asked_for() -> None:
    code = (
        "import sys, puna; assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "[getattr(puna, name) for name in puna.__all__]; print(sorted(puna.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("ChatFormat", "Completion", "Message", "load", "load_tokenizer", "tool"):
        assert name in done.stdout
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = puna.lod


def test_an_init_file_is_one_sentence() -> None:
    for path in modules("puna"):
        if path.name == "__init__.py" and path != PACKAGE / "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, path
            assert len((ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()) == 1


def test_files_are_named_by_their_idea() -> None:
    vague = {"utils", "util", "common", "misc", "helpers", "helper", "base"}
    assert not [path for path in modules() if vague & set(path.relative_to(ROOT).parts)]
    assert not [path for path in modules() if path.stem in vague]


def test_every_module_says_its_idea_in_its_first_line() -> None:
    for path in modules("puna", "bench"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = text.partition("\n")[0]
        assert first.endswith((".", "?")), f"{path.relative_to(ROOT)}: {first!r}"


def test_files_stay_small() -> None:
    for path in modules():
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines; split the idea"


def test_nothing_unfinished_is_kept() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = [path for path in modules() if marks.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_nothing_names_the_machine_it_was_written_on() -> None:
    """Neither folders of one machine nor the hosts of package registries are in any file."""
    folders = ("work", "tmp/w", "root", "home")
    hosts = ("pypi" + ".org", "python" + "hosted.org", "download." + "pytorch.org")
    pattern = re.compile(
        rf"(?<![\w.~/-])/(?:{'|'.join(folders)})/|{'|'.join(map(re.escape, hosts))}"
    )
    wrong = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if match := pattern.search(text):
            wrong.append(f"{path.relative_to(ROOT)}: {match[0]}")
    assert not wrong


# Installing and building


def requirements() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[<>=\[]", line)[0] for group in groups for line in group}
    return names - {"puna"}


def test_every_direct_dependency_is_pinned_for_the_tests() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(pinned) == requirements()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_ci_runs_check_and_test_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line.startswith("make")]
    assert lines == ["make check", "make test"]
    assert {"raise", "test", "check", "bench", "clean"} <= make_targets()


# What the docs say

DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(path: Path, language: str) -> list[str]:
    fence = rf"^```{language}\n(.*?)^```"
    return re.findall(fence, path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_in_the_docs_runs(path: Path, tmp_path: Path, monkeypatch) -> None:
    """Python blocks run one after the other, beside a run folder with a tiny model."""
    sources = blocks(path, "python")
    if not sources:
        return
    from tests.llm.folders import save_run

    save_run(tmp_path / "runs" / "cria")
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for source in sources:
        exec(compile(source, str(path), "exec"), space)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_docs_exist_with_their_options(path: Path) -> None:
    from puna.cli.main import COMMANDS, command_line

    text = path.read_text(encoding="utf-8")
    for verb in re.findall(r"`(?:\.venv/bin/)?puna ([a-z]+)", text):
        assert verb in COMMANDS, f"{path.name}: there is no `puna {verb}`"
    for target in re.findall(r"`make ([a-z]+)", text):
        assert target in make_targets(), f"{path.name}: there is no `make {target}`"
    for line in (line for block in blocks(path, "sh") for line in block.splitlines()):
        words = shlex.split(line, comments=True)
        if words and words[0] == "make":
            assert words[1] in make_targets(), line
        elif words and Path(words[0]).name == "puna":
            command_line(words[1:]).parse_args(words[1:])


@pytest.mark.parametrize("name", ["paper-map.md", "pitfalls.md"])
def test_the_maps_name_what_exists(name: str) -> None:
    from puna.cli.main import COMMANDS

    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    names = re.findall(r"`((?:puna|tests|bench)/[^`]+)`", text)
    assert len(names) > 20
    for found in names:
        file, _, test = found.partition("::")
        assert (ROOT / file).exists(), f"docs/{name}: {file} does not exist"
        if test:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"
    for verb in re.findall(r"`puna ([a-z]+)", text):
        assert verb in COMMANDS


RUN_FOLDER = ("config.toml", "report.html", "stages/", "checkpoints/", "runs/")  # made by a run


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_the_docs_name_exist(path: Path) -> None:
    """A path, or a name alone where the sentence is about one room; a test with its name."""
    ours = [str(found.relative_to(ROOT)) for found in tracked()]
    text = path.read_text(encoding="utf-8")
    ending = r"\w/|\.(?:py|md|toml|cpp|h|inl|html|js|jinja)"
    for name in re.findall(rf"`([\w./-]+(?:{ending}))(?:`|::)", text):
        known = (ROOT / name).exists() or any(f"/{name}" in f"/{file}" for file in ours)
        assert known or name.startswith(RUN_FOLDER), f"{path.name}: {name} does not exist"
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert f"def {test}(" in (ROOT / file).read_text(), f"{path.name}: {file} has no {test}"


def test_links_in_the_docs_lead_somewhere() -> None:
    for path in DOCS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_the_readme_is_short_and_its_tree_is_the_package() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    tree = next(block for block in blocks(ROOT / "README.md", "text") if "puna/" in block)
    shown = set(re.findall(r"^  (\w+)(?:/|\.py)", tree, re.MULTILINE))
    rooms = {home(path, 1) for path in tracked() if home(path, 0) == "puna"}
    rooms -= {"__init__", "__main__", "py"}
    assert shown == rooms, f"missing {sorted(rooms - shown)}, gone {sorted(shown - rooms)}"


def test_the_floors_in_the_docs_are_those_that_are_tested() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = next(block for block in blocks(ROOT / "docs" / "architecture.md", "text"))
    rows = [line.split() for line in table.splitlines()[1:] if line.strip()]
    assert [" ".join(row[1:]) for row in rows] == list(FLOORS), text[:80]
    assert [int(row[0]) for row in rows] == list(range(len(FLOORS)))


def test_a_decision_fits_on_a_screen() -> None:
    found = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert found
    for number, path in enumerate(found, start=1):
        assert path.name.startswith(f"{number:04d}-")
        assert path.read_text(encoding="utf-8").count("\n") < 40


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_a_room_can_be_imported_first(name: str) -> None:
    """No room leans on another having been imported before (nor on an import in a circle)."""
    if (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name / "__init__.py").is_file():
        assert importlib.import_module(f"puna.{name}").__doc__
