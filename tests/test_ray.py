"""Ray: conversions on a cluster, Ray Data out of a dataset and into one, workers that are killed.

One cluster of two workers serves all tests of the module; none of its processes is left.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DatasetError, DatasetWriter, SchemaError, ShardDataset, SourceError, verify
from recordio.proof.report import Comparison
from tests.processes_seen import children, left_as_found
from tests.writer.convert import makers
from tests.writer.convert.makers import contents, expected, made

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # the first starts the cluster
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("ray"),  # one cluster, whatever the number of pytest's workers
]
NUMBERS = list(range(1000))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with left_as_found(children):
        _start()
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()
        gc.collect()  # processes that Ray did not wait for are warned of, while warnings are let pass


def _start() -> None:
    for left in (2, 1, 0):
        try:
            ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, _node_ip_address="127.0.0.1")
            return
        except Exception:  # a busy machine takes longer than Ray waits for
            ray.shutdown()
            gc.collect()
            if not left:
                raise


def killed_once(number: int, mark: bytes) -> Any:
    """The sample of a number; at 500, the first time, the worker process dies."""
    if number == 500 and not os.path.exists(mark):
        Path(os.fsdecode(mark)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return makers.any_number(number)


def test_without_a_cluster_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'connected to none: call ray\.init\(address="auto"\)'):
        made(NUMBERS, tmp_path / "out", fn=makers.one, engine="ray")


@pytest.mark.usefixtures("cluster")
class TestConvert:
    def test_the_bytes_are_those_of_the_local_engines(self, tmp_path: Path) -> None:
        calls: list[tuple[int, int]] = []
        options: dict[str, Any] = {"fn": makers.any_number, "shuffle": 1}
        report = made(
            NUMBERS, tmp_path / "ray", engine="ray", workers=2, progress=lambda *c: calls.append(c), **options
        )
        for workers in (1, 2, 5):
            made(NUMBERS, tmp_path / f"local-{workers}", workers=workers, **options)
            assert contents(tmp_path / f"local-{workers}") == contents(tmp_path / "ray")
        assert (report.samples, report.dropped) == (len(expected(NUMBERS)), 100)
        assert calls == sorted(calls)
        assert calls[-1] == (1000, 1000)
        assert made(NUMBERS, tmp_path / "ray", engine="ray", **options).done_before

    def test_the_work_of_a_killed_worker_is_done_again(self, tmp_path: Path) -> None:
        mark = os.fsencode(tmp_path / "killed")  # a text would count as a file that fn reads
        made(NUMBERS, tmp_path / "ray", engine="ray", fn=lambda number: killed_once(number, mark))
        assert os.path.exists(mark)
        made(NUMBERS, tmp_path / "local", fn=lambda number: killed_once(number, mark))
        assert column(tmp_path / "ray") == expected(NUMBERS)
        assert contents(tmp_path / "ray") == contents(tmp_path / "local")

    def test_an_error_names_the_input_and_what_is_finished_is_used_again(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="fn raised ValueError: seven hundred - input 700") as caught:
            made(NUMBERS, tmp_path / "out", engine="ray", fn=makers.bad_at_700)
        assert "in bad_at_700" in str(caught.value.__cause__)
        assert not list((tmp_path / "out/.convert").glob("attempt-*"))
        report = made(NUMBERS, tmp_path / "out", engine="ray", fn=makers.bad_at_700, on_error="skip")
        assert report.skipped == (("input 700: int 700", "fn raised ValueError: seven hundred"),)
        assert report.reused > 0

    def test_files_are_converted_as_well(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("n,text\n" + "".join(f"{n},row {n}\n" for n in range(500)))
        made(tmp_path / "t.csv", tmp_path / "ray", engine="ray")
        made(tmp_path / "t.csv", tmp_path / "local")
        assert contents(tmp_path / "ray") == contents(tmp_path / "local")
        compared = recordio.compare(tmp_path / "ray", tmp_path / "t.csv", workers=1)
        assert isinstance(compared, Comparison)
        assert compared.ok
        assert compared.samples == 500

    def test_each_machine_sends_what_it_has_made_into_a_bucket(self, tmp_path: Path, request: Any) -> None:
        pytest.importorskip("moto")
        bucket = request.getfixturevalue("bucket")
        options: dict[str, Any] = {"fn": makers.any_number, "shuffle": 1}
        made(NUMBERS, bucket.url("ray"), engine="ray", workers=2, storage=bucket.storage, **options)
        made(NUMBERS, tmp_path / "local", **options)
        local = {name: data for name, data in contents(tmp_path / "local").items() if not name.startswith(".")}
        assert local.items() <= {name.removeprefix("ray/"): data for name, data in bucket.files("ray/").items()}.items()


def column(folder: Path, name: str = "n") -> list[Any]:
    return [sample[name] for sample in ShardDataset(folder)]


SCHEMA = {
    "n": recordio.Scalar("int64"),
    "half": recordio.Scalar("float16"),
    "maybe": recordio.Scalar("int32", optional=True),
    "x": recordio.Array("float32", (2, 3)),
    "tokens": recordio.Array("int32", (None,)),
    "ragged": recordio.Array("float64", (None, 2)),
    "text": recordio.Text(optional=True),
    "data": recordio.Bytes(),
    "thing": recordio.Object(),
}


def sample(n: int) -> dict[str, Any]:
    return {
        "n": n,
        "half": n / 2,
        "maybe": None if n % 3 == 0 else n,
        "x": np.full((2, 3), n, np.float32),
        "tokens": np.arange(n % 5, dtype=np.int32),
        "ragged": np.full((n % 4, 2), n, np.float64),
        "text": None if n % 7 == 0 else str(n),
        "data": bytes([n % 256]),
        "thing": {"n": n} if n % 2 else [n, "x", None],
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "in"
    with DatasetWriter(folder, SCHEMA, shard_samples=70) as writer:
        for n in range(300):
            writer.write(sample(n))
    return folder


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)


@pytest.mark.usefixtures("cluster")
class TestData:
    def test_a_block_for_each_shard_with_columns_of_arrow(self, dataset: Path) -> None:
        found = recordio.ray.read(dataset).materialize()
        assert found.num_blocks() == len(ShardDataset(dataset).store.manifest.shards) == 5
        rows = sorted(found.take_all(), key=lambda row: row["n"])
        assert len(rows) == 300
        for n, row in enumerate(rows):
            assert all(same(value, row[name]) for name, value in sample(n).items()), n
        types = dict(zip(found.schema().names, map(str, found.schema().types), strict=True))
        assert (types["n"], types["half"], types["maybe"]) == ("int64", "halffloat", "int32")
        assert (types["text"], types["data"], types["tokens"][:10]) == ("large_string", "large_binary", "large_list")

    def test_fields_are_chosen(self, dataset: Path) -> None:
        assert recordio.ray.read(dataset, fields=["n"]).sum("n") == sum(range(300))

    def test_the_sink_writes_what_was_read(self, dataset: Path, tmp_path: Path) -> None:
        sink = recordio.ray.Sink(tmp_path / "out", schema=SCHEMA, metadata={"a": 1})
        recordio.ray.read(dataset).write_datasink(sink)
        found = ShardDataset(tmp_path / "out")
        assert verify(tmp_path / "out").ok
        assert dict(found.schema) == SCHEMA
        assert found.metadata == {"a": 1}
        for one in found:
            assert all(same(value, one[name]) for name, value in sample(int(one["n"])).items())
        assert sorted(found["n"].tolist()) == list(range(300))
        assert {path.name[:6] for path in (tmp_path / "out").iterdir()} == {"shard-", "manife"}

    def test_the_sink_writes_the_statistics_of_all_its_tasks(self, dataset: Path, tmp_path: Path) -> None:
        recordio.ray.read(dataset).write_datasink(recordio.ray.Sink(tmp_path / "out", schema=SCHEMA))
        found, expected = ShardDataset(tmp_path / "out").statistics, ShardDataset(dataset).statistics
        assert found is not None
        assert expected is not None
        for name, one in expected.items():
            other = found[name]
            assert replace(one, numbers=None) == replace(other, numbers=None), name
            if one.numbers is not None and other.numbers is not None:
                assert other.numbers.to_json() == pytest.approx(one.numbers.to_json(), rel=1e-12), name
        assert found["n"].values == dict.fromkeys(range(300), 1)
        assert found["maybe"].missing == 100

    def test_the_sink_finds_the_fields_by_itself(self, tmp_path: Path) -> None:
        made_up = ray.data.range(100).map_batches(
            lambda batch: {**batch, "x": np.zeros((len(batch["id"]), 2, 3), "f4")}
        )
        made_up.write_datasink(recordio.ray.Sink(tmp_path / "out"))
        found = ShardDataset(tmp_path / "out")
        assert dict(found.schema) == {"id": recordio.Scalar("int64"), "x": recordio.Array("float32", (2, 3))}
        assert sorted(found["id"].tolist()) == list(range(100))

    def test_a_killed_worker_leaves_nothing_double(self, tmp_path: Path) -> None:
        mark = str(tmp_path / "killed")

        class KilledOnce(recordio.ray.Sink):  # type: ignore[misc]
            """Dies once, after its shards are written."""

            def write(self, blocks: Any, ctx: Any) -> Any:
                found = super().write(blocks, ctx)
                if not os.path.exists(mark):
                    Path(mark).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

        ray.data.range(1000, override_num_blocks=6).write_datasink(KilledOnce(tmp_path / "out"))
        assert os.path.exists(mark)
        assert sorted(ShardDataset(tmp_path / "out")["id"].tolist()) == NUMBERS
        assert verify(tmp_path / "out").ok
        assert {path.name[:6] for path in (tmp_path / "out").iterdir()} == {"shard-", "manife"}

    def test_a_failed_write_publishes_nothing_and_leaves_the_old_dataset(self, tmp_path: Path) -> None:
        ray.data.range(10).write_datasink(recordio.ray.Sink(tmp_path / "out"))
        before = contents(tmp_path / "out")
        schema = {"id": recordio.Text()}
        with pytest.raises(Exception, match="expected"):
            ray.data.range(20).write_datasink(recordio.ray.Sink(tmp_path / "out", schema, mode="overwrite"))
        assert contents(tmp_path / "out") == before
        with pytest.raises(Exception, match="there is a dataset here"):
            ray.data.range(20).write_datasink(recordio.ray.Sink(tmp_path / "out"))
        ray.data.range(20).write_datasink(recordio.ray.Sink(tmp_path / "out", mode="overwrite"))
        assert len(ShardDataset(tmp_path / "out")) == 20

    def test_a_url_is_refused_with_the_way_forward(self) -> None:
        with pytest.raises(DatasetError, match="recordio copy"):
            recordio.ray.Sink("s3://bucket/data")

    def test_an_unknown_mode_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match="unknown mode 'append'"):
            recordio.ray.Sink(tmp_path / "out", mode="append")
