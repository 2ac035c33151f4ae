"""The plan of one session: all that the launcher must know, as plain values.

It travels once, from puna's process to the launcher that it starts, both of which are trusted.
The files of this room from `plan` to `worker` run in that launcher before any foreign code does.
They are written for a start of some milliseconds: no dataclasses, typing, json, pathlib or
contextlib in them, since importing those takes longer than making the sandbox.
"""

import marshal


class Plan:
    """What is shown to the code, what it may use, and how it is walled in."""

    __slots__ = (
        "address_bytes",
        "cores",
        "cpu_s",
        "disk_bytes",
        "environment",
        "file_bytes",
        "files",
        "folder",
        "group",
        "import_paths",
        "library",
        "memory_bytes",
        "open_files",
        "output_bytes",
        "owner",
        "owner_group",
        "parent",
        "processes",
        "python",
        "scratch",
        "scratch_bytes",
        "shown",
        "temporary",
        "user",
        "wall_s",
        "way",
    )

    way: str  # "bubblewrap", "namespaces", "landlock" or "none"
    parent: int  # the process id that the session must not outlive
    folder: str  # where the code reads and writes, outside
    scratch: str  # a temporary folder, where no own one can be mounted
    temporary: list[str]  # folders that go with the session
    shown: list[str]  # folders and files that may be read, without links in their paths
    python: str  # the interpreter
    library: str  # the folder of this package
    import_paths: list[str]
    environment: dict[str, str]
    owner: int  # of the folder
    owner_group: int
    user: int  # who the code runs as; the present user where it is the same
    group: int
    wall_s: float
    cpu_s: float
    memory_bytes: int
    address_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    disk_bytes: int
    scratch_bytes: int
    files: int
    output_bytes: int
    cores: int

    def __init__(self, values: dict[str, object]) -> None:
        for name in self.__slots__:
            setattr(self, name, values[name])

    def packed(self) -> bytes:
        """Return the plan as bytes for `unpacked` in the same version of Python."""
        return marshal.dumps({name: getattr(self, name) for name in self.__slots__})

    @staticmethod
    def unpacked(text: bytes) -> "Plan":
        """Return the plan whose bytes are given; only for bytes of a trusted process."""
        return Plan(marshal.loads(text))

    @property
    def is_namespaced(self) -> bool:
        """Whether the session has a process tree and a file system of its own."""
        return self.way in ("bubblewrap", "namespaces")
