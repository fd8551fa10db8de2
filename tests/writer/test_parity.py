"""Parity on writing: the same bytes whoever made the shards, kept up by appending, refused where it cannot be made."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, DatasetWriter, SchemaError, ShardDataset, convert, repair, verify
from recordio.display.text import bytes_text
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.tools.main import main
from tests.recordio.remote.buckets import Bucket
from tests.recordio.salvage.damage import files, flip, numbers, sample, shard, write


def table(path: Path) -> Path:
    path.write_text("number,text\n" + "".join(f"{n},row {n}\n" for n in range(300)))
    return path


def manifest_of(folder: Path) -> Manifest:
    return Manifest.decode((folder / FILE_NAME).read_bytes())


def groups(folder: Path) -> list[tuple[int, ...]]:
    parity = manifest_of(folder).parity
    return [file.shards for file in parity.files] if parity else []


def add(folder: Path, first: int, count: int, **given: Any) -> None:
    with DatasetWriter(folder, mode="append", shard_samples=20, block_bytes=400, **given) as writer:
        for n in range(first, first + count):
            writer.write(sample(n))


def test_a_file_for_every_so_many_shards(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 140, parity=3)
    assert groups(folder) == [(0, 1, 2), (3, 4, 5), (6,)]
    assert {name for name in files(folder) if name.startswith("parity")} == {f"parity-0000{k}.xor" for k in range(3)}
    assert files(write(tmp_path / "again", 140, parity=3)) == files(folder)
    assert groups(write(tmp_path / "alone", 60, parity=1)) == [(0,), (1,), (2,)]
    assert groups(write(tmp_path / "nothing", 0, parity=3)) == []
    report = verify(folder)
    assert (report.ok, report.parity, verify(folder, "quick").parity) == (True, 3, 3)


@pytest.mark.parametrize("parity", [0, -1, 257, True, 2.5, "8"])
def test_a_group_has_1_to_256_shards(tmp_path: Path, parity: Any) -> None:
    with pytest.raises(SchemaError, match=r"parity is .*: expected an integer from 1 to 256"):
        DatasetWriter(tmp_path / "it", parity=parity)
    with pytest.raises(SchemaError, match="parity is"):
        convert(table(tmp_path / "t.csv"), tmp_path / "it", parity=parity)


def test_a_conversion_gives_the_same_parity_for_any_workers_stopped_and_resumed(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv")
    given: dict[str, Any] = {"shard_bytes": 700, "parity": 4}
    convert(source, tmp_path / "one", workers=1, **given)
    convert(source, tmp_path / "three", workers=3, **given)
    assert len(groups(tmp_path / "one")) > 1

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "stopped", workers=1, progress=stop, **given)
    convert(source, tmp_path / "stopped", workers=2, **given)
    assert files(tmp_path / "one") == files(tmp_path / "three") == files(tmp_path / "stopped")
    assert convert(source, tmp_path / "one", workers=1, **given).done_before  # type: ignore[union-attr]
    assert convert(source, tmp_path / "one", workers=1, shard_bytes=700).done_before  # type: ignore[union-attr]
    with pytest.raises(DatasetError, match=r"has parity for every 4 shards; `recordio parity` makes another"):
        convert(source, tmp_path / "one", workers=1, shard_bytes=700, parity=5)
    convert(source, tmp_path / "one", workers=1, shard_bytes=700, parity=2, overwrite=True)
    assert {len(group) for group in groups(tmp_path / "one")[:-1]} == {2}
    assert verify(tmp_path / "one").ok


def test_a_stream_has_parity_too(tmp_path: Path) -> None:
    rows = ({"number": n, "text": f"row {n} " * 20} for n in range(500))
    convert(rows, tmp_path / "it", shard_bytes=4000, block_bytes=2000, parity=2)
    before = files(tmp_path / "it")
    assert len(groups(tmp_path / "it")) > 1
    shard(tmp_path / "it", 1).unlink()
    repair(tmp_path / "it", in_place=True)
    assert files(tmp_path / "it") == before


def test_appending_keeps_parity_up(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 100, parity=3)
    kept = (folder / "parity-00000.xor").read_bytes()
    old = pickle.loads(pickle.dumps(ShardDataset(folder)))
    version = pickle.dumps(old)
    flip(shard(folder, 4), 1500)  # not noticed: the parity that grows is made of the old one
    add(folder, 100, 80)
    assert groups(folder) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert (folder / "parity-00000.xor").read_bytes() == kept
    assert not (folder / "parity-00001.xor").exists()
    assert len(pickle.loads(version)) == 100  # the dataset as it was can still be opened
    report = repair(folder, in_place=True)
    assert (len(report.mended), report.lost) == (1, ())
    assert numbers(folder) == list(range(180))
    assert verify(folder).ok
    add(folder, 180, 0)
    add(folder, 180, 10, parity=3)
    assert groups(folder)[-1] == (9,)
    with pytest.raises(DatasetError, match="has parity for every 3 shards"):
        add(folder, 190, 1, parity=4)


def test_appending_makes_damaged_parity_of_the_shards(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 100, parity=3)
    flip(folder / "parity-00001.xor", 2000)
    add(folder, 100, 20)
    assert verify(folder).ok
    shard(folder, 3).unlink()
    assert repair(folder).lost == ()


def test_a_dataset_without_parity_gets_none_by_appending(tmp_path: Path) -> None:
    folder = write(tmp_path / "it")
    with pytest.raises(DatasetError, match=r"has no parity; `recordio parity` makes another"):
        add(folder, 60, 1, parity=2)
    add(folder, 60, 20)
    assert groups(folder) == []
    with DatasetWriter(write(tmp_path / "other", parity=2), mode="overwrite") as writer:
        writer.write({"x": 1})
    assert list(files(tmp_path / "other")) == [FILE_NAME, "shard-00003.rio"]


def test_edits_make_parity(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", 60, parity=2), write(tmp_path / "b", 60)
    recordio.append(a, b)
    assert groups(a) == [(0, 1), (2, 3), (4, 5)]
    recordio.merge(tmp_path / "merged", [a, b], parity=5)
    assert groups(tmp_path / "merged") == [(0, 1, 2, 3, 4), (5, 6, 7, 8)]
    recordio.merge(tmp_path / "without", [a, b])
    assert groups(tmp_path / "without") == []
    with pytest.raises(DatasetError, match="has no parity"):
        recordio.merge(tmp_path / "without", [a, b], parity=5)
    for workers in (1, 2):
        recordio.reshard(a, tmp_path / f"resharded {workers}", shard_bytes=2000, parity=2, workers=workers)
    assert files(tmp_path / "resharded 1") == files(tmp_path / "resharded 2")
    recordio.split(a, tmp_path / "parts", {"x": 0.5, "y": 0.5}, shard_bytes=1000, parity=2)
    for one in (a, *(tmp_path / name for name in ("merged", "resharded 1", "parts/x", "parts/y"))):
        assert len(groups(one)) > 1
        before = files(one)
        shard(one, 1).unlink()
        repair(one, in_place=True)
        assert files(one) == before


def test_parity_is_added_changed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "it", 100)
    plain = files(folder)
    report = recordio.parity(folder, 2)
    assert (report.files, report.shards, report.done_before) == (3, 2, False)
    assert files(folder) == files(write(tmp_path / "other", 100, parity=2))
    assert recordio.parity(folder, 2).done_before
    assert main(["parity", str(folder), "5"]) == 0
    assert groups(folder) == [(0, 1, 2, 3, 4)]
    assert capsys.readouterr().out == f"{folder}: 1 file of parity, 4.16 kB\n"
    flip(shard(folder, 1), 1500)
    with pytest.raises(recordio.CorruptError, match="shard-00001"):
        recordio.parity(folder, 3)
    repair(folder, in_place=True)
    assert main(["parity", str(folder), "0", "--json"]) == 0
    assert files(folder) == plain
    with pytest.raises(SchemaError, match="shards is 257"):
        recordio.parity(folder, 257)


def test_a_signed_dataset_has_to_be_signed_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 60)
    (folder / "signature.json").write_text("of before")
    assert recordio.parity(folder, 2).notes == ("the signature is of the manifest before: sign the dataset again",)


def test_in_a_bucket_parity_is_copied_verified_and_repaired_by_and_not_made(
    bucket: Bucket, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = write(tmp_path / "it", 100, parity=3)
    path = f"parity/{tmp_path.name}"
    url, storage = bucket.url(path), bucket.storage
    for make in (
        lambda: DatasetWriter(url, parity=3, storage=storage),
        lambda: convert(table(tmp_path / "t.csv"), url, parity=3, storage=storage),
        lambda: convert(({"x": n} for n in range(3)), url, parity=3, storage=storage),
        lambda: recordio.reshard(folder, url, parity=3, storage=storage),
        lambda: recordio.parity(url, 3),
    ):
        with pytest.raises(DatasetError, match="parity is made in a folder"):
            make()
    assert bucket.files(path) == {}
    report = recordio.copy(folder, url, storage=storage)
    assert (report.copied, report.nbytes) == (5, sum(map(len, files(folder).values())) - len(files(folder)[FILE_NAME]))
    assert {name.removeprefix(f"{path}/"): data for name, data in bucket.files(path).items()} == files(folder)
    assert recordio.copy(folder, url, storage=storage).done_before
    assert (verify(url, storage=storage).ok, verify(url, storage=storage).parity) == (True, 2)
    with pytest.raises(DatasetError, match="parity is made in a folder"):
        DatasetWriter(url, mode="append", storage=storage)
    recordio.copy(url, tmp_path / "back", storage=storage)
    assert files(tmp_path / "back") == files(folder)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"{path}/shard-00001.rio")
    assert [p.place.file for p in verify(url, storage=storage).problems] == ["shard-00001.rio"]
    report = repair(url, tmp_path / "mended", storage=storage)  # type: ignore[assignment]
    assert files(tmp_path / "mended") == files(folder)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"{path}/parity-00001.xor")
    assert [p.place.file for p in verify(url, "quick", storage=storage).problems][-1] == "parity-00001.xor"


def test_copy_refuses_damaged_parity_and_clean_finds_what_is_left(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 60, parity=2)
    shutil.copy(folder / "parity-00000.xor", folder / "parity-00007.xor")
    assert [one.name for one in recordio.clean(folder, hours=0).leftovers] == ["parity-00007.xor"]
    recordio.clean(folder, hours=0, remove=True)
    assert verify(folder).ok
    flip(folder / "parity-00001.xor", 1500)
    with pytest.raises(recordio.CorruptError, match="parity-00001"):
        recordio.copy(folder, tmp_path / "copy")
    assert not (tmp_path / "copy" / "parity-00001.xor").exists()


def test_diff_info_and_verify_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, folder = write(tmp_path / "plain", 60), write(tmp_path / "it", 60, parity=2)
    assert [str(one) for one in recordio.diff(plain, folder).differences] == ["the files of parity differ"]
    assert recordio.diff(folder, folder).ok
    assert main(["info", str(folder)]) == 0
    nbytes = sum(path.stat().st_size for path in folder.glob("*.xor"))
    assert f"  parity        {bytes_text(nbytes)} in 2 files, one for every 2 shards\n" in capsys.readouterr().out
    assert main(["verify", str(folder), "--quick"]) == 0
    assert "; 2 files of parity\n" in capsys.readouterr().out
    assert main(["verify", str(folder), "--sample", "10"]) == 0
    (folder / "parity-00000.xor").unlink()
    for words in (["--sample", "10"], ["--quick"], []):
        capsys.readouterr()
        assert main(["verify", str(folder), *words]) == 1
        assert "the parity file is missing - parity-00000.xor" in capsys.readouterr().out
    assert main(["repair", str(folder)]) == 1
    assert "mended: parity-00000.xor: made anew: the parity file is missing\n" in capsys.readouterr().out


def test_the_commands_take_it(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv")
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    assert main(["convert", str(source), one, "--shard-bytes", "700B", "--parity", "4", "--workers", "1"]) == 0
    assert main(["reshard", one, two, "--shard-bytes", "700B", "--parity", "2"]) == 0
    assert main(["merge", three, one, two, "--parity", "3"]) == 0
    assert [len(groups(Path(name))[0]) for name in (one, two, three)] == [4, 2, 3]
