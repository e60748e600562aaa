"""What the S3 servers of the tests have in common; what is done to their buckets by the S3 API."""

import hashlib
import http.client
import secrets
import socket
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol

from crypto import Secret
from storage_gateway.backends.s3_answers import read_page
from storage_gateway.backends.s3_signature import Credentials, Signer, query_string, quoted

HOST = "127.0.0.1"
LISTING = {"list-type": "2", "encoding-type": "url"}


class S3Server(Protocol):
    """A server of its own, with a bucket for each test."""

    access_key: str
    secret_key: str

    @property
    def port(self) -> int:
        """The port of the S3 API."""

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""

    def start(self) -> None:
        """Start, or start again on the same ports and files, and wait until it answers."""

    def kill(self) -> None:
        """End it as a crash would."""

    def revive(self) -> None:
        """Start it if it was killed, whatever became of the test that did."""

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""

    def drop(self, bucket: str) -> None:
        """Remove a bucket and all that is in it."""

    def truncate(self, bucket: str, key: str, size: int) -> None:
        """Cut a stored object short."""


def free_ports(count: int) -> list[int]:
    """Return different loopback ports that nobody listens on just now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


class Buckets:
    """Buckets of a server on this machine, reached over its S3 API."""

    def __init__(self, port: int, access_key: str, secret_key: str) -> None:
        """Nothing is asked yet."""
        self._port = port
        credentials = Credentials(access_key=access_key, secret_key=Secret(secret_key.encode()))
        self._signer = Signer(credentials, "us-east-1")

    def ask(
        self, method: str, path: str, body: bytes = b"", query: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of an answer; OSError if there is none."""
        path, asked = quoted(path, safe="/"), query_string(query or {})
        headers = self._signer.headers(
            method,
            host=f"{HOST}:{self._port}",
            path=path,
            query=asked,
            digest=hashlib.sha256(body).hexdigest(),
            now=datetime.now(UTC),
        )
        with closing(http.client.HTTPConnection(HOST, self._port, timeout=20)) as connection:
            try:
                connection.request(method, f"{path}{'?' if asked else ''}{asked}", body, headers)
                with connection.getresponse() as answer:
                    return answer.status, answer.read()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error

    def _do(
        self, method: str, path: str, body: bytes = b"", query: dict[str, str] | None = None
    ) -> bytes:
        status, answer = self.ask(method, path, body, query)
        assert status < HTTPStatus.MULTIPLE_CHOICES, (method, path, status, answer)
        return answer

    def make(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"test-{secrets.token_hex(6)}"
        self._do("PUT", f"/{name}")
        return name

    def drop(self, bucket: str) -> None:
        """Remove a bucket and all that is in it."""
        while blobs := read_page(self._do("GET", f"/{bucket}", query=LISTING)).blobs:
            for blob in blobs:
                self._do("DELETE", f"/{bucket}/{blob.key}")
        self._do("DELETE", f"/{bucket}")

    def truncate(self, bucket: str, key: str, size: int) -> None:
        """Cut a stored object short."""
        path = f"/{bucket}/{key}"
        self._do("PUT", path, self._do("GET", path)[:size])
