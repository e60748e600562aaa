"""Goal: several workers speak TLS as one process does, and a certificate that cannot be used is
told in a sentence before anything is served.

Method: certificates made here, the real command with ``--workers``, the commands `put` and `get` as
clients; a worker is killed; certificates and keys are spoiled.
"""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import signal
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from crypto import X25519Identity
from tests.commands import command, command_beside
from tests.gateway import GatewayProcess, eventually, gateway_process
from tests.http.raw import Answer, exchange, request
from tests.processes import log_of, workers_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="not tested: workers, elsewhere than Linux"),
    pytest.mark.timeout(240),
]

WORKERS = 2
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PASSPHRASE = b"a passphrase"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a certificate for loopback that vouches for itself."""

    certificate: Path
    key: Path

    def options(self) -> tuple[str | Path, ...]:
        return ("--tls-certificate", self.certificate, "--tls-key", self.key)


def make_certificate(folder: Path, *, passphrase: bytes = b"") -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    folder.mkdir()
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    made.certificate.write_bytes(certificate.public_bytes(PEM))
    made.key.write_bytes(key.private_bytes(PEM, PKCS8, encryption))
    return made


@pytest.fixture
def made(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path / "tls")


async def test_workers_serve_over_tls_and_one_that_is_killed_is_replaced(
    tmp_path: Path, made: Certificate
) -> None:
    trust = ssl.create_default_context(cafile=made.certificate)
    settings = {"tls_certificate": made.certificate, "tls_key": made.key}
    content = os.urandom(100_000)

    async with gateway_process(tmp_path / "data", workers=WORKERS, **settings) as gateway:
        assert gateway.url.startswith("https://")
        user = {"recipient": str(X25519Identity.generate().recipient())}
        session = {"session_id": "101", "custody": "router", "parties": {"user": user}}
        wanted = request(
            *("POST", "/v1/sessions", gateway.operator_token),
            headers=[("Content-Type", "application/json")],
            body=json.dumps(session).encode(),
        )
        opened = await exchange(gateway.address, wanted, tls=trust)
        assert 201 == opened.status, opened
        token = opened.json()["tokens"]["user"]

        async def run(*arguments: str, stdin: bytes = b"") -> bytes:
            done = await command_beside(
                *(*arguments, "--url", gateway.url),
                stdin=stdin,
                environment={"GATEWAY_TOKEN": token, "SSL_CERT_FILE": str(made.certificate)},
            )
            assert (0, "") == (done.status, done.err)
            return done.out

        urn = (await run("put", "--session", "101", "--task", "1", "-", stdin=content)).decode()
        victim = (await workers_of(gateway, WORKERS))[0]
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: _replaced(gateway, victim), what="another worker")
        for _ in range(2 * WORKERS):
            assert 200 == (await _health(gateway, trust)).status
        assert content == await run("get", urn.strip(), "--plaintext")
        # Who speaks no TLS, and who stops in the midst of a handshake, disturbs nobody.
        for first in (request("GET", "/healthz"), b"\x16\x03\x01\x02\x00\x01"):
            reader, writer = await asyncio.open_connection(*gateway.address)
            writer.write(first)
            writer.write_eof()
            assert b"HTTP" not in await reader.read()
            writer.close()
        assert 200 == (await _health(gateway, trust)).status
        gateway.send_signal(signal.SIGTERM)
        assert 0 == await gateway.wait()
    errors = {line["event"] for line in log_of(gateway) if line["level"] == "error"}
    assert {"worker ended"} == errors


async def _health(gateway: GatewayProcess, trust: ssl.SSLContext) -> Answer:
    return await exchange(gateway.address, request("GET", "/healthz"), tls=trust)


async def _replaced(gateway: GatewayProcess, victim: int) -> bool:
    return victim not in await workers_of(gateway, WORKERS)


def _missing(made: Certificate, _folder: Path) -> Certificate:
    made.certificate.unlink()
    return made


def _no_certificate(made: Certificate, _folder: Path) -> Certificate:
    made.certificate.write_text("this is no certificate")
    return made


def _of_another(made: Certificate, folder: Path) -> Certificate:
    return Certificate(made.certificate, make_certificate(folder / "another").key)


def _encrypted(_made: Certificate, folder: Path) -> Certificate:
    return make_certificate(folder / "encrypted", passphrase=PASSPHRASE)


def _exchanged(made: Certificate, _folder: Path) -> Certificate:
    return Certificate(made.key, made.certificate)


@pytest.mark.parametrize("workers", [1, WORKERS])
@pytest.mark.parametrize("spoil", [_missing, _no_certificate, _of_another, _encrypted, _exchanged])
def test_a_certificate_that_cannot_be_used_is_told_in_a_sentence(
    tmp_path: Path,
    made: Certificate,
    spoil: Callable[[Certificate, Path], Certificate],
    workers: int,
) -> None:
    spoilt = spoil(made, tmp_path)
    options = ("--data-dir", tmp_path / "data", "--port", "0", "--workers", str(workers))

    done = command("serve", *options, *spoilt.options())

    assert (1, b"") == (done.status, done.out)
    said = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert 1 == len(said), done.err
    assert said[0].startswith(f"storage-gateway serve: {spoilt.certificate} and {spoilt.key} ")
    assert said[0].endswith("both must be PEM, the key that of the certificate and not encrypted")
