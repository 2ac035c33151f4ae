"""A container image and a Compose file.

The image is built from a clone of puna; the model is never in it, but mounted, read only. Compose
starts one server, which runs its own replicas. Sources: Dockerfile reference; Compose
specification.
"""

from puna.plan.deploy.service import KEYS, PORT, USER, Service
from puna.plan.deploy.yaml_text import Value, to_yaml

# The compiler stays in the first stage; the second has what runs.
_DOCKERFILE = """\
# {name}: build it in a clone of puna, with this file beside pyproject.toml:
#   docker build --tag {image} --file Dockerfile .
FROM python:3.11-slim-bookworm AS build
# The version of a compiler does not matter here, so none is named.
# hadolint ignore=DL3008
RUN apt-get update \\
    && apt-get install --yes --no-install-recommends g++ make \\
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/puna
COPY . /src
WORKDIR /src
RUN /opt/puna/bin/pip install --no-cache-dir --constraint constraints.txt '.[{extras}]'

FROM python:3.11-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \\
    && apt-get install --yes --no-install-recommends libgomp1 \\
    && rm -rf /var/lib/apt/lists/* \\
    && useradd --system --uid {user} --no-create-home --shell /usr/sbin/nologin puna
COPY --from=build /opt/puna /opt/puna
ENV PATH=/opt/puna/bin:$PATH PUNA_HOME=/tmp/puna HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0
USER {user}
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period={start_s}s --retries=3 \\
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/health')"]
ENTRYPOINT ["puna"]
CMD ["--help"]
"""

_IGNORED = """\
.git
.venv
build
dist
runs
**/__pycache__
"""


def dockerfile(service: Service) -> str:
    """Return the recipe of the image."""
    return _DOCKERFILE.format(
        name=service.name, image=service.image, user=USER, port=PORT, start_s=service.start_s,
        extras="serve,cluster" if service.replicas > 1 else "serve",
    )  # fmt: skip


def docker(service: Service) -> dict[str, str]:
    """Return the Dockerfile, what it leaves out, and the Compose file.

    Raises:
        RequestError: one machine does not hold what was asked for.
    """
    service.on_one_machine(where="Compose")
    said = (
        f"docker compose up --detach\n{KEYS} must be set, in the environment or in a file .env "
        f"that nobody else reads.\nNumbers: {service.numbers}"
    )
    return {
        "Dockerfile": dockerfile(service),
        ".dockerignore": _IGNORED,
        "compose.yaml": to_yaml(
            {"name": service.name, "services": _services(service)}, comment=said
        ),
    }


def _services(service: Service) -> dict[str, Value]:
    """Return the one service of the Compose file."""
    needs = service.needs
    memory = service.memory_gib * (1 if needs.gpu else service.replicas)
    resources: dict[str, Value] = {
        "limits": {"cpus": str(service.cpus * service.replicas), "memory": f"{memory}g"}
    }
    if needs.gpu:
        device: dict[str, Value] = {
            "driver": "nvidia", "count": needs.gpus * service.replicas, "capabilities": ["gpu"]
        }  # fmt: skip
        resources["reservations"] = {"devices": [device]}
    return {
        "puna": {
            "image": service.image,
            "build": ".",
            **entry_of(service),
            "ports": [f"127.0.0.1:{PORT}:{PORT}"],  # a proxy with TLS stands before it
            "environment": {KEYS: f"${{{KEYS}:?one or more, with commas between}}"},
            "volumes": [
                {"type": "bind", "source": service.model, "target": f"/models/{service.name}",
                 "read_only": True},
            ],
            "user": f"{USER}:{USER}",
            "read_only": True,
            "tmpfs": ["/tmp"],
            "shm_size": "2gb",  # Ray and the devices' exchange
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "init": True,
            "restart": "unless-stopped",
            "stop_grace_period": f"{service.stop_s}s",
            "deploy": {"resources": resources},
        }
    }  # fmt: skip


def entry_of(service: Service) -> dict[str, Value]:
    """Return what a container runs: puna, or one puna a device."""
    words = service.serve(f"/models/{service.name}", replicas=service.replicas)
    if not service.is_spread:
        return {"command": list(words)}
    count = str(service.needs.gpus_a_node)
    start = ["torchrun", "--standalone", "--nproc-per-node", count, "-m", "puna"]
    return {"entrypoint": start, "command": list(words)}
