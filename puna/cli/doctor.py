"""`puna doctor`: what this machine can run, and why not."""

import dataclasses
import importlib
import json
import sys
from typing import TYPE_CHECKING

from puna.cli.options import AsJson

if TYPE_CHECKING:
    from puna.cli.findings import Finding, Fit


def doctor(*, json_: AsJson = False) -> int:
    """Show what this machine can run, what is missing, and what brings it.

    The core (load, generate, chat, convert, inspect) is tried on a tiny model; the matrix peak and
    the reading speed of the memory are measured. No network is touched. The exit code is 0 where
    the core works.

    Args:
        json_: Print one JSON object.
    """
    trouble = torch_trouble()
    if trouble:
        print(json.dumps({"core_works": False, "torch": trouble}) if json_ else f"torch: {trouble}")
        return 1
    from puna.cli import findings as look
    from puna.device import machine
    from puna.log import note

    facts = machine()
    core = look.core_findings()
    note("measuring this machine ...")
    peak, bandwidth = look.measured()
    found = [
        *core,
        *look.machine_findings(facts, matrix_peak=peak, bandwidth=bandwidth),
        *look.extras_findings(),
        *look.places_findings(),
        *look.sandbox_findings(),
    ]
    models = look.fits(facts.memory_bytes, bandwidth)
    is_well = all(finding.is_well for finding in core)
    if json_:
        measured = {"matrix_peak_flops": peak, "read_bandwidth_bytes": bandwidth}
        table = {
            "core_works": is_well,
            "machine": facts.table() | measured,
            "findings": [dataclasses.asdict(finding) for finding in found],
            "models": [dataclasses.asdict(model) for model in models],
        }
        print(json.dumps(table, indent=2))
    elif sys.stdout.isatty():
        _show_tables(found, models)
    else:
        print("\n".join([*map(_line, found), *map(_model_line, models)]))
    return 0 if is_well else 1


def torch_trouble() -> str:
    """Say why torch cannot be imported, "" where it can; everything else needs it."""
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return f"it cannot be imported ({error}); install it again: pip install torch"
    return ""


def _line(finding: "Finding") -> str:
    """Say one finding in one line, for a pipe."""
    advice = f"  -> {finding.advice}" if finding.advice else ""
    return f"{finding.section:<8} {finding.name:<14} {finding.value}{advice}"


def _model_line(fit: "Fit") -> str:
    return f"model    {fit.name:<17} {_parameters(fit):>8}  {_verdict(fit)}"


def _parameters(fit: "Fit") -> str:
    return f"{fit.parameters / 1e9:.2f} B"


def _verdict(fit: "Fit") -> str:
    """Say in which formats a model fits, and how fast it could at most write."""
    if not fit.fits_bfloat16:
        return f"too large: {fit.bfloat16_bytes / 2**30:,.0f} GiB in bfloat16"
    formats = "bfloat16 and float32" if fit.fits_float32 else "bfloat16"
    size = f"{fit.bfloat16_bytes / 2**30:,.1f} GiB in bfloat16"
    return f"fits in {formats} ({size}, at most {fit.most_tokens_per_s:.1f} tokens/s)"


def _show_tables(found: "list[Finding]", models: "list[Fit]") -> None:
    """Print one table a section for a person."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for section in dict.fromkeys(finding.section for finding in found):
        table = Table(title=section, title_justify="left", box=None, show_header=False)
        for finding in found:
            if finding.section == section:
                mark = Text("ok", "green") if finding.is_well else Text("--", "yellow")
                words = Text(finding.value)
                if finding.advice:
                    words.append(f"  {finding.advice}", "bold")
                table.add_row(mark, Text(finding.name), words)
        console.print(table)
    table = Table(title="models", title_justify="left", box=None, show_header=False)
    for model in models:
        mark = Text("ok", "green") if model.fits_bfloat16 else Text("--", "dim")
        table.add_row(mark, Text(model.name), Text(_parameters(model)), Text(_verdict(model)))
    console.print(table)
