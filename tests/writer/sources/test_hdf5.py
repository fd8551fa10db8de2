"""HDF5: rows equal what h5py wrote, nothing outside of the file is read, and false files are refused."""

from __future__ import annotations

import errno
import json
import os
import pickle
import sys
import zipfile
import zlib
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, Bytes, MissingPackageError, Object, Scalar, ShardDataset, SourceError, StorageError, Text
from recordio.writer.convert import engines
from recordio.writer.sources import find_sources, open_source
from recordio.writer.sources.arrays import hdf5, hdf5_scan
from recordio.writer.sources.arrays.isolated import isolated
from tests.open_files import open_pipes
from tests.writer.convert.test_convert import contents, made
from tests.writer.sources.test_folders import samples

DATA = Path(__file__).parents[2] / "data/formats/hdf5"
EXPECTED: dict[str, list[Any]] = json.loads((DATA / "expected.json").read_text("utf-8"))


def plain(value: Any) -> Any:
    """A value as expected.json has it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return str(value) if value.dtype.kind == "c" else value.tolist()
    return list(value) if isinstance(value, bytes) else value


@pytest.fixture
def h5py(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package; files are scanned in this process, which is quicker."""
    monkeypatch.setattr(hdf5, "isolated", lambda function, *arguments: function(*arguments))
    return pytest.importorskip("h5py")


@pytest.mark.usefixtures("h5py")
class TestTypes:
    def test_every_type_comes_out_as_it_was_written(self) -> None:
        source = pickle.loads(pickle.dumps(open_source(DATA / "types.h5")))
        for name, rows in EXPECTED.items():
            assert [plain(row[name]) for row in samples(source)] == rows
        assert set(source.schema) == set(EXPECTED)
        assert source.schema["big"] == Scalar("float64")
        assert source.schema["flags"] == Scalar("bool")
        assert source.schema["group/images"] == Array("uint8", (2, 3, 3))
        assert source.schema["free"] == Array("int16", (None,))
        assert [source.schema[name] for name in ("word", "pairs", "opaque")] == [Text(), Object(), Bytes()]
        assert source.key(3) == "types.h5 row 3"

    def test_attributes_are_metadata_and_the_rest_is_noted(self) -> None:
        source = open_source(DATA / "types.h5")
        assert source.metadata == {
            "attributes": {"/": {"sizes": [0, 1, 2], "title": "täst"}, "packed": {"unit": "mm"}},
            "enums": {"colour": {"blue": 2, "green": 1, "red": 0}},
        }
        assert source.notes == (
            "left out: 2 arrays without 7 rows (mean [3], version [])",
            "links are not followed: again (to /ints)",
            "left out: 2 attributes that JSON has no place for (nan, ref)",
        )

    @pytest.mark.parametrize("name", ["groups.h5", "names.h5"])
    def test_parts_named_as_splits_are_splits(self, name: str) -> None:
        found = find_sources(DATA / name)
        assert list(found) == ["train", "test"]
        sources = [open_source(spec.path, spec.kind, spec.options) for spec in found.values()]
        assert [len(source) for source in sources] == [4, 2]
        assert [(row["x"].tolist(), int(row["y"])) for row in samples(sources[1])] == [([0, 1], 0), ([2, 3], 1)]
        with pytest.raises(SourceError, match="there are splits in it, train, test"):
            open_source(DATA / name, "hdf5")

    def test_batches_pack_to_the_bytes_of_samples(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hdf5.Hdf5, "fragile", False)
        made(DATA / "types.h5", tmp_path / "batches", workers=1)
        monkeypatch.setattr(hdf5.Hdf5, "batches", lambda self, indices: None)
        made(DATA / "types.h5", tmp_path / "samples", workers=1)
        assert contents(tmp_path / "batches") == contents(tmp_path / "samples")

    def test_rows_are_read_in_slabs_in_any_order(self, h5py: Any, tmp_path: Path) -> None:
        rows = np.arange(5000 * 40, dtype="i4").reshape(5000, 40)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("x", data=rows, chunks=(300, 7), compression="gzip")
        source = open_source(tmp_path / "a.h5")
        for index in [*range(700), 4999, 3, 2500, 2501, 2502, 0]:
            assert (source.sample(index)["x"] == rows[index]).all()
        batches = source.batches(np.arange(100, 4000))
        assert batches is not None
        assert (np.concatenate([batch["x"] for batch in batches]) == rows[100:4000]).all()
        assert source.batches(np.array([3, 1])) is None

    def test_rows_are_read_in_a_process_that_may_die(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[int] = []
        run_processes = engines.run_processes
        monkeypatch.setattr(engines, "run_processes", lambda *given: started.append(given[-2]) or run_processes(*given))
        made(DATA / "groups.h5", tmp_path / "out", split="test", workers=1)
        assert started == [1]

    @pytest.mark.slow
    def test_any_number_of_workers_makes_the_same_bytes(self, tmp_path: Path) -> None:
        for workers in (1, 2, 5):
            made(DATA / "types.h5", tmp_path / f"{workers}", workers=workers, shard_bytes=2000)
        assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
        dataset = ShardDataset(tmp_path / "5")
        for name, rows in EXPECTED.items():
            assert [plain(row[name]) for row in dataset] == rows


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'recordio-shards\[hdf5\]'"):
        hdf5_scan.scan(str(DATA / "types.h5"))


class TestIsolated:
    def test_a_function_gives_its_result_or_its_error(self) -> None:
        assert isolated(os.path.basename, "a/b") == "b"
        with pytest.raises(SourceError, match="ends with code 3"):
            isolated(os._exit, 3)

    def test_a_process_that_hangs_is_ended(self) -> None:
        with pytest.raises(SourceError, match=r"takes more than 0\.1 s"):
            isolated(_forever, seconds=0.1)

    def test_a_process_that_cannot_be_started_is_no_fault_of_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuses(*_: Any) -> None:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

        resource_tracker.ensure_running()  # multiprocessing starts it once and keeps it, with a pipe
        before = open_pipes()
        monkeypatch.setattr("multiprocessing.util.spawnv_passfds", refuses)
        with pytest.raises(StorageError, match=r"cannot start a process that reads it: .*unavailable"):
            isolated(os.path.basename, "a/b")
        assert open_pipes() <= before


def _forever() -> None:
    while True:
        pass


def _external_link(file: Any, h5py: Any) -> None:
    file["out"] = h5py.ExternalLink("/etc/passwd", "/x")


def _external_data(file: Any, h5py: Any) -> None:
    file.create_dataset("out", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def _virtual(file: Any, h5py: Any) -> None:
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("out", layout)


def _references(file: Any, h5py: Any) -> None:
    file.create_dataset("out", data=[file["x"].ref] * 4, dtype=h5py.ref_dtype)


def _filter(file: Any, h5py: Any) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4,))
    plan.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"out", h5py.h5t.NATIVE_INT8, h5py.h5s.create_simple((4,)), plan)


def _unwritten_chunks(file: Any, h5py: Any) -> None:
    del file["x"]
    file.create_dataset("out", (1 << 40,), "u1", chunks=(1 << 20,))


def _unwritten(file: Any, h5py: Any) -> None:
    del file["x"]
    file.create_dataset("out", (1 << 40,), "u1")


def _large_chunks(file: Any, h5py: Any) -> None:
    file.create_dataset("out", (4, 1 << 29), "u1", chunks=(1, 1 << 29))
    del file["x"]


def _swollen_chunk(file: Any, h5py: Any) -> None:
    out = file.create_dataset("out", (4,), "i8", chunks=(4,), compression="gzip")
    out.id.write_direct_chunk((0,), bytes(1 << 20))


def _bomb(file: Any, h5py: Any) -> None:
    out = file.create_dataset("out", (4, 1 << 19), "u1", chunks=(4, 1 << 19), compression="gzip")
    out.id.write_direct_chunk((0, 0), zlib.compress(bytes(20 << 20)))
    del file["x"]


def _deep(file: Any, h5py: Any) -> None:
    file.create_dataset("a/" * 40 + "out", data=np.zeros(4))


def _sparse(file: Any, h5py: Any) -> None:
    for name in ("data", "indices", "indptr"):
        file[f"matrix/{name}"] = np.zeros(4, "i4")


def _other_lengths(file: Any, h5py: Any) -> None:
    file["out"] = np.zeros(5)


def _free_texts(file: Any, h5py: Any) -> None:
    file.create_dataset("out", (4, 2), h5py.vlen_dtype("i4"))[0, 0] = [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_external_link, "'out' leads to another file, '/etc/passwd'"),
        (_external_data, "its data is in another file, '/etc/passwd'"),
        (_virtual, "a virtual dataset"),
        (_references, "references to other objects"),
        (_filter, r"the filter .*32099.*pip install hdf5plugin"),
        (_unwritten_chunks, "1,048,576 of its 1,048,576 chunks were never written"),
        (_unwritten, "never written"),
        (_large_chunks, "its chunks have 536,870,912 bytes"),
        (_swollen_chunk, "a chunk of 32 bytes is stored in 1,048,576"),
        (_deep, "deeper than 32"),
        (_sparse, "matrix is a sparse matrix"),
        (_other_lengths, r"different lengths \(out \[5\], x \[4\]\)"),
        (_free_texts, "in one dimension"),
    ],
)
def test_what_is_hostile_or_unclear_is_refused_by_name(
    tmp_path: Path, h5py: Any, make: Callable[[Any, Any], None], message: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(4)
        make(file, h5py)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / "a.h5")


def test_a_chunk_that_unpacks_to_more_than_it_has_is_refused(
    tmp_path: Path, h5py: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recordio.writer.sources.arrays.hdf5_storage.SMALL", 1 << 12)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(4)
        _bomb(file, h5py)
    with pytest.raises(SourceError, match="unpacks to more than its 2,097,152 bytes"):
        open_source(tmp_path / "a.h5")


def test_circles_of_groups_end(tmp_path: Path, h5py: Any) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = np.arange(4)
        file["g/again"] = file["g"]
    source = open_source(tmp_path / "a.h5")
    assert list(source.schema) == ["g/x"]
    assert "links are not followed: /g/again (a second name)" in source.notes


def test_a_file_that_is_cut_off_or_none_is_refused(tmp_path: Path, h5py: Any) -> None:
    data = (DATA / "types.h5").read_bytes()
    for number, changed in enumerate([b"", b"x" * 999, data[:3000], data[:100]]):
        (tmp_path / f"{number}.h5").write_bytes(changed)
        with pytest.raises(SourceError, match="HDF5"):
            open_source(tmp_path / f"{number}.h5")


def test_a_file_in_an_archive_is_to_be_unpacked(tmp_path: Path, h5py: Any) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(DATA / "types.h5", "types.h5")
    with pytest.raises(SourceError, match="not from an archive"):
        open_source(tmp_path / "a.zip/types.h5")


def test_a_folder_of_several_files_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        (tmp_path / name).write_bytes((DATA / "groups.h5").read_bytes())
    with pytest.raises(SourceError, match="holds files of hdf5, each of which is a source"):
        find_sources(tmp_path)


def test_a_text_that_is_not_utf8_fails_its_sample(tmp_path: Path, h5py: Any) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["word"] = np.array([b"good", b"\xff"], "S4")
    good, bad = samples(open_source(tmp_path / "a.h5"))
    assert good == {"word": "good"}
    assert isinstance(bad, SourceError)
    assert bad.place.field == "word"
