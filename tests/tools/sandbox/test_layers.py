"""Each wall on its own: what must be there, and what happens where it is not."""

import dataclasses
import os
from pathlib import Path

import pytest

from puna.tools.sandbox import confine, group, landlock, layers, runtime
from puna.tools.sandbox.limits import Limits
from puna.tools.sandbox.plan import Plan
from puna.tools.sandbox.session import WAYS
from tests.tools.sandbox.ways import any_way


def plan_for(way: str) -> Plan:
    return Plan(
        dataclasses.asdict(Limits())
        | {
            "way": way,
            "parent": 1,
            "folder": "/somewhere",
            "scratch": "/elsewhere",
            "shown": ["/usr"],
            "temporary": [],
            "python": "/usr/bin/python3",
            "library": "/usr/lib",
            "import_paths": [],
            "environment": {},
            "owner": 1000,
            "owner_group": 1000,
            "user": 1000,
            "group": 1000,
        }
    )


def test_a_plan_travels_whole() -> None:
    plan = plan_for("namespaces")
    again = Plan.unpacked(plan.packed())
    assert {name: getattr(again, name) for name in Plan.__slots__} == {
        name: getattr(plan, name) for name in Plan.__slots__
    }


def test_landlock_alone_needs_landlock_and_the_filter(monkeypatch) -> None:
    confine.check_walls(plan_for("namespaces"), alone=False)
    monkeypatch.setattr(landlock, "version", lambda: 0)
    with pytest.raises(OSError, match="this kernel has no Landlock"):
        confine.check_walls(plan_for("landlock"), alone=True)
    confine.check_walls(plan_for("namespaces"), alone=False)
    monkeypatch.setattr(landlock, "version", lambda: 3)
    facts = os.uname()
    other = os.uname_result((*facts[:4], "s390x"))
    monkeypatch.setattr(confine.os, "uname", lambda: other)
    confine.check_walls(plan_for("namespaces"), alone=False)
    for way in ("landlock", "namespaces"):
        with pytest.raises(OSError, match="no filter of system calls for s390x"):
            confine.check_walls(plan_for(way), alone=True)


def test_a_group_is_made_where_memory_can_be_limited(monkeypatch, tmp_path: Path) -> None:
    """A tree as systemd makes it for a user: the own group is a leaf, limits live beside it."""
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    (tmp_path / "user/app").mkdir(parents=True)
    table = tmp_path / "table"
    table.write_text("1:name=systemd:/x\n0::/user/app\n")
    made = os.mkdir

    def mkdir(path: str) -> None:
        made(path)
        if "/app/" not in path:
            for name in ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs"):
                Path(path, name).write_text("max")

    monkeypatch.setattr(group.os, "mkdir", mkdir)
    plan = plan_for("namespaces")
    folder = group.make_group(plan, tops=(str(tmp_path),), table=str(table))
    assert folder == f"{tmp_path}/user/puna-{os.getpid()}"
    assert Path(folder, "pids.max").read_text() == str(plan.processes + 2)
    assert int(Path(folder, "memory.max").read_text()) > plan.memory_bytes
    assert not list((tmp_path / "user/app").iterdir())
    assert group.join_group(folder)
    assert Path(folder, "cgroup.procs").read_text() == "0"


def test_without_the_right_to_make_a_group_there_is_none(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text("0::/user\n")
    assert group.make_group(plan_for("none"), tops=(str(tmp_path),), table=str(table)) == ""
    assert not group.join_group("")
    group.remove_group("")


def test_the_code_gets_no_variable_of_the_parent(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("LD_PRELOAD", "secret")
    assert "secret" not in " ".join(runtime.environment(home="/tmp", cores=2).values())


def test_the_users_other_threads_do_not_use_up_the_limit() -> None:
    assert runtime.crowd(os.geteuid()) >= 1
    assert runtime.counts_by_namespace("6.1.0-13-amd64")
    assert runtime.counts_by_namespace("5.14.21")
    assert not runtime.counts_by_namespace("5.10.0-rc1")
    assert not runtime.counts_by_namespace("4.19")


def test_what_is_shown_holds_no_home_and_no_keys() -> None:
    shown = [Path(path) for path in runtime.shown()]
    for private in (Path.home(), Path("/etc"), Path("/"), Path("/var"), Path("/tmp")):
        assert private not in shown
        assert not any(private.is_relative_to(path) for path in shown if path != private)


def test_every_wall_of_a_working_protection_holds() -> None:
    any_way()
    rows = {row.name: row for row in layers.look()}
    assert rows["protection"].is_active
    for wall in layers.WALLS:
        assert rows[wall].is_active, wall
    assert set(WAYS) <= set(rows)


def test_a_machine_without_protection_is_told_what_to_do(monkeypatch) -> None:
    failed = layers.Attempt(reason="not permitted")
    monkeypatch.setattr(layers, "attempt", lambda way: failed)
    rows = {row.name: row for row in layers.look()}
    assert rows["protection"].detail == "none: the code of a model does not run"
    assert "bubblewrap" in rows["protection"].advice
    assert "user namespaces" in rows["namespaces"].advice
    assert rows["namespaces"].detail == "not permitted"
