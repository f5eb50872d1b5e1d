"""HTTPS: a certificate that is trusted, and one that is not."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from labkeep.client.http import HttpTransport
from labkeep.client.http_async import AsyncHttpTransport
from labkeep.client.transport import Call, Lost
from tests.unit.client.raw_server import OK, RawServer, Script, answers

GET = Call(method="GET", path="/", headers={})


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for the loopback that only itself vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "lab.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


def encrypted(certificate: Path, script: Script) -> Script:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def wrapped(connection: object) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as secure:  # type: ignore[arg-type]
                script(secure)
        except ssl.SSLError:
            return  # the client does not trust us

    return wrapped


def test_a_trusted_certificate_is_enough(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with RawServer(encrypted(certificate, answers(OK, OK))) as raw:
        transport = HttpTransport(raw.url.replace("http:", "https:"))
        assert transport.send(GET).body == b"ok"
        assert transport.send(GET).body == b"ok"
        transport.close()
        assert raw.connections == 1
    with RawServer(encrypted(certificate, answers(OK))) as raw:
        assert asyncio.run(AsyncHttpTransport(raw.url.replace("http:", "https:")).send(GET)).body == b"ok"


def test_a_certificate_that_nobody_trusts_is_named(certificate: Path) -> None:
    with RawServer(encrypted(certificate, answers(OK))) as raw, pytest.raises(Lost, match="not trusted") as lost:
        HttpTransport(raw.url.replace("http:", "https:")).send(GET)
    assert not lost.value.sent
