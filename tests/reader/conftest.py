"""The datasets of these tests are small, and so are their pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recordio.format import codec


@pytest.fixture(scope="module", autouse=True)
def tiny_pages_are_coded() -> Iterator[None]:
    """A writer leaves tiny pages plain, but the format does not ask for that: here all that shrink are coded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_MIN_CODED_NBYTES", 1)
        yield
