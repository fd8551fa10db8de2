"""A certificate for 127.0.0.1, signed by an authority that no system knows."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Certificates(NamedTuple):
    """Paths of PEM files.

    Attributes:
        authority: the certificate of the authority.
        chain: the server's, with its key.
    """

    authority: Path
    chain: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain)
        return context


def make_certificates(folder: Path) -> Certificates:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def signed(name: str, key: Any, issuer: str, issuer_key: Any, *extensions: Any) -> Any:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
        builder = builder.subject_name(_name(x509, name)).issuer_name(_name(x509, issuer)).public_key(key.public_key())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    found = Certificates(folder / "authority.pem", folder / "chain.pem")
    authority = x509.BasicConstraints(ca=True, path_length=None)
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    found.authority.write_bytes(signed("authority", keys[0], "authority", keys[0], authority))
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    found.chain.write_bytes(signed("server", keys[1], "authority", keys[0], here) + key)
    return found


def _name(x509: Any, text: str) -> Any:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
