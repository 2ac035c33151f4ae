"""How the run went: its curves, its phases, where the time went, what it drew from the wall."""

from html import escape

from puna.report import quantities as q
from puna.report.facts import Facts
from puna.report.headline import matrix_share
from puna.report.parts import bar, card, definition_list, grid, section, table
from puna.report.plots import curve


def training(facts: Facts) -> str | None:
    """Return curves and phases, None where nothing was trained."""
    curves = (
        ("loss", "nats a target token", "Loss"),
        ("lr", "learning rate", "Learning rate"),
        ("tokens_per_s", "tokens a second", "Speed"),
        ("grad_norm", "gradient norm", "Gradient norm before clipping"),
    )
    cards = []
    for key, label, title in curves:
        drawn = curve(facts.metrics, key, label=label, title=title, logarithmic=key == "grad_norm")
        if drawn is not None:
            cards.append(card(title, drawn))
    phases = _phases(facts)
    if not cards and not phases:
        return None
    note = "The loss of a fine-tuning phase counts the assistant's words alone."
    return section("Training", grid(cards) + phases, note=note)


def stages(facts: Facts) -> str | None:
    """Return the time of every stage, None where none has finished."""
    total = sum(float(stage.get("seconds") or 0) for stage in facts.stages.values())
    if not total:
        return None
    rows = [
        [
            escape(name),
            bar(float(stage.get("seconds") or 0) / total) + q.duration(stage.get("seconds")),
            q.size(stage.get("peak_memory_bytes")),
        ]
        for name, stage in facts.stages.items()
    ]
    heads = ("", f"time, {q.duration(total).replace('&nbsp;', ' ')} in all", "peak memory so far")
    return section("Stages", table(heads, rows, caption="Time and peak memory by stage"))


def machine(facts: Facts) -> str | None:
    """Return the machine and its energy, None where neither is known."""
    cards = []
    if facts.machine:
        about = facts.machine
        known = [
            ("Processor", escape(str(about["processor"])) if about.get("processor") else q.MISSING),
            ("Accelerator", escape(str(about.get("accelerator") or "none"))),
            ("Cores", q.number(about.get("cores"), 0)),
            ("Memory", q.size(about.get("memory_bytes"))),
            ("Measured matrix peak", _flops(facts.matrix_peak)),
            ("System", escape(str(about.get("system", "")))),
            ("Software", escape(f"Python {about.get('python')}, torch {about.get('torch')}")),
        ]
        cards.append(card("Machine", definition_list(known)))
    if facts.energy:
        energy = facts.energy
        known = [
            ("Energy", q.number(energy.get("kwh"), 4, "kWh")),
            ("Carbon", q.number(energy.get("grams_co2"), 1, "g CO₂")),
            ("How", escape(str(energy.get("how", "not said")))),
        ]
        cards.append(card("Energy", definition_list(known)))
    return section("Machine and energy", grid(cards)) if cards else None


def _phases(facts: Facts) -> str:
    rows = []
    for name, took in facts.phases.items():
        rows.append(
            [
                escape(name),
                q.number(took.get("steps"), 0),
                q.count(took.get("tokens")),
                q.duration(took.get("train_s")),
                q.number(took.get("tokens_per_s"), 0),
                q.percent(matrix_share(facts, name)),
                _last_loss(facts, name),
            ]
        )
    heads = ("", "steps", "tokens", "time", "tokens/s", "matrix peak", "last loss")
    return table(heads, rows, caption="Phases of training") if rows else ""


def _last_loss(facts: Facts, phase: str) -> str:
    """Return the mean loss of the last tenth of a phase's steps."""
    losses = [row["loss"] for row in facts.metrics.get(phase, []) if row.get("loss") is not None]
    last = losses[-max(1, len(losses) // 10) :]
    return q.number(sum(last) / len(last) if last else None, 3)


def _flops(value: float | None) -> str:
    return q.MISSING if value is None else q.number(value / 1e9, 0, "GFLOP/s")
