"""A bucket on this machine: moto's S3 in this process, over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from moto.server import ThreadedMotoServer


class Bucket(NamedTuple):
    """A bucket, and what reaches it."""

    endpoint: str
    client: Any
    name: str = "bucket"

    @property
    def storage(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, "region": "us-east-1", "credentials": credentials, "retry_seconds": 5.0}

    def url(self, path: str) -> str:
        return f"s3://{self.name}/{path}"

    def upload(self, folder: Path, path: str) -> str:
        """Puts the files of a folder there; the URL."""
        for file in sorted(folder.iterdir()):
            if file.is_file():
                self.client.upload_file(os.fspath(file), self.name, f"{path}/{file.name}")
        return self.url(path)

    def files(self, path: str = "") -> dict[str, bytes]:
        """All objects below a path."""
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=path).get("Contents", [])
        keys = [one["Key"] for one in found]
        return {key: self.client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}


def credentials() -> dict[str, Any]:
    return {"access_key_id": "key-of-the-test", "secret_access_key": "secret-of-the-test", "expires_at": None}


@contextmanager
def s3_bucket() -> Iterator[Bucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = credentials()
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
    )
    client.create_bucket(Bucket="bucket")
    yield Bucket(endpoint, client)
    server.stop()
