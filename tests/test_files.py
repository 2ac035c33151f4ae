"""Files are whole or absent: under failure, under kill, and among writers of the same file."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from puna import files
from puna.files import atomic_file, atomic_folder, hash_json, sha256_file, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, text: str) -> None:
    (folder / "inner").mkdir()
    (folder / "weights").write_text(text)
    (folder / "inner" / "state").write_text(text)


def test_a_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert names(path.parent) == ["file.txt"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="No space"), atomic_file(path) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "step"
    for text in ("one", "two"):
        with atomic_folder(target) as partial:
            fill(partial, text)
    assert (target / "inner" / "state").read_text() == "two"
    assert names(tmp_path) == ["step"]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "step"
    with atomic_folder(target) as partial:
        fill(partial, "old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as partial:
        (partial / "weights").write_text("half")
        raise KeyboardInterrupt
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["step"]


def test_a_folder_is_kept_when_the_last_rename_fails(tmp_path: Path, monkeypatch) -> None:
    """Without an exchange in one step, the old folder stands aside: it must come back."""
    target = tmp_path / "step"
    with atomic_folder(target) as partial:
        fill(partial, "old")
    rename = Path.replace

    def refuse(self: Path, to: Path) -> Path:
        if Path(to) == target and "old" not in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(files.sys, "platform", "other")
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"), atomic_folder(target) as partial:
        fill(partial, "new")
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["step"]


def test_folders_change_places_without_the_system_call_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files.sys, "platform", "other")
    target = tmp_path / "step"
    for text in ("one", "two"):
        with atomic_folder(target) as partial:
            fill(partial, text)
    assert (target / "weights").read_text() == "two"
    assert names(tmp_path) == ["step"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "model").mkdir()
    (tmp_path / "disk" / "file").write_text("old")
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "model")
    (tmp_path / "file").symlink_to(tmp_path / "disk" / "file")
    write_text(tmp_path / "file", "new")
    with atomic_folder(tmp_path / "model") as partial:
        fill(partial, "new")
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "model").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "new"
    assert (tmp_path / "disk" / "model" / "weights").read_text() == "new"
    assert names(tmp_path / "disk") == ["file", "model"]


WRITER = """
import sys
from pathlib import Path
from puna.files import atomic_folder
target = Path(sys.argv[1])
number = 0
while True:
    number += 1
    with atomic_folder(target) as partial:
        for name in ("a", "b", "c"):
            (partial / name).write_text(str(number))
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "step"
    for pause_s in (0.0, 0.003, 0.011, 0.017):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(pause_s)
        writer.send_signal(signal.SIGKILL)
        writer.stdout.close()
        writer.wait()
        assert len({(target / name).read_text() for name in ("a", "b", "c")}) == 1
    with atomic_folder(target) as partial:
        (partial / "a").write_text("last")
    assert names(tmp_path) == ["step"], "what killed writers left is removed by the next"


def test_the_leavings_of_a_living_writer_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as first:
        first.write_text("first")
        write_text(path, "second")
        assert first.exists()
    assert path.read_text() == "first"


def test_many_threads_may_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    threads = [threading.Thread(target=write_text, args=(path, str(n) * 50_000)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text()
    assert text == text[0] * 50_000
    assert names(tmp_path) == ["file"]


def test_json_is_sorted_readable_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"b": "é", "a": [1, None]})
    assert (
        path.read_text(encoding="utf-8") == '{\n  "a": [\n    1,\n    null\n  ],\n  "b": "é"\n}\n'
    )


def test_a_file_name_in_another_encoding_can_be_written_and_hashed(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.html")
    write_json(tmp_path / "facts.json", {"page": name})
    assert json.loads((tmp_path / "facts.json").read_text()) == {"page": name}
    assert hash_json([name]) != hash_json(["caf.html"])


def test_a_number_that_json_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "facts.json", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_hashes_do_not_depend_on_the_order_of_keys() -> None:
    assert hash_json({"a": 1, "b": (2, 3)}) == hash_json({"b": [2, 3], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2})


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    """The empty file's digest is the well-known one of FIPS 180-4's empty message."""
    (tmp_path / "empty").touch()
    known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_file(tmp_path / "empty") == known


def test_a_full_disk_leaves_the_previous_file(tmp_path: Path) -> None:
    """A limit on file sizes makes the system itself refuse, as a full disk does."""
    import resource

    path = tmp_path / "file"
    write_text(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with contextlib.suppress(OSError):
            write_text(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]
