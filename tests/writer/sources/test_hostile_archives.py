"""Archives of strangers: members that would leave the folder, lie about their lengths, or fill the disk."""

from __future__ import annotations

import os
import random
import stat
import zipfile
from pathlib import Path

import pytest

from recordio import SourceError
from recordio.writer.sources import find_sources
from recordio.writer.sources.archives import compression
from recordio.writer.sources.archives.archive_paths import forget_archives, open_archive
from tests.writer.sources.packing import END, ENDINGS, header, member, pack, packed, pax, tar, zipped
from tests.writer.sources.test_folders import fill, samples
from tests.writer.sources.test_layouts import only, said


@pytest.fixture(autouse=True)
def _forget() -> None:
    forget_archives()


class TestLinks:
    def test_links_inside_the_archive_are_followed(self, tmp_path: Path) -> None:
        data = member(b"a/1.txt", b"one") + member(b"a/2.txt", b"", b"2", b"1.txt")
        data += member(b"b/3.txt", b"", b"2", b"../a/2.txt") + member(b"b/4.txt", b"", b"1", b"a/1.txt") + END
        assert [sample["text"] for sample in samples(only(packed(tmp_path, data)))] == ["one"] * 4

    @pytest.mark.parametrize(
        ("kind", "target", "message"),
        [
            (b"2", b"/etc/passwd", "leads out of the archive: '/etc/passwd'"),
            (b"2", b"../../etc/passwd", "leads out of the archive"),
            (b"2", b"x.txt", "leads to no file in the archive"),
            (b"2", b"2.txt", "leads to no file in the archive"),
            (b"1", b"/etc/passwd", "leads to no member before it"),
            (b"1", b"../x", "leads to no member before it"),
            (b"3", b"", r"a device, a pipe or the like \(type '3'\)"),
            (b"6", b"", "a device, a pipe or the like"),
            (b"S", b"", "a sparse file"),
        ],
    )
    def test_others_are_errors_of_their_samples(self, tmp_path: Path, kind: bytes, target: bytes, message: str) -> None:
        data = member(b"a/1.txt", b"one") + member(b"a/2.txt", b"", kind, target) + END
        good, bad = samples(only(packed(tmp_path, data)))
        assert good["text"] == "one"
        with pytest.raises(SourceError, match=message):
            raise bad

    def test_links_of_zip(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("a/1.txt", "one")
            for name, target in (("a/2.txt", "1.txt"), ("a/3.txt", "../../secret")):
                info = zipfile.ZipInfo(name)
                info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, target)
        first, second, third = samples(only(str(tmp_path / "x.zip")))
        assert first["text"] == second["text"] == "one"
        assert "leads out of the archive: '../../secret'" in str(third)


class TestHostileTar:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (member(b"../x", b"1"), r"'\.\./x' leads out of the archive"),
            (member(b"/etc/x", b"1"), "leads out of the archive"),
            (member(b"a/../../x", b"1"), "leads out of the archive"),
            (pax(path=b"a\0b") + member(b"x"), "or has a name that no file can have"),
            (pax(path=b"n" * 5000) + member(b"x"), "has more than 4096 bytes"),
            (pax(path=b"d/" * 101 + b"x") + member(b"x"), "or 100 folders"),
            (member(b"a", b"1") + member(b"a/b", b"2"), "'a' is a file, and a folder"),
            (member(b"a", b"", b"2", b"/etc") + member(b"a/passwd", b"2"), "'a' is a file, and a folder"),
            (member(b"", b"1"), "a member has no name"),
            (header(b"x", 5000), "cut off"),
        ],
    )
    def test_is_refused_by_name(self, tmp_path: Path, data: bytes, message: str) -> None:
        with pytest.raises(SourceError, match=message) as found:
            find_sources(packed(tmp_path, data + END))
        assert "x.tar" in str(found.value)

    def test_of_two_members_with_one_name_the_last_counts(self, tmp_path: Path) -> None:
        data = member(b"a/1.txt", b"old") + member(b"b/1.txt", b"b") + member(b"./a/1.txt", b"new") + END
        source = only(packed(tmp_path, data))
        assert [sample["text"] for sample in samples(source)] == ["new", "b"]
        assert "more than once, the last counts: 'a/1.txt' (1 in all)" in said(source)

    def test_a_missing_end_and_what_follows_it_are_told(self, tmp_path: Path) -> None:
        data = member(b"a/1.txt", b"a") + member(b"b/1.txt", b"b")
        assert "no end mark" in said(only(packed(tmp_path, data)))
        assert "bytes behind the end mark are not read: 1,536" in said(only(packed(tmp_path, data + END + b"x" * 512)))

    def test_names_with_newlines_are_names(self, tmp_path: Path) -> None:
        source = only(packed(tmp_path, tar({"a\nb/1\n.txt": b"x", "c/2.txt": b"y"})))
        assert source.metadata == {"classes": ["a\nb", "c"]}

    def test_a_bomb_is_refused_before_the_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compression, "_FREE", 1 << 20)
        path = pack(fill(tmp_path / "d", {"a.txt": bytes(4 << 20)}), tmp_path / "d.tar.xz")
        with pytest.raises(SourceError, match="unpacks to more than 250 times its size"):
            find_sources(str(path))

    def test_packed_data_that_ends_early_is_refused(self, tmp_path: Path) -> None:
        for ending in ENDINGS[2:]:
            path = pack(fill(tmp_path / "d", {"a/1.txt": os.urandom(3000).hex()}), tmp_path / f"d{ending}")
            path.write_bytes(path.read_bytes()[:-40])
            with pytest.raises(SourceError, match="data cannot be read to its end"):
                find_sources(str(path))


def patched(path: Path, old: bytes, new: bytes, central: bool = True) -> None:
    """Changes bytes at an offset of the first entry in the list of a zip, or of its local header."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\1\2" if central else b"PK\3\4")
    at = start + int.from_bytes(old, "little")
    data[at : at + len(new)] = new
    path.write_bytes(bytes(data))


class TestHostileZip:
    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["../x.txt"], r"'\.\./x\.txt' leads out"),
            (["/etc/x.txt"], "leads out"),
            (["a.txt", "a.txt/b.txt"], "'a.txt' is a file, and a folder"),
            (["d/" * 101 + "x"], "or 100 folders"),
        ],
    )
    def test_names_are_refused(self, tmp_path: Path, names: list[str], message: str) -> None:
        with pytest.raises(SourceError, match=message):
            find_sources(str(zipped(tmp_path, dict.fromkeys(names, b"1"))))

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_members_of_one_name_are_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("a/1.txt", "1")
            archive.writestr("a/./1.txt", "2")
        with pytest.raises(SourceError, match=r"two members are called 'a/1\.txt'"):
            find_sources(str(tmp_path / "x.zip"))

    @pytest.mark.parametrize(
        ("at", "new", "message"),
        [
            (8, b"\1\0", r"'a/1\.txt' is encrypted"),
            (10, b"\x0c\0", r"in a way that is not read \(method 12\)"),
            (20, b"\0\0\0\x70", "ends behind its end"),
            (20, b"\xff\xff\0\0", "ends behind its end"),
            (42, b"\0\0\0\x70", "ends behind its end"),
            (24, b"\0\0\0\x70", "unpacks to more than 250 times"),
        ],
    )
    def test_lengths_and_flags_that_lie_are_refused(self, tmp_path: Path, at: int, new: bytes, message: str) -> None:
        path = zipped(tmp_path, {"a/1.txt": b"text " * 100, "a/2.txt": b"2"})
        patched(path, at.to_bytes(1, "little"), new)
        with pytest.raises(SourceError, match=message):
            find_sources(str(path))

    @pytest.mark.parametrize(("at", "new"), [(24, b"\x05\0\0\0"), (24, b"\xff\xff\0\0"), (16, b"\0\0\0\0")])
    def test_a_member_that_is_not_as_announced_is_an_error_of_its_sample(
        self, tmp_path: Path, at: int, new: bytes
    ) -> None:
        path = zipped(tmp_path, {"a/1.txt": b"text " * 100, "a/2.txt": b"2"})
        patched(path, at.to_bytes(1, "little"), new)
        bad, good = samples(only(str(path)))
        assert "damaged" in str(bad)
        assert good["text"] == "2"

    def test_members_that_lie_on_one_another_are_refused(self, tmp_path: Path) -> None:
        path = zipped(tmp_path, {"a/1.txt": b"text " * 100, "a/2.txt": b"2"})
        data = path.read_bytes()
        first = data.index(b"PK\1\2")
        second = data.index(b"PK\1\2", first + 1)
        path.write_bytes(data[: second + 42] + bytes(4) + data[second + 46 :])
        with pytest.raises(SourceError, match="members lie on one another"):
            find_sources(str(path))

    def test_changed_bytes_give_samples_or_our_error(self, tmp_path: Path) -> None:
        path = zipped(tmp_path, {"a/1.txt": b"text " * 100, "b/ü.txt": b"2"})
        whole, chance = path.read_bytes(), random.Random(3)
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(len(data))] = chance.choice([0, 255, chance.randrange(256)])
            path.write_bytes(bytes(data[: chance.choice([len(data), chance.randrange(len(data))])]))
            try:
                archive = open_archive(os.fsencode(path))
                for entry in archive.entries(b"a") or ():
                    archive.read(b"a/" + entry.name)
            except SourceError:
                continue

    def test_names_in_the_old_code_page_are_told(self, tmp_path: Path) -> None:
        path = zipped(tmp_path, {"a/u.txt": b"1", "b/v.txt": b"2"})
        path.write_bytes(path.read_bytes().replace(b"a/u.txt", b"a/\x81.txt").replace(b"b/v.txt", b"b/\xc3.txt"))
        source = only(str(path))
        assert [source.key(n) for n in range(2)] == ["a/ü.txt", "b/├.txt"]
        assert "not marked as UTF-8" in said(source)
