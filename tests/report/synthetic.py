"""A made-up run folder, written as the stages write theirs."""

import json
import math
import random
from pathlib import Path
from typing import Any

from puna.checkpoint.huggingface import save_huggingface
from puna.evals.score import Score, share, write_scores
from puna.files import write_json
from puna.model.config import ModelConfig
from puna.model.llama import Llama

LENGTHS = (512, 1024, 2048)
DEPTHS = ("0.0", "0.25", "0.5", "0.75", "1.0")
PHASES = {"pretrain": (300, 4096, 8.2), "extend-2048": (40, 8192, 2.9), "sft": (60, 4096, 3.0)}


def write_run(folder: Path) -> Path:
    """Write a whole run: every file that a report may read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text('name = "cria"\nseed = 0\n\n[pretrain]\nsequence = 512\n')
    write_metrics(folder)
    write_stages(folder)
    write_data(folder)
    write_evals(folder / "stages/eval/evals")
    write_json(folder / "stages/eval/samples.json", samples())
    write_json(
        folder / "energy.json",
        {"kwh": 0.0041, "grams_co2": 1.7, "how": "estimated: 1,100 core-seconds at 7 W"},
    )
    return folder


def write_metrics(folder: Path) -> None:
    rng = random.Random(0)
    lines = []
    for stage, (steps, per_step, start) in PHASES.items():
        for step in range(1, steps + 1):
            row = {
                "stage": stage,
                "step": step,
                "tokens": step * per_step,
                "loss": 1.6 + (start - 1.6) * math.exp(-4 * step / steps) + rng.gauss(0, 0.08),
                "lr": 3e-3 * (0.5 + 0.5 * math.cos(math.pi * step / steps)),
                "grad_norm": math.exp(rng.gauss(-0.5, 0.3)),
                "tokens_per_s": rng.gauss(3600, 90),
                "seconds": step * 1.1,
            }
            lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"stage": "sft", "st')


def write_stages(folder: Path) -> None:
    times = {"curate": 41.2, "tokenizer": 4.4, "pack": 12.9, "plan": 9.0}
    times |= {"pretrain": 331.0, "extend": 88.4, "sft": 62.3, "eval": 38.1}
    for index, (name, seconds) in enumerate(times.items()):
        phases = {
            phase: {
                "steps": steps,
                "tokens": steps * per_step,
                "train_s": seconds * 0.95,
                "tokens_per_s": 3600.0 - 400 * index,
                "flops_per_token": 3.6e7,
            }
            for phase, (steps, per_step, _) in PHASES.items()
            if phase.split("-")[0] == name
        }
        manifest: dict[str, Any] = {
            "stage": name,
            "inputs": "ab" * 32,
            "facts": {"phases": phases} if phases else {},
            "command": "puna raise",
            "began": f"2026-11-21T03:{index:02}:00Z",
            "seconds": seconds,
            "peak_memory_bytes": (900 + 130 * index) * 2**20,
        }
        write_json(folder / "stages" / name / "manifest.json", manifest)
    machine = {"processor": "Test CPU <7>", "cores": 2, "memory_bytes": 24 * 2**30}
    machine |= {"accelerator": None, "python": "3.11.9", "torch": "2.13.0", "system": "Linux x86"}
    plan = {"machine": machine, "matrix_peak_flops": 1.9e11, "steps": {"pretrain": 300}}
    write_json(folder / "stages/plan/plan.json", plan)
    model = Llama(ModelConfig(width=24, layers=2, heads=6, kv_heads=2, mlp_width=40, vocab=64))
    save_huggingface(model, model.config, folder / "stages/sft/model")


def write_data(folder: Path) -> None:
    sources = ("general", "code", "maths", "multilingual")
    report = {
        "found": dict(zip(sources, (1240, 980, 4000, 2400), strict=True)),
        "train": dict(zip(sources, (700, 600, 3100, 1500), strict=True)),
        "heldout": dict(zip(sources, (40, 31, 150, 80), strict=True)),
        "train_bytes": dict(
            zip(sources, (8_000_000, 4_000_000, 2_700_000, 1_300_000), strict=True)
        ),
        "removed": {"general": {"near_duplicate": 210, "too_short": 90}, "code": {"too_short": 41}},
        "lines_dropped": {"general": 88_000},
        "limited_by": "general",
    }
    write_json(folder / "stages/curate/documents/report.json", report)


def write_evals(folder: Path) -> None:
    write_json(folder / "compressors.json", {"general": {"xz -9": 2.02, "zstd -19": 2.11}})
    bits = Score(
        name="bits_per_byte.general",
        value=1.482,
        low=1.441,
        high=1.53,
        n=40,
        unit="bits per byte",
        better="lower",
        detail={"bytes": 400_000, "tokens": 130_000},
    )
    write_scores(folder / "bits_per_byte.json", [bits])
    wrong = [{"question": "What is 77 * 3?", "call": None, "answer": "<b>", "expected": 231}]
    signs = {sign: {"right": 48, "n": 50} for sign in "+-*/"}
    write_scores(
        folder / "arithmetic.json",
        [
            share("arithmetic.call", 193, 200),
            share("arithmetic.answer", 192, 200, {"by_operator": signs, "wrong": wrong}),
        ],
    )
    words = [share("languages.numbers", 55, 96), share("languages.names", 47, 56)]
    for index, code in enumerate(("en", "de", "fr", "it", "pt", "hi", "es", "th")):
        names = {"right": 6, "n": 8} if code != "en" else {"right": 0, "n": 0}
        detail = {"numbers": {"right": 11 - index, "n": 12}, "names": names}
        words.append(
            share(f"languages.{code}", 11 - index + names["right"], 12 + names["n"], detail)
        )
    write_scores(folder / "languages.json", words)
    write_scores(folder / "needle.json", list(needle_scores()))


def needle_scores() -> list[Score]:
    scores = []
    for when in ("before", "after"):
        for kind in ("found", "chosen"):
            for length in LENGTHS:
                right = 6 if when == "after" or length == 512 else kind == "chosen"
                by_depth = {depth: {"right": int(right), "n": 6} for depth in DEPTHS}
                by_depth["0.25"] = {"right": max(0, int(right) - 1), "n": 6}
                total = sum(counts["right"] for counts in by_depth.values())
                detail = {"length": length, "context": 512, "by_depth": by_depth}
                scores.append(share(f"needle.{when}.{kind}.{length}", total, 30, detail))
    return scores


def samples() -> list[dict[str, Any]]:
    call = {"name": "calculator", "arguments": {"query": "1234 * 5678"}, "result": "7006652"}
    return [
        {"question": "Hello!", "answer": "Hello! How can I help you?"},
        {
            "question": "What is 1234 * 5678?",
            "calls": [call],
            "answer": "1234 * 5678 = 7006652.",
        },
        {"question": "How do you say 21 in Thai?", "answer": "ยี่สิบเอ็ด"},
        {"question": "What is 'Germany' in Hindi?", "answer": "जर्मनी"},
    ]
