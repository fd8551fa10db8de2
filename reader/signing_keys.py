"""Keys of Ed25519, by the package cryptography: of `openssl genpkey -algorithm ed25519`, in PEM, or of ssh-keygen."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from recordio.errors import SchemaError, StorageError
from recordio.packages import optional

Key = str | os.PathLike[str] | bytes
_MOST_NBYTES = 1 << 16  # of a file with a key


class PublicKey:
    """Proves signatures. Raises SchemaError for anything but a public key of Ed25519, MissingPackageError."""

    def __init__(self, key: Key) -> None:
        data = _content(key)
        load = "load_ssh_public_key" if data.startswith(b"ssh-") else "load_pem_public_key"
        self._key = _loaded(load, data, "Ed25519PublicKey", "public")

    def proves(self, signature: bytes, signed: bytes) -> bool:
        """Whether the signature was made of these bytes with the private key that belongs to this one."""
        try:
            self._key.verify(signature, signed)
        except _cryptography("exceptions").InvalidSignature:
            return False
        return True

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self._key)


class PrivateKey:
    """Makes signatures. Raises SchemaError for anything but a private key of Ed25519, MissingPackageError.

    Args:
        key: the path of its file, or the file's bytes.
        password: of a key that is encrypted.
    """

    def __init__(self, key: Key, password: bytes | None = None) -> None:
        data = _content(key)
        load = "load_ssh_private_key" if b"OPENSSH" in data[:64] else "load_pem_private_key"
        self._key = _loaded(load, data, "Ed25519PrivateKey", "private", password)

    def sign(self, data: bytes) -> bytes:
        """The signature, 64 bytes."""
        found: bytes = self._key.sign(data)
        return found

    @property
    def fingerprint(self) -> str:
        """That of the public key that belongs to it."""
        return _fingerprint(self._key.public_key())


def _content(key: Key) -> bytes:
    """The bytes of a key. No message holds any: a key that is given as a path by mistake is not shown."""
    if isinstance(key, bytes):
        return key.strip()
    if not isinstance(key, str | os.PathLike) or not set("\0\n\r").isdisjoint(os.fsdecode(key)):
        raise SchemaError("a key is the path of its file, or the bytes of the file")
    try:
        with open(key, "rb") as file:
            return file.read(_MOST_NBYTES).strip()
    except OSError as error:
        raise StorageError(f"the key cannot be read: {error.strerror}").at(file=os.fsdecode(key)) from None


def _cryptography(module: str) -> Any:
    return optional(f"cryptography.{module}", "signatures", "sign")


def _loaded(load: str, data: bytes, kind: str, what: str, *password: bytes | None) -> Any:
    serialization = _cryptography("hazmat.primitives.serialization")
    kinds = _cryptography("hazmat.primitives.asymmetric.ed25519")
    if password not in ((), (None,)) and not isinstance(password[0], bytes):
        raise SchemaError("the password of a key is bytes")
    try:
        found = getattr(serialization, load)(data, *password)
    except TypeError:
        no_password = "the key is encrypted: give its password (on the command line, --encrypted asks for it)"
        raise SchemaError(no_password if password == (None,) else "the key is not encrypted") from None
    except Exception as error:  # noqa: BLE001 - of many kinds, none of which has a word for people
        raise SchemaError(f"not a {what} key of Ed25519 in PEM or of ssh: {error}") from None
    if not isinstance(found, getattr(kinds, kind)):
        raise SchemaError(f"not a {what} key of Ed25519, but {type(found).__name__.removeprefix('_')}")
    return found


def _fingerprint(public: Any) -> str:
    """As ssh-keygen -l prints it."""
    serialization = _cryptography("hazmat.primitives.serialization")
    formats = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    blob = base64.b64decode(public.public_bytes(*formats).split()[1])
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode('ascii').rstrip('=')}"
