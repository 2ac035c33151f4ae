"""Sessions behind every protection that works here, with small limits."""

import dataclasses
from collections.abc import Iterator

import pytest

from puna.tools.sandbox.limits import Limits
from puna.tools.sandbox.session import WAYS, Session
from tests.tools.sandbox.ways import any_way, need

MIB = 2**20
SMALL = Limits(
    wall_s=1.5,
    cpu_s=1.2,
    memory_bytes=160 * MIB,
    address_bytes=512 * MIB,
    processes=24,
    open_files=64,
    file_bytes=8 * MIB,
    disk_bytes=24 * MIB,
    scratch_bytes=4 * MIB,
    files=200,
    output_bytes=2000,
)

QUICK = dataclasses.replace(SMALL, wall_s=1.0, cpu_s=0.8)


@pytest.fixture(params=WAYS, scope="module")
def way(request: pytest.FixtureRequest) -> str:
    return need(str(request.param))


@pytest.fixture(params=["the strongest", "landlock"], scope="module")
def counted(request: pytest.FixtureRequest) -> str:
    """The ways that count differently: with a process tree of their own, and without."""
    return need("landlock") if request.param == "landlock" else any_way()


@pytest.fixture
def session(way: str) -> Iterator[Session]:
    """A fresh session behind one protection."""
    with Session(limits=SMALL, ways=[way]) as made:
        yield made


@pytest.fixture(scope="module")
def notebook() -> Iterator[Session]:
    """One session that the tests of a file share, behind the first protection that works."""
    with Session(limits=SMALL, ways=[any_way()]) as made:
        yield made
