"""`puna doctor`: facts, what is missing and what brings it; its code says if the core works."""

import json
import sys

import pytest

from puna.cli import doctor as command
from puna.cli import findings
from puna.cli.findings import Finding, core_findings, extras_of, fits, places_findings
from puna.cli.main import main
from puna.tools.sandbox import layers
from puna.tools.sandbox.layers import Layer


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Measure nothing: a peak of 50 GFLOP/s and 10 GB/s."""
    monkeypatch.setattr(findings, "measured", lambda: (50e9, 10e9))
    monkeypatch.setattr(findings, "has_fast_bfloat16", lambda: False)
    layer = Layer(name="protection", is_active=False, detail="none", advice="install a sandbox")
    monkeypatch.setattr(layers, "look", lambda: [layer])


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}


def test_a_machine_that_runs_the_core_is_told_so(capsys) -> None:
    assert main(["doctor", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    lines = out.splitlines()
    assert any(line.startswith("core     torch") for line in lines)
    assert any(line.startswith("machine  float32        50 GFLOP/s") for line in lines)
    assert any(line.startswith("model    llama-3.1-405b") and "too large" in line for line in lines)


def test_json_holds_the_same_for_programs(capsys) -> None:
    assert main(["doctor", "--json", "--quiet"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["core_works"] is True
    assert table["machine"]["matrix_peak_flops"] == 50e9
    sections = {row["section"] for row in table["findings"]}
    assert sections == {"core", "machine", "extras", "places", "sandbox"}
    assert "llama-3.1-8b" in {row["name"] for row in table["models"]}


def test_a_terminal_gets_tables(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert command.doctor() == 0
    out = capsys.readouterr().out
    assert "models" in out
    assert "ok" in out


def test_a_core_that_fails_gives_another_code(capsys, monkeypatch) -> None:
    monkeypatch.setattr(findings, "_cached_difference", lambda: 0.5)
    assert main(["doctor", "--quiet"]) == 1
    assert "torch computes wrongly here" in capsys.readouterr().out


def test_a_library_that_cannot_be_imported_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    found = by_name(core_findings())
    assert not found["tiktoken"].is_well
    assert "cannot be imported" in found["tiktoken"].value
    assert found["model"].is_well


def test_a_machine_without_torch_gets_a_line_and_no_traceback(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert command.doctor() == 1
    assert "torch: it cannot be imported" in capsys.readouterr().out


def test_extras_that_name_extras_have_all_they_need() -> None:
    lines = [
        "numpy>=1.26",
        "zstandard>=0.23; extra == 'curate'",
        'fastwarc>=0.15 ; extra == "curate"',
        "rustbpe; extra == 'train'",
        "puna[curate,train]; extra == 'raise'",
    ]
    assert extras_of(lines) == {
        "curate": {"zstandard", "fastwarc"},
        "train": {"rustbpe"},
        "raise": {"zstandard", "fastwarc", "rustbpe"},
    }


def test_a_missing_extra_comes_with_the_command_that_brings_it(monkeypatch) -> None:
    lines = ["rich>=13; extra == 'one'", "nowhere-to-be-found; extra == 'two'"]
    monkeypatch.setattr(findings.importlib.metadata, "requires", lambda name: lines)
    found = by_name(findings.extras_findings())
    assert found["one"].is_well
    assert found["two"].value == "missing: nowhere-to-be-found"
    assert found["two"].advice == "pip install 'puna[two]'"


def test_sizes_are_weights_and_cache() -> None:
    """Llama 3.1 8B: 8,030,261,248 weights, 131,072 bytes of cache a token in 16 bits."""
    size = 2 * 8_030_261_248 + 8192 * 131_072
    fit = {fit.name: fit for fit in fits(size, 16e9)}["llama-3.1-8b"]
    assert (fit.bfloat16_bytes, fit.fits_bfloat16, fit.fits_float32) == (size, True, False)
    assert fit.most_tokens_per_s == pytest.approx(16e9 / (2 * 8_030_261_248))
    assert not {fit.name: fit for fit in fits(size - 1, 16e9)}["llama-3.1-8b"].fits_bfloat16


def test_the_protection_of_foreign_code_is_told(capsys) -> None:
    assert main(["doctor", "--quiet"]) == 0
    line = "sandbox  protection     none  -> install a sandbox"
    assert line in capsys.readouterr().out.splitlines()


def test_settings_of_the_hub_are_told_without_the_token(monkeypatch) -> None:
    monkeypatch.setattr(findings, "_is_installed", lambda name: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub = by_name(places_findings())["hub ids"]
    assert "HF_HUB_OFFLINE" in hub.value
    assert "HF_TOKEN is set" in hub.value
    assert "secret" not in hub.value


def test_a_home_of_ones_own_is_shown(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PUNA_HOME", str(tmp_path / "not" / "yet"))
    assert by_name(places_findings())["PUNA_HOME"].value == str(tmp_path / "not" / "yet")
