"""How much a session may use: of memory, time, processes, disk and words.

A call that reaches a limit is ended and told which one it was; nothing is cut in silence. The
sizes fit a data set of some hundred megabytes with numpy, pandas and matplotlib.
"""

from dataclasses import dataclass, fields

from puna.errors import RequestError

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one session; the times count for each call."""

    wall_s: float = 30.0  # from the call to its result
    cpu_s: float = 30.0  # of all processes and threads together
    memory_bytes: int = 1024 * MIB  # resident, of all processes together
    address_bytes: int = 4096 * MIB  # mapped by one process; a larger request is a MemoryError
    processes: int = 64  # and threads
    open_files: int = 256  # of one process
    file_bytes: int = 256 * MIB  # of one file
    disk_bytes: int = 512 * MIB  # that the folder may grow by, and at most in one session
    scratch_bytes: int = 64 * MIB  # of the temporary folder, which lies in memory
    files: int = 10_000  # that the folder may hold more than at the start
    output_bytes: int = 7_000  # of each stream of one call that the model is shown
    cores: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise RequestError(
                    f"sandbox limits: {field.name}={value}; more than 0 is expected. "
                    "A limit cannot be switched off; give a large one."
                )
