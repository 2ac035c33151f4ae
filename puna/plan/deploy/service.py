"""The facts of one service, which every kind of file is written from.

`puna deploy` makes it from a model, a load and the operator's wishes. A renderer is a function from
it to files (name -> text); none of them reads a disk or reaches a network.
"""

import re
from dataclasses import dataclass

from puna.errors import RequestError
from puna.plan.serving import GIB, Load, Needs

KEYS = "PUNA_KEYS"  # the variable of the environment that holds the keys, in every kind of file
PORT = 8000
USER = 10_001  # no user of the machine has it
LEAVING_S = 5  # until balancers have heard that a server ends
MARGIN_S = 10  # between the last answer and the end of the process

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One model under one name, as it shall run."""

    name: str  # of the service, and of the model for clients
    model: str  # the folder or file on the machine that it is copied from, or runs on
    needs: Needs
    load: Load
    disk_bytes: int  # of the model's files
    quantize: str | None = None
    replicas: int = 1
    drain_s: int = 30
    image: str = "puna:latest"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RequestError(
                f"--name: {self.name!r} was given; small letters, digits and hyphens, at most 42, "
                "with a letter first are expected."
            )
        if self.replicas < 1 or self.drain_s < 0:
            raise RequestError(
                f"deploy: replicas={self.replicas}, drain_s={self.drain_s}; at least 1 and 0 are "
                "expected."
            )
        if self.is_spread and self.quantize:
            raise RequestError(
                f"deploy: {self.name} takes {self.needs.gpus} devices also in {self.quantize}, and "
                "a model over several devices is served in the format of its weights. Leave "
                "--quantize out, or take a larger device."
            )
        if re.search(r"[\s'\"\\$`]", self.model):
            raise RequestError(
                f"deploy: {self.model!r}: a path without spaces, quotes, backslashes and dollars "
                "is expected. Rename it."
            )

    @property
    def is_spread(self) -> bool:
        """Whether one server takes more than one device."""
        return self.needs.gpus > 1

    def on_one_machine(self, *, where: str) -> None:
        """Stop where one machine is not enough, or would have to run several spread servers.

        Raises:
            RequestError: it is so.
        """
        if self.needs.nodes > 1:
            raise RequestError(
                f"deploy: {self.name} takes {self.needs.nodes} machines, and {where} runs on one. "
                "Use `puna deploy kubernetes` or `puna deploy slurm`, or fewer bits."
            )
        self.one_if_spread(where=where)

    def one_if_spread(self, *, where: str) -> None:
        """Stop where one command would have to start several servers of several devices.

        Raises:
            RequestError: it is so.
        """
        if self.is_spread and self.replicas > 1:
            raise RequestError(
                f"deploy: {self.replicas} replicas of {self.needs.gpus} devices each were asked "
                f"for; {where} starts one server over several devices. Leave --replicas out or use "
                "`puna deploy kubernetes`."
            )

    @property
    def stop_s(self) -> int:
        """Seconds from the signal to the last moment: answers in service may end."""
        return LEAVING_S + self.drain_s + MARGIN_S

    @property
    def memory_gib(self) -> int:
        """Memory of one machine, rounded up."""
        return -(-self.needs.host_bytes // GIB)

    @property
    def disk_gib(self) -> int:
        """Room for the model's files, with a tenth to spare."""
        return -(-int(self.disk_bytes * 1.1) // GIB)

    @property
    def cpus(self) -> int:
        """Processors of one machine: two a device, or one for every two GiB read at each token."""
        if self.needs.gpu is not None:
            return max(4, 2 * self.needs.gpus_a_node)
        return min(64, max(2, -(-self.needs.weight_bytes // (2 * GIB))))

    @property
    def start_s(self) -> int:
        """Seconds that a start may take: 200 MB of weights a second, assumed, and a minute."""
        return 60 + self.needs.weight_bytes // (200 * 10**6)

    def serve(self, model: str, *, port: int = PORT, replicas: int = 1) -> tuple[str, ...]:
        """Return the words of `puna serve`, with the model where it will lie."""
        words = ["serve", f"{self.name}={model}", "--host", "0.0.0.0", "--port", str(port)]
        words += ["--api-key-env", KEYS, "--drain-s", str(self.drain_s)]
        words += ["--max-running", str(self.load.running)]
        words += ["--cache-tokens", str(self.load.cache_tokens)]
        words += ["--quantize", self.quantize] if self.quantize else []
        words += ["--replicas", str(replicas)] if replicas > 1 else []
        if self.needs.tensor_parallel > 1:
            words += ["--tensor-parallel", str(self.needs.tensor_parallel)]
        if self.needs.pipeline_parallel > 1:
            words += ["--pipeline-parallel", str(self.needs.pipeline_parallel)]
        return tuple(words)

    @property
    def numbers(self) -> str:
        """The same numbers in one line, for comments."""
        return "; ".join(re.sub(" +", " ", line) for line in self.summary())

    def summary(self) -> list[str]:
        """Return the numbers that the files were written from, a line each."""
        needs = self.needs
        device = needs.gpu.title if needs.gpu else "processor"
        spread = f"{needs.gpus} x {device}" if needs.gpu else device
        if self.is_spread:
            spread += f" ({needs.tensor_parallel} share each matrix"
            spread += f", {needs.pipeline_parallel} stages" if needs.pipeline_parallel > 1 else ""
            spread += f", {needs.nodes} machine{'s' if needs.nodes > 1 else ''})"
        rows = [
            ("parameters", f"{needs.parameters:,}"),
            ("weights", f"{needs.weight_bytes / GIB:,.1f} GiB"),
            ("kv cache", f"{needs.cache_bytes / GIB:,.1f} GiB, {self.load.cache_tokens:,} tokens"),
            ("one step", f"{needs.work_bytes / GIB:,.2f} GiB"),
            ("on a device", f"{needs.device_bytes / GIB:,.1f} GiB at most"),
            ("devices", f"{spread}, for each of {self.replicas}" if self.replicas > 1 else spread),
            ("memory", f"{self.memory_gib:,} GiB a machine"),
            ("disk", f"{self.disk_gib:,} GiB"),
        ]
        return [f"{name:<12} {value}" for name, value in rows]
