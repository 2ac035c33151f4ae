"""`puna generate` on real weights: the same text, byte for byte, from every format on disk."""

import json
import subprocess
import sys

import pytest

from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.quantize import quantize_checkpoint
from puna.checkpoint.tokenizers import load_tokenizer
from puna.cli.main import main
from puna.device import has_fast_bfloat16
from puna.ops import native
from puna.quant.recipe import Recipe
from tests.testdata import testdata

STORIES = "weights/stories260K"
FORMATS = ("hf", "meta", "stories260K-f32.gguf", "stories260K-f16.gguf", "stories260K.bin")
GREEDY = ("--prompt", "", "--max-tokens", "200", "--temperature", "0")


def stories(name: str) -> list[str]:
    """MODEL and, where the weights come without one, the tokenizer."""
    words = [str(testdata(f"{STORIES}/{name}"))]
    if not name.endswith(".gguf"):
        words += ["--tokenizer", str(testdata(f"{STORIES}/tok512.bin"))]
    return words


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_continues_the_empty_prompt_with_the_same_bytes(name, capsysbinary) -> None:
    assert main(["generate", *stories(name), *GREEDY]) == 0
    assert capsysbinary.readouterr().out == testdata(f"{STORIES}/expected_text.txt").read_bytes()


def test_stdout_holds_the_text_and_nothing_else() -> None:
    command = [sys.executable, "-m", "puna.cli.main", "generate", *stories("stories260K.bin")]
    done = subprocess.run([*command, *GREEDY], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == testdata(f"{STORIES}/expected_text.txt").read_bytes()


def test_a_stream_prints_the_same_bytes(capsysbinary) -> None:
    assert main(["generate", *stories("stories260K.bin"), *GREEDY, "--stream"]) == 0
    assert capsysbinary.readouterr().out == testdata(f"{STORIES}/expected_text.txt").read_bytes()


def test_json_holds_text_ids_reason_and_usage(capsys) -> None:
    words = ["generate", *stories("stories260K.bin"), "--prompt", "Once", "--max-tokens", "5"]
    assert main([*words, "--temperature", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["ids"]) == found["usage"]["completion_tokens"] == 5
    assert found["finish_reason"] == "length"
    assert found["text"].startswith(" upon")


def test_a_seed_repeats(capsys) -> None:
    texts = []
    for seed in ("1", "1", "2"):
        words = ["generate", *stories("stories260K.bin"), "--prompt", "The", "--seed", seed]
        assert main([*words, "--max-tokens", "30"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_string_may_begin_with_a_hyphen_and_a_prompt_too(capsys) -> None:
    words = ["generate", *stories("stories260K.bin"), "--prompt", "- Once", "--stop", "-x"]
    assert main([*words, "--stop", "Lily", "--max-tokens", "60", "--temperature", "0"]) == 0
    assert "Lily" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-tokens", "600"), "the model's context is 512"),
        (("--temperature", "-1"), "temperature=-1.0 was given"),
        (("--dtype", "int7"), "int7"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_1(words, said, capsys) -> None:
    assert main(["generate", *stories("stories260K.bin"), "--prompt", "", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_weights_without_a_tokenizer_say_what_to_pass(capsys, tmp_path) -> None:
    lonely = tmp_path / "model.bin"
    lonely.symlink_to(testdata(f"{STORIES}/stories260K.bin"))
    assert main(["generate", str(lonely), "--prompt", "x"]) == 1
    assert "--tokenizer FILE" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_one_line_and_exit_1(capsys, tmp_path) -> None:
    assert main(["generate", str(tmp_path / "nothing"), "--prompt", "x"]) == 1
    err = capsys.readouterr().err
    assert "nothing" in err
    assert err.count("\n") == 1


def test_a_tokenizer_of_another_model_is_refused(capsys) -> None:
    other = str(testdata("tokenizers/llama2/tokenizer.model"))
    words = ["generate", str(testdata(f"{STORIES}/stories260K.bin")), "--tokenizer", other]
    assert main([*words, "--prompt", "x"]) == 1
    assert "32,000 ids" in capsys.readouterr().err


# Prints what a command prints, then whether torch was imported on the way.
CHILD = """
import sys
{first}
from puna.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


def run_alone(words: list[str], first: str = "") -> tuple[int, bytes, list[str]]:
    """Run a command in a process of its own: its code, its stdout and the lines of its stderr."""
    command = [sys.executable, "-c", CHILD.format(first=first), *words]
    done = subprocess.run(command, capture_output=True, timeout=240)
    return done.returncode, done.stdout, done.stderr.decode().splitlines()


@pytest.mark.skipif(not native.levels(), reason="puna was installed without a compiler")
def test_a_folder_that_runs_from_its_file_needs_no_torch(tmp_path) -> None:
    """Greedy and sampled: ids and text are those of the path that torch loads."""
    source, target = testdata(f"{STORIES}/hf"), tmp_path / "int4"
    tokenizer = load_tokenizer(testdata(f"{STORIES}/tok512.bin"))
    recipe = Recipe(scheme="int4")
    quantize_checkpoint(
        open_checkpoint(source), target, recipe, tokenizer=tokenizer, layout="panels"
    )
    for drawn in (["--temperature", "0"], ["--seed", "7", "--top-k", "40", "--min-p", "0.02"]):
        words = ["generate", str(target), "--prompt", "One day", "--max-tokens", "60", "--json"]
        code, ours, told = run_alone([*words, *drawn])
        assert (code, told) == (0, ["False"])
        asked = [*words, *drawn, "--dtype", "float32" if not has_fast_bfloat16() else "bfloat16"]
        code, theirs, told = run_alone(asked)
        assert (code, told) == (0, ["True"])
        assert ours == theirs
        assert len(json.loads(ours)["ids"]) == 60


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--prompt", "x", "--max-tokens", "9999"], "the model's context is"),
        (["--prompt", "x", "--top-p", "2"], "top_p=2.0 was given"),
        (["--prompt", "x", "--kv-cache", "fp4"], "kv-cache"),
    ],
)
def test_what_is_wrong_is_said_alike_without_torch(words: list[str], sentence: str) -> None:
    told = []
    for asked in ([], ["--dtype", "float32"]):
        code, out, lines = run_alone(["generate", *stories("hf"), *words, *asked])
        assert code != 0
        assert out == b""
        told.append(lines[:-1])
    assert told[0] == told[1]
    assert sentence in told[0][0]
