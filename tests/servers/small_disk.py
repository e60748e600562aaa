"""A SeaweedFS whose disk can be full: a small one in memory, which no other process has mounted and
which ends with the server, so a kill takes all that was stored.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .seaweedfs import SeaweedFS, running

DISK_BYTES = 64 << 20
OWN_MOUNTS = ("unshare", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
# By default it allows as many files of 128 MiB as the disk would hold: none. What it failed to
# write it counts for half a minute: small files are taken for full while there is room again.
FILES = ("-volume.max=8", "-master.volumeSizeLimitMB=1024")
FILLING = "filling"


@dataclass(slots=True)
class SmallDisk(SeaweedFS):
    """One server, and what else lies on its disk."""

    def _command(self) -> list[str]:
        mount = [*OWN_MOUNTS, MOUNT, "sh", str(DISK_BYTES), str(self.folder / "data")]
        return [*mount, *SeaweedFS._command(self), *FILES]

    @property
    def disk(self) -> Path:
        """Where this process finds what the server has mounted."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root", *(self.folder / "data").parts[1:])

    def fill(self, *, leave: int) -> None:
        """Let others take all of the disk but so many bytes."""
        with (self.disk / FILLING).open("ab") as file:
            free = shutil.disk_usage(self.disk).free
            file.write(bytes(max(0, free - leave)))

    def make_room(self) -> None:
        """Take back what `fill` took. Of what is deleted the server makes room much later."""
        (self.disk / FILLING).unlink(missing_ok=True)


def is_allowed(folder: Path) -> bool:
    """Tell whether a process may have mounts of its own, as the server does."""
    command = [*OWN_MOUNTS, MOUNT, "sh", "4096", str(folder), "true"]
    return shutil.which("unshare") is not None and not subprocess.call(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Run a server until the end of the block; skip where there cannot be one. ``folder`` is one
    in which it may be tried.
    """
    if not is_allowed(folder):
        # Nothing that could be installed: no gap of who allows none.
        pytest.skip(
            "not tested: a bucket on a full disk; to test it: run on Linux, where processes may"
            " have user and mount namespaces of their own"
        )
    with running(SmallDisk) as server:
        yield server
