"""Memory and file systems, as the system describes them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from recordio.storage import machine
from recordio.storage.machine import available_nbytes, file_system, is_in_memory, is_network

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up /proc and /sys/fs/cgroup."""
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n")
    (tmp_path / "self" / "cgroup").write_text("")
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "groups")
    return tmp_path


def group(system: Path, path: str, **files: str) -> None:
    folder = system / "groups" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_max", ".max")).write_text(text)


def test_memory_is_what_the_system_has_available(system: Path) -> None:
    assert available_nbytes() == 16 * GIB


@pytest.mark.parametrize(
    ("inner", "outer", "want"),
    [("max", "max", 16), (str(GIB), "max", 1), ("max", str(2 * GIB), 2), (str(64 * GIB), "max", 16)],
)
def test_the_limit_of_a_control_group_counts_and_of_every_group_around_it(
    system: Path, inner: str, outer: str, want: int
) -> None:
    (system / "self" / "cgroup").write_text("0::/jobs/mine\n")
    group(system, "jobs", memory_max=outer)
    group(system, "jobs/mine", memory_max=inner)
    assert available_nbytes() == want * GIB


def test_the_limit_of_version_1_counts(system: Path) -> None:
    (system / "self" / "cgroup").write_text("8:pids:/\n4:cpu,memory:/mine\n0::/\n")
    group(system, "memory/mine", **{"memory.limit_in_bytes": str(GIB)})
    assert available_nbytes() == GIB


def test_a_group_that_cannot_be_seen_is_that_of_the_mount(system: Path) -> None:
    """In a container the path is often that of the host."""
    (system / "self" / "cgroup").write_text("0::/docker/123\n")
    group(system, "", memory_max=str(3 * GIB))
    assert available_nbytes() == 3 * GIB


def test_without_any_of_that_it_is_the_physical_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PROC", tmp_path / "none")
    assert available_nbytes() > 64 << 20


@pytest.mark.parametrize("text", [b"", b"odd\n", b"0::/jobs/\xff\n", b"0::/jobs/a\0b\n", b"\n0::/jobs/..\n", b"1:2\n"])
def test_odd_control_groups_are_no_error(system: Path, text: bytes) -> None:
    (system / "self" / "cgroup").write_bytes(text)
    assert available_nbytes() == 16 * GIB


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (b"odd\n1 2 0:0 / /data rw - nfs4 a:/b rw\n", "nfs4"),
        (b"1 2 0:0 / /\xff\xfe rw - ext4 a rw\n1 2 0:0 / /data rw - nfs4 a:/b rw\n", "nfs4"),
        (b"1 2 0:0 / / rw - ext4 a rw\n1 2 0:0 / /data/a\\040b\\134 rw - nfs4 a:/b rw\n", "nfs4"),
        (b"1 2 0:0 / relative rw - ext4 a rw\n1 2 0:0 / / rw - nfs4 a:/b rw\n", "nfs4"),
        (b"", ""),
    ],
)
def test_odd_mounts_hide_no_other(system: Path, lines: bytes, kind: str) -> None:
    (system / "self" / "mountinfo").write_bytes(lines)
    machine._file_system_of.cache_clear()
    try:
        assert machine._file_system_of(1 << 40, "/data/a b\\/it") == kind
    finally:
        machine._file_system_of.cache_clear()


def test_this_system_has_memory() -> None:
    assert 64 << 20 < available_nbytes() < 1 << 50


def test_file_system_of_a_folder(tmp_path: Path) -> None:
    assert file_system("/proc") == "proc"
    assert file_system(str(tmp_path)) not in ("", "proc")
    (tmp_path / "link").symlink_to("/proc/self")
    assert file_system(str(tmp_path / "link")) == "proc"
    assert file_system(str(tmp_path / "missing")) == ""


@pytest.mark.parametrize(
    ("kind", "network", "memory"),
    [
        ("ext4", False, False),
        ("nfs4", True, False),
        ("fuse.sshfs", True, False),
        ("tmpfs", False, True),
        ("", False, False),
    ],
)
def test_kinds_of_file_systems(kind: str, network: bool, memory: bool) -> None:
    assert (is_network(kind), is_in_memory(kind)) == (network, memory)


@pytest.mark.parametrize(
    ("limit", "part", "share"),
    [(64, 8, 8), (3, 8, 1), (1024, 16, 64), (1 << 20, 8, 4096), (resource.RLIM_INFINITY, 8, 4096)],
)
def test_a_share_of_the_files_that_may_be_open(
    monkeypatch: pytest.MonkeyPatch, limit: int, part: int, share: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    assert machine.share_of_files(part) == share
