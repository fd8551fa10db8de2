"""Small datasets in these tests still get coded pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recordio.format import codec


@pytest.fixture(scope="module", autouse=True)
def tiny_pages_are_coded() -> Iterator[None]:
    """Codes every page that shrinks; the writer leaves tiny pages plain, which the format does not require."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_MIN_CODED_NBYTES", 1)
        yield
