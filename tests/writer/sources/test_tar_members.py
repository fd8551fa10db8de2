"""The headers of tar: as Python's tarfile reads them, or refused."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

from recordio import SourceError
from recordio.writer.sources.archives.tar_members import (
    FILE,
    FOLDER,
    HARDLINK,
    SYMLINK,
    TarMember,
    ahead,
    tar_members,
)
from tests.writer.sources.packing import END, header, member, pax


def listed(data: bytes) -> list[TarMember]:
    return list(tar_members(lambda start, nbytes: data[start : start + nbytes], len(data)))


def by_tarfile(data: bytes) -> list[tuple[bytes, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [
            (m.name.encode("utf-8", "surrogateescape"), m.offset_data, m.size)
            for m in archive.getmembers()
            if m.isreg()
        ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "names",
    [
        ["a", "b/c.jpg", "./d/./e.txt", "f g\nh"],
        ["x" * 99, "y" * 100, "folder/" * 20 + "z" * 90],
        ["ü/€.jpg", "\udcff.bin"],
    ],
)
def test_members_are_those_of_tarfile(form: int, names: list[str]) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 300 * number
            archive.addfile(info, io.BytesIO(bytes(300 * number)))
    found = [(m.name, m.start, m.nbytes) for m in listed(out.getvalue()) if m.kind == FILE]
    assert found == by_tarfile(out.getvalue())
    assert len(found) == len(names)


def test_long_names_take_two_headers_in_gnu_and_in_pax() -> None:
    long = "n" * 300
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            archive.addfile(tarfile.TarInfo("first"))
            archive.addfile(tarfile.TarInfo(long))
        assert [(m.name.decode(), m.header, m.start > m.header + 512) for m in listed(out.getvalue())] == [
            ("first", 0, False),
            (long, 512, True),
        ]


def test_links_folders_and_devices_have_their_kinds_and_no_data() -> None:
    data = member(b"a", b"", SYMLINK, b"to") + member(b"b", b"", HARDLINK, b"to") + member(b"c/", b"", b"\0")
    data += header(b"d", 1 << 32, b"5") + header(b"e", 0, b"3") + END
    assert [(m.kind, m.link, m.nbytes) for m in listed(data)] == [
        (SYMLINK, b"to", 0),
        (HARDLINK, b"to", 0),
        (FOLDER, b"", 0),
        (FOLDER, b"", 0),
        (b"3", b"", 0),
    ]


def test_sparse_files_are_told_apart() -> None:
    data = pax(GNU_sparse_major=b"1", GNU_sparse_name=b"real") + member(b"x", b"1234") + member(b"after") + END
    assert [(m.name, m.kind) for m in listed(data)] == [(b"real", b"S"), (b"after", FILE)]


def test_pax_size_counts_and_not_that_of_the_header() -> None:
    found = listed(pax(size=b"600", path=b"p") + header(b"x", 0) + bytes(1024) + member(b"next") + END)
    assert [(m.name, m.nbytes) for m in found] == [(b"p", 600), (b"next", 0)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no tar" * 100, "header at byte 0 is damaged, or this is no tar archive"),
        (member(b"a") + b"x" * 512, "header at byte 512 is damaged"),
        (member(b"a")[:300], "cut off within the header at byte 0"),
        (header(b"a", 1000) + bytes(100), "cut off: 'a' ends behind its end"),
        (header(b"a", 0, size=b"\xff" * 12), "negative length"),
        (header(b"a", 0, size=b"\x80" + b"\xff" * 11), "ends behind its end"),
        (header(b"a", 0, size=b"8qqqqqqqqqq\0"), "where a number belongs"),
        (header(b"x", 1 << 32, b"x"), "announces 4294967296 bytes of names"),
        (header(b"x", 1 << 32, b"L"), "announces"),
        (header(b"x", 600, b"L") + bytes(512), "cut off within the header"),
        (member(b"x", b"0 a=b\n", b"x") + member(b"a"), "pax header is damaged at its byte 0"),
        (member(b"x", b"9" * 600 + b" a=b\n", b"x"), "pax header is damaged"),
        (pax(size=b"-5") + member(b"a"), "where a length belongs"),
        (pax(size=b"9" * 30) + member(b"a"), "where a length belongs"),
        (pax(b"g", path=b"same") + member(b"a"), "gives all members one path"),
    ],
)
def test_damaged_headers_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        listed(data)


def test_many_headers_about_one_member_are_no_recursion() -> None:
    data = member(b"././@LongLink", b"abc\0", b"L") * 3000 + member(b"a") + END
    assert [m.name for m in listed(data)] == [b"abc"]


def test_changed_bytes_give_members_or_our_error(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a.jpg", "n" * 200, "ü"):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"12345"))
    chance = random.Random(1)
    refused = 0
    for _ in range(500):
        data = bytearray(out.getvalue())
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(4096)] = chance.choice([0, 255, 48, 57, 32, chance.randrange(256)])
        try:
            members = listed(bytes(data[: chance.choice([len(data), chance.randrange(len(data))])]))
        except SourceError:
            refused += 1
        else:
            assert all(0 <= m.header < m.start <= m.start + m.nbytes <= len(data) for m in members)
    assert 0 < refused < 500


def test_headers_that_lie_close_together_are_read_at_once() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(50):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size, info.mtime = 1 if number % 5 else 9_000, 0.5  # a fraction of a second takes a pax header
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    data, reads = out.getvalue(), []

    def read(start: int, nbytes: int) -> bytes:
        reads.append(start)
        return data[start : start + nbytes]

    assert list(tar_members(ahead(read), len(data))) == listed(data)
    assert len(reads) < 50
    assert list(tar_members(ahead(read), len(data) - 1024)) == list(tar_members(read, len(data) - 1024))
