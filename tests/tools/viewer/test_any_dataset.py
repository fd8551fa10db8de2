"""Whatever a dataset holds, it can be looked at."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from hypothesis import given, strategies as st

import recordio
from recordio.tools.main import main
from tests.effort import examples
from tests.strategies import samples, schemas
from tests.tools.viewer.html import Html


@examples(60)
@given(
    schemas(), st.sampled_from([0, 1, 9]), st.integers(0, 99), st.sampled_from([None, [], ["a"], [1, None], "x", {}])
)
def test_any_dataset_is_shown_and_saved(schema: recordio.Schema, count: int, seed: int, classes: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ds"
        with recordio.DatasetWriter(path, schema, metadata={"classes": classes}) as writer:
            for sample in samples(schema, count, Random(seed)):
                writer.write(sample)
        ds = recordio.ShardDataset(path)
        cards = ds._repr_html_(), ds.show(3)._repr_html_()
        assert f"{count} sample" in Html(cards[0]).text
        assert not any(Html(card).all("span", class_="r-damaged") for card in cards)
        assert repr(ds.show(3)).count("\nsample ") == min(count, 3)
        page = Path(folder) / "page.html"
        assert main(["view", str(path), "--output", str(page)]) == 0
        assert f"all {count}" in Html(page.read_text("utf-8")).text
        assert main(["show", str(path), "--save", f"{folder}/out"]) == 0
