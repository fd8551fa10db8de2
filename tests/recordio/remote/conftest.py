from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.recordio.remote.buckets import Bucket, s3_bucket


@pytest.fixture(scope="session")
def bucket() -> Iterator[Bucket]:
    with s3_bucket() as found:
        yield found
