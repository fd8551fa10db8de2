"""The signature of a dataset: a statement of what each of its files is, signed with a key, beside the manifest.

    signature.json := {"format", "version", "statement", "signature", "checksum"}
    statement      := {"dataset_id", "signed_at", "manifest", "shards"}

The statement is a text of JSON in the file's JSON, and the signature Ed25519's over "recordio signature 1", a newline
and that text in UTF-8, in base64. `manifest` is the SHA-256 of manifest.json, and `shards` an object with that of each
shard by its name, in hex digits. The file ends as the manifest does. Readers may ignore it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from recordio.errors import CorruptError
from recordio.format import strict_json
from recordio.format.seal import check_seal, require_format, sealed

FILE_NAME = "signature.json"
_FORMAT, _VERSION = "recordio signature", 1
_SIGNED = f"{_FORMAT} {_VERSION}\n".encode("ascii")
_SHA256_DIGITS = 64


@dataclass(frozen=True)
class Statement:
    """What the files of a dataset are.

    Attributes:
        dataset_id: hex digits.
        signed_at: when that was said, in UTC, by the clock of who said it: "2026-11-27T13:50:00Z".
        manifest: the SHA-256 of the manifest, in hex digits.
        shards: that of each shard, by its name.
    """

    dataset_id: str
    signed_at: str
    manifest: str
    shards: Mapping[str, str]

    def text(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises CorruptError."""
        body = strict_json.loads(text.encode("utf-8", "replace"), "signed statement")
        names = ("dataset_id", "signed_at", "manifest")
        if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in names):
            raise CorruptError("the signed statement does not say what was signed")
        shards = body.get("shards")
        if not isinstance(shards, dict) or not all(map(_is_sha256, [body["manifest"], *shards.values()])):
            raise CorruptError("the signed statement does not give a SHA-256 of each file")
        return cls(**{name: body[name] for name in names}, shards=shards)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == _SHA256_DIGITS and set(value) <= set("0123456789abcdef")


@dataclass(frozen=True)
class Signature:
    """A statement as it was signed.

    Attributes:
        statement: its text.
        signature: 64 bytes.
    """

    statement: str
    signature: bytes

    def encode(self) -> bytes:
        """The bytes of signature.json."""
        values = {
            "format": _FORMAT,
            "version": _VERSION,
            "statement": self.statement,
            "signature": base64.b64encode(self.signature).decode("ascii"),
        }
        lines = (f'"{key}": {json.dumps(value)},\n' for key, value in values.items())
        return sealed(("{" + "".join(lines)).encode("ascii"))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Checks everything but the signature itself. Raises CorruptError, UnsupportedError."""
        check_seal(data, "signature")
        body = require_format(strict_json.loads(data, "signature"), "signature", _FORMAT, _VERSION)
        statement, signature = body.get("statement"), body.get("signature")
        if not isinstance(statement, str) or not isinstance(signature, str):
            raise CorruptError("the signature has no statement, or the statement no signature")
        try:
            return cls(statement, base64.b64decode(signature, validate=True))
        except (binascii.Error, ValueError):
            raise CorruptError("the signature is not base64") from None


def signed_bytes(statement: str) -> bytes:
    """What is signed of a statement."""
    return _SIGNED + statement.encode("utf-8", "surrogatepass")
