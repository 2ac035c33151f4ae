"""`puna deploy`: the files that describe a service, with the numbers of its model in them."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.plan.deploy.weights import ModelFacts
    from puna.plan.serving import Load, Needs

Target = Literal["docker", "kubernetes", "systemd", "slurm"]


def deploy(
    target: Target,
    model: str,
    /,
    *,
    out: Path | None = None,
    gpu: str | None = None,
    quantize: Literal["int8", "int4", "fp8"] | None = None,
    running: int = 16,
    tokens: int | None = None,
    replicas: int = 1,
    name: str | None = None,
    image: str = "puna:latest",
    drain_s: int = 30,
) -> None:
    """Write the files that run a model as a service; nothing is sent anywhere.

    docker gives a Dockerfile and a Compose file, kubernetes the manifests, systemd a hardened unit,
    slurm a batch script. Memory, devices and disk are counted from the model's shape, the format
    of its weights and the load. Read the files before you use them.

    For example:
      puna deploy kubernetes llama-3.1-8b --gpu l40s --replicas 3 --out deploy/
      puna deploy slurm llama-3.1-405b --gpu h100
      puna deploy systemd runs/cria > cria.service

    Args:
        target: docker, kubernetes, systemd or slurm.
        model: A run folder, a Hugging Face or Meta folder, a .gguf file; or the name of a released
            size, llama-3.1-8b, to plan before its weights are there.
        out: The folder for the files; without it they are printed.
        gpu: h200, h100, a100, a100-40, l40s or l4; without it the processor serves.
        quantize: Round the weights on the way: int8, int4 or fp8.
        running: Answers that are written at the same time.
        tokens: Of each of them with its prompt; 8,192 or the context, if that is shorter.
        replicas: Servers, each with devices of its own.
        name: Of the service, and of the model for clients.
        image: Of the container.
        drain_s: Seconds that running answers have when a server must end.
    """
    from puna.log import note
    from puna.plan.deploy.service import Service
    from puna.plan.deploy.targets import RENDERERS
    from puna.plan.deploy.weights import look_at
    from puna.plan.serving import Load

    _check(target)
    facts = look_at(model, quantize=quantize, has_gpu=gpu is not None)
    load = Load(running=running, tokens=tokens or min(8192, facts.config.context))
    needs = _needs(facts, load, gpu)
    service = Service(
        name=name or facts.name, model=facts.path, load=load, disk_bytes=facts.disk_bytes,
        quantize=quantize, replicas=replicas, drain_s=drain_s, image=image, needs=needs,
    )  # fmt: skip
    files = RENDERERS[target](service)
    for line in service.summary():
        note(line)
    _write(files, out)


def _check(target: str) -> None:
    """Stop on a name that is no target: Python, unlike the command line, lets it through."""
    if target not in get_args(Target):
        raise RequestError(f"deploy: {target!r}; one of {', '.join(get_args(Target))} is expected.")


def _needs(facts: "ModelFacts", load: "Load", gpu: str | None) -> "Needs":
    """Count the devices; over several, weights of few bits are widened as they are loaded."""
    from puna.plan.serving import needs_of

    needs = needs_of(facts.config, load, kind=facts.kind, gpu=gpu, stored_bytes=facts.stored_bytes)
    if needs.gpus > 1 and facts.stored_bytes is not None:
        return needs_of(facts.config, load, kind=facts.kind, gpu=gpu)
    return needs


def _write(files: dict[str, str], out: Path | None) -> None:
    """Write files into a folder and name each, or print them where there is none."""
    if out is None:
        print(_joined(files), end="")
        return
    out.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (out / file).write_text(text, encoding="utf-8")
        print(out / file)


def _joined(files: dict[str, str]) -> str:
    """Return files in one text; where there are several, each under its name."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "\n".join(f"# ===== {name}\n{text}" for name, text in files.items())
