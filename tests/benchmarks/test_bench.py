"""The figures of `make bench`: written, read back, put into pages, compared; and a tiny run of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benching import marked, readme
from benching.figures import TIMES, Figure, ratio
from benching.section import Results, anchor, section
from contenders import ALL

from tests.benchmarks.conftest import BENCHMARKS

PAGES = (BENCHMARKS.parent / "README.md", BENCHMARKS.parent / "docs" / "performance.md")
ABOUT = {
    "date": "2026-11-27",
    "command": "make bench",
    "machine": "2 CPUs",
    "rounds": 3,
    "minutes": 12,
    "samples": {"text": 100, "tabular": 100},
    "without": ["jpeg"],
    "versions": ["bagz 0.3.8"],
    "missing": ["litdata"],
    "maps": {"tabular": "a map"},
    "pictures": {"bench-throughput.svg": "rates"},
}


def row(contender: str, measure: str, *rounds: float, workload: str = "text") -> dict[str, Any]:
    return {"workload": workload, "contender": contender, "measure": measure, "rounds": list(rounds)}


def results(*paths: dict[str, Any], workers: tuple[dict[str, Any], ...] = ()) -> Results:
    return Results({"about": ABOUT, "paths": list(paths), "workers": list(workers), "sizes": []})


PATHS = (
    row("recordio_plain", "shuffled", 990_000, 1_000_000, 1_010_000),
    row("recordio_zstd", "shuffled", 400_000, 500_000, 600_000),
    row("bagz", "shuffled", 480_000, 500_000, 520_000),
    row("bagz_zstd", "shuffled", 99_000, 100_000, 101_000),
    row("recordio_plain", "one", 1.5, 1.6, 1.7),
    row("bagz", "one", 0.8, 0.8, 0.8),
    row("recordio_plain", "write", 10, 10, 10),
    row("recordio_plain (no fsync)", "write", 20, 20, 20),
    row("bagz", "write", 40, 40, 40),
    row("bagz + fsync", "write", 5, 5, 5),
)


def text_of(found: Results) -> str:
    return "\n".join(section(found))


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ((99.0, 100.0, 102.0), "100 ± 5 %"),
        ((80.0, 100.0, 130.0), "100 ± 30 %"),
        ((1_234_567.0, 1_234_567.0), "1,234,567 ± 5 %"),
        ((3, 3, 3), "3 ± 5 %"),
        ((1.5,), "1.50"),
        ((0.0, 0.0), "0 ± 5 %"),
    ],
)
def test_a_figure_says_its_noise_and_is_read_back(rounds: tuple[float, ...], said: str) -> None:
    figure = Figure.of(rounds)
    assert figure.text() == said
    read = Figure.parsed(figure.text())
    assert read is None if len(rounds) == 1 else read == Figure(figure.value, pytest.approx(figure.noise, abs=0.01))


def test_a_ratio_takes_its_noise_from_the_rounds_that_were_in_turn() -> None:
    drifting = ratio((100.0, 200.0, 300.0), (50.0, 100.0, 150.0), more_is_better=True)
    assert drifting == Figure(2.0, 0.05)
    slower = ratio((2.0, 2.0), (1.0, 1.0), more_is_better=False)
    assert slower.value == 0.5


def test_ours_is_held_against_the_best_peer_of_its_kind() -> None:
    figures = dict(marked.figures(text_of(results(*PATHS))))
    epoch = "Shuffled epoch, samples/s"
    assert figures[epoch, "recordio_plain : best peer", "text"].value == 2
    assert figures[epoch, "recordio_zstd : best peer", "text"].value == 5  # of those that compress
    assert figures["One sample by index, µs", "recordio_plain : best peer", "text"].value == 0.5
    assert figures["Writing, samples/s", "recordio_plain : best peer", "text"].value == 2  # both durable
    assert figures["Writing, samples/s", "recordio_plain (no fsync) : best peer", "text"].value == 0.5


def test_what_is_missing_is_named() -> None:
    found = results(*PATHS, {"workload": "text", "contender": "lance", "note": "failed: no such column"})
    text = text_of(found)
    assert "Left out, without their data: jpeg." in text
    assert "Not installed, so not here: litdata." in text
    assert "lance on text: failed: no such column" in text


def test_workers_are_columns() -> None:
    rates = (
        {"workload": "tabular", "contender": "recordio_plain", "workers": "none", "rounds": [10.0, 10.0]},
        {"workload": "tabular", "contender": "recordio_plain", "workers": "thread 2", "rounds": [20.0, 20.0]},
    )
    figures = dict(marked.figures(text_of(results(*PATHS, workers=rates))))
    assert figures["Workers, tabular: a map, samples/s", "recordio_plain", "thread 2"].value == 20


def test_a_page_keeps_all_but_what_is_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = marked.markers("bench")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    marked.write(page, "bench", "new\n")
    assert page.read_text() == f"before\n{begin}\nnew\n{end}\nafter\n"
    fresh = tmp_path / "fresh.md"
    marked.write(fresh, "bench", "new\n")
    assert fresh.read_text() == f"{begin}\nnew\n{end}\n"


@pytest.mark.parametrize(
    "page", ["", "{begin}\n", "{end}\n{begin}\n", "{begin}\n{begin}\n{end}\n", "{begin}\n{end}{end}"]
)
def test_a_page_without_one_pair_of_markers_is_refused(page: str) -> None:
    begin, end = marked.markers("bench")
    with pytest.raises(marked.NoMarkerError):
        marked.replaced(page.format(begin=begin, end=end), "bench", "new\n")


def test_the_same_run_is_the_same() -> None:
    text = text_of(results(*PATHS))
    found = marked.compared(text, text)
    assert found.compared > 10
    assert found.factor == 1
    assert found.differing == found.only_old == found.only_new == ()


def test_a_faster_machine_is_divided_out_and_what_is_left_is_named() -> None:
    faster = [r | {"rounds": [v / 2 if r["measure"] == "one" else v * 2 for v in r["rounds"]]} for r in PATHS]
    faster[1] = row("recordio_zstd", "shuffled", 3_000_000, 3_000_000, 3_000_000)
    found = marked.compared(text_of(results(*PATHS)), text_of(results(*faster)))
    assert found.factor == pytest.approx(2)
    rows = {(heading, name) for (heading, name, _), _, _ in found.differing}
    epoch = "Shuffled epoch, samples/s"
    assert rows == {(epoch, "recordio_zstd"), (epoch, "recordio_zstd : best peer")}
    lines = list(found.lines())
    assert "2 differ" in lines[0]
    assert any("500,000 ± 20 % on the page, 3,000,000 ± 5 % now" in line for line in lines)


def test_rows_of_one_run_alone_are_named() -> None:
    found = marked.compared(text_of(results(*PATHS)), text_of(results(*PATHS[:4])))
    assert any(line.startswith("on the page only: ") and "bagz + fsync" in line for line in found.lines())


def test_each_speed_of_the_readme_leads_to_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = list(readme.table(results(*PATHS)))
    place = anchor("shuffled", "recordio_plain")
    assert lines[2] == f"| [text, shuffled](docs/performance.md#{place}) | 1,000,000/s | Bagz 500,000/s | 2.00{TIMES} |"
    assert f'<a id="{place}"></a>' in text_of(results(*PATHS))
    assert "without the row 'tokens, shuffled'" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "said"), [(4_798_397.0, "4,800,000"), (0.8942, "0.894"), (41.0, "41.0")])
def test_the_readme_says_three_digits(value: float, said: str) -> None:
    assert readme.three_digits(value) == said


def test_the_readme_can_name_every_peer() -> None:
    assert readme.PEERS.keys() == {name for name, contender in ALL.items() if contender.role == "peer"}


def bench(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "bench.py"), *words, "--build", str(tmp_path / "build")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_tiny_run_of_ours(tmp_path: Path) -> None:
    ours = ("recordio_zstd", "recordio_plain, write_batch", "np.memmap (limit)")
    few = ("--samples", "300", "--rounds", "2", "--workloads", "tabular", "--extras", "--no-pictures")
    done = bench(tmp_path, "--contenders", *ours, *few)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "build" / "performance.md").read_text()
    figures = dict(marked.figures(page))
    for heading in ("Shuffled epoch, samples/s", "One sample by index, µs", "Open and first batch, ms"):
        assert figures[heading, "recordio_zstd", "tabular"].value > 0
    assert figures["Writing, samples/s", "recordio_plain, write_batch", "tabular"].value > 0
    assert ("Memory of a shuffled epoch, MB", "recordio_zstd", "tabular") in figures
    kept = json.loads((tmp_path / "build" / "results.json").read_text())
    assert all(len(one["rounds"]) == 2 for one in kept["paths"] if one["measure"] != "took")
    again = bench(tmp_path, "--results", str(tmp_path / "build" / "results.json"), "--no-pictures")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "build" / "performance.md").read_text() == page
    pages = [path.read_bytes() for path in PAGES]
    kept["about"]["leaves_out"] = False
    (tmp_path / "whole.json").write_text(json.dumps(kept))
    checked = bench(tmp_path, "--results", str(tmp_path / "whole.json"), "--check", "--no-pictures")
    assert " figures are those of the page within the noise of both" in checked.stdout
    assert pages == [path.read_bytes() for path in PAGES]
