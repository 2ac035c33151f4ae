"""What a service can be written for."""

from collections.abc import Callable, Mapping

from puna.plan.deploy.docker import docker
from puna.plan.deploy.kubernetes import kubernetes
from puna.plan.deploy.service import Service
from puna.plan.deploy.slurm import slurm
from puna.plan.deploy.systemd import systemd

RENDERERS: Mapping[str, Callable[[Service], dict[str, str]]] = {
    "docker": docker, "kubernetes": kubernetes, "systemd": systemd, "slurm": slurm
}  # fmt: skip
