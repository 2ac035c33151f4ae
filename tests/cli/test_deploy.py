"""`puna deploy` on the command line: files on disk or in one text, and what it refuses."""

from pathlib import Path

import pytest
import yaml

from puna.cli.main import main
from tests.llm.folders import save_folder


def test_files_are_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_folder(tmp_path / "My.Model")
    assert main(["deploy", "kubernetes", str(folder), "--tokens", "64", "--running", "2"]) == 0
    told = capsys.readouterr()
    assert "parameters" in told.err
    manifests = list(yaml.safe_load_all(told.out.replace("# =====", "---\n# =====")))
    assert {"Deployment", "Service", "Secret"} <= {m["kind"] for m in manifests if m}
    assert "my-model=/models/my-model" in told.out

    out = tmp_path / "out"
    assert main(["deploy", "docker", str(folder), "--tokens", "64", "--out", str(out)]) == 0
    shown = capsys.readouterr().out.split()
    assert sorted(Path(name).name for name in shown) == [".dockerignore", "Dockerfile",
                                                         "compose.yaml"]  # fmt: skip
    compose = yaml.safe_load((out / "compose.yaml").read_text())
    assert compose["services"]["puna"]["volumes"][0]["source"] == str(folder)


def test_a_released_size_is_planned_before_its_weights_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["deploy", "slurm", "llama-3.1-405b", "--gpu", "h100"]) == 0
    assert "#SBATCH --nodes=2\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["docker", "nothing-here"], "nothing-here"),
        (["docker", "llama-3.1-8b", "--gpu", "b200"], "one of h200"),
        (["docker", "llama-3.1-405b", "--gpu", "h100"], "2 machines"),
        (["systemd", "llama-3.1-8b", "--name", "A B"], "small letters"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", *words]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert told.err.count("\n") == 1
