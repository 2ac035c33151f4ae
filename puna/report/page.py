"""The report card of a run: one page that needs nothing else, no network and no script.

`puna report RUN` and the last stage of `puna raise` call `write_report`. Every number comes from a
file of the run folder; what a run did not measure is named as missing.
"""

from html import escape
from pathlib import Path

from puna import __version__
from puna.files import write_text
from puna.report.data import data
from puna.report.facts import Facts, read_facts
from puna.report.headline import headline
from puna.report.scores import needles, scores
from puna.report.talk import talk
from puna.report.training import machine, stages, training

STYLE = Path(__file__).with_name("style.css")

# Nothing may be loaded and nothing may run: the browser enforces what the page promises.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

SECTIONS = {
    "conversation": talk,
    "evaluation": scores,
    "needle test": needles,
    "training": training,
    "stages": stages,
    "data": data,
    "machine": machine,
}


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    Raises:
        NotFoundError: the folder holds nothing of a run.
        FormatError: a file of the run is damaged.
    """
    path = run_folder / "report.html"
    write_text(path, page(read_facts(run_folder)))
    return path


def page(facts: Facts) -> str:
    """Return the whole page."""
    parts = {name: part(facts) for name, part in SECTIONS.items()}
    missing = [name for name, body in parts.items() if body is None]
    absent = f'<p class="note">Not in this run: {", ".join(missing)}.</p>' if missing else ""
    title = f"{escape(facts.name)}: report card"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>{LLAMA}<div><h1>{escape(facts.name)}</h1><p>{_subtitle(facts)}</p></div></header>
<main>
{headline(facts)}
{"".join(body for body in parts.values() if body is not None)}
{absent}
{_provenance(facts)}
</main>
<footer>puna {escape(__version__)}. Every number on this page comes from a file of the run
folder.</footer>
</body>
</html>
"""


def _subtitle(facts: Facts) -> str:
    began = min((str(s["began"]) for s in facts.stages.values() if s.get("began")), default="")
    processor = (facts.machine or {}).get("processor")
    where = f" on {escape(str(processor))}" if processor else ""
    when = f", {escape(began.replace('T', ' ').replace('Z', ' UTC'))}" if began else ""
    return f"raised{where}{when}"


def _provenance(facts: Facts) -> str:
    """Return configuration and manifests, folded: where everything came from."""
    parts = []
    if facts.config is not None:
        parts.append(
            f"<details><summary>Configuration</summary><pre>{escape(facts.config)}</pre></details>"
        )
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td><code>{escape(str(s.get('command', '')))}"
        f"</code></td><td><code>{escape(str(s.get('inputs', ''))[:16])}</code></td></tr>"
        for name, s in facts.stages.items()
    )
    if rows:
        parts.append(
            "<details><summary>Commands and input hashes</summary><div class='scroll'><table>"
            "<thead><tr><th scope='col'>stage</th><th scope='col'>command</th>"
            f"<th scope='col'>inputs</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
        )
    return f"<section aria-label='Provenance'>{''.join(parts)}</section>" if parts else ""


# A llama's head, drawn for this page.
LLAMA = (
    '<svg class="llama" viewBox="0 0 64 64" aria-hidden="true"><path d="M20 24C15 15 15 7 19 3c5 3 '
    "7 9 7 14 4-1 8-1 12 0 0-5 2-11 7-14 4 4 4 12-1 21 3 4 4 8 4 12 0 5-2 8-4 11v11c0 2-1 3-3 "
    '3H23c-2 0-3-1-3-3V47c-2-3-4-6-4-11 0-4 1-8 4-12z" fill="var(--c1)"/><ellipse cx="32" cy="40" '
    'rx="10" ry="8" fill="var(--paper)"/><circle cx="24" cy="29" r="2.2" fill="var(--paper)"/>'
    '<circle cx="40" cy="29" r="2.2" fill="var(--paper)"/><path d="M29 37l3 3 3-3M32 40v3" '
    'fill="none" stroke="var(--c1)" stroke-width="2" stroke-linecap="round"/></svg>'
)
