"""An S3 server as many providers run it: Ceph with its object gateway (RGW). One monitor, one disk
(an OSD in a file) and one gateway, all on loopback, their files in a folder of their own. The
gateway can be killed and started again, and what is stored can be spoilt on the disk.
"""

import base64
import mmap
import os
import secrets
import shutil
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.requirements import absent

from .s3 import HOST, free_ports
from .s3_process import S3Process, running
from .server_process import WITHIN_S, spawn

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
HOW = "make night-tools, as root where apt-get has radosgw, ceph-mon, ceph-osd, ceph-common"
MONITOR_TRIES = 3
DISK_BYTES = 4 << 30
"""Of a file with holes: what is not written takes no room."""
# A cluster of one disk, with nothing outside its folder. By default each of the many changes that a
# first start consists of waits a second for others to go with.
SETTINGS = {
    "public addr": HOST,
    "cluster addr": HOST,
    "ms bind msgr1": "false",
    # Without keys its gateway hangs for ever, and says so in its log only.
    "auth cluster required": "cephx",
    "auth service required": "cephx",
    "auth client required": "cephx",
    "paxos propose interval": "0.05",
    "paxos min wait": "0.01",
    "mon allow pool size one": "true",
    "mon data avail crit": "1",
    "osd pool default size": "1",
    "osd pool default min size": "1",
    "osd pool default pg num": "1",
    "osd pool default pg autoscale mode": "off",
    "osd crush chooseleaf type": "0",
    "osd objectstore": "bluestore",
    "osd memory target": str(1 << 30),
    "bluestore block size": str(DISK_BYTES),
    "bluestore fsck on mkfs": "false",
    "rgw rados pool pg num min": "1",
    "rgw gc obj min wait": "5",
    # A gateway that was killed is still waited for when a bucket is made or removed.
    "client notify timeout": "1",
    "rgw max notify retries": "0",
    "admin socket": "",
    "log file": "",
    "log to stderr": "true",
    "debug rocksdb": "0",
}
NAMES = ("mon.", "client.admin", "osd.0")
"""Who has a key; one for all, with every right."""


def programs() -> None:
    """Return if the server is installed; skip or fail where it is not."""
    if not all(map(shutil.which, PROGRAMS)):
        absent("what needs Ceph with its object gateway (radosgw)", HOW)


@dataclass(slots=True)
class Ceph(S3Process):
    """One cluster, of which only the S3 API is known. `process` is its gateway."""

    _below: "list[subprocess.Popen[bytes]]" = field(default_factory=list, init=False)

    @property
    def parts(self) -> "list[subprocess.Popen[bytes]]":
        """All its processes, what others stand on first."""
        return [*self._below, *([] if self.process is None else [self.process])]

    def prepare(self) -> None:
        """Make the cluster and its user, once, and start what the gateway stands on."""
        for name in ("osd", "rgw"):
            (self.folder / name).mkdir()
        self._write_keyring()
        disk = str(uuid.uuid4())
        while not self._begin_monitor(disk):
            assert len(self._below) < MONITOR_TRIES, self._said_by("ceph-mon")
        self._run("ceph-osd", "--mkfs", "--id=0", f"--osd-uuid={disk}")
        self._begin("ceph-osd", "--id=0")
        # Comes back once the disk is there.
        user = ("--uid=tests", "--display-name=tests")
        keys = (f"--access-key={self.access_key}", f"--secret-key={self.secret_key}")
        self._run("radosgw-admin", "user", "create", *user, *keys)

    def _write_keyring(self) -> None:
        # A key: its kind (AES), when it was made (seconds, nanoseconds), its length, its bytes.
        packed = struct.pack("<HIIH", 1, int(time.time()), 0, 16) + secrets.token_bytes(16)
        lines = [f"key = {base64.b64encode(packed).decode()}"]
        lines += [f'caps {service} = "allow *"' for service in ("mon", "osd")]
        file = self.folder / "keyring"
        file.touch(mode=0o600)
        file.write_text("".join("\n".join([f"[{name}]", *lines, ""]) for name in NAMES))

    def _begin_monitor(self, disk: str) -> bool:
        """Start a new monitor, and tell it of the disk; tell whether it got its port."""
        (port,) = free_ports(1)
        cluster, address = str(uuid.uuid4()), f"v2:{HOST}:{port}"
        data, known = self.folder / f"mon-{port}", self.folder / f"monmap-{port}"
        data.mkdir()
        own = {
            "fsid": cluster,
            "mon host": address,
            "mon data": data,
            "osd data": self.folder / "osd",
            "rgw data": self.folder / "rgw",
            "keyring": self.folder / "keyring",
            "run dir": self.folder,
            "crash dir": self.folder,
        }
        lines = [f"{name} = {value}" for name, value in (SETTINGS | own).items()]
        (self.folder / "ceph.conf").write_text("\n".join(["[global]", *lines, ""]))
        self._run(
            "monmaptool", "--create", f"--fsid={cluster}", "--addv", "a", f"[{address}]", known
        )
        keyring = f"--keyring={self.folder / 'keyring'}"
        self._run("ceph-mon", "--mkfs", "--id=a", f"--monmap={known}", keyring)
        monitor = self._begin("ceph-mon", "--id=a")
        try:
            self._run("ceph", "--connect-timeout=10", "osd", "new", disk)
        except subprocess.CalledProcessError:
            if monitor.poll() is None:
                raise
            return False
        return True

    def _run(self, *command: str | Path) -> None:
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            subprocess.run(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=self._environment(),
                check=True,
                timeout=WITHIN_S,
            )

    def _begin(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a part that runs in the foreground until it is killed."""
        log = self.folder / f"{command[0]}.log"
        begun = spawn([*command, "--foreground"], log=log, environment=self._environment())
        self._below.append(begun)
        return begun

    def _said_by(self, program: str) -> str:
        return (self.folder / f"{program}.log").read_text(errors="replace")[-2000:]

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "CEPH_CONF": str(self.folder / "ceph.conf"),
        }

    def _command(self) -> list[str]:
        frontend = f"--rgw-frontends=beast endpoint={HOST}:{self.port}"
        return ["radosgw", "--foreground", "--name=client.admin", frontend]

    def close(self) -> None:
        """End it for good; see the base."""
        S3Process.close(self)
        for part in reversed(self._below):
            part.kill()
            part.wait(WITHIN_S)

    def set_quota(self, bucket: str, size: int) -> None:
        """Let a bucket hold so many bytes, and no more."""
        limited = ("--quota-scope=bucket", f"--bucket={bucket}")
        self._run("radosgw-admin", "quota", "set", *limited, f"--max-size={size}")
        self._run("radosgw-admin", "quota", "enable", *limited)

    def flip_bit(self, content: bytes) -> None:
        """Flip one bit of `content` in the one place on disk that holds it."""
        with (
            (self.folder / "osd" / "block").open("r+b") as disk,
            mmap.mmap(disk.fileno(), 0) as data,
        ):
            at = data.find(content)
            assert at >= 0, "the content is in no block of the disk"
            data[at] ^= 1
            data.flush()


@contextmanager
def ceph() -> Iterator[Ceph]:
    """Run a server until the end of the block; its files vanish with it."""
    programs()
    with running(Ceph, "ceph") as server:
        yield server
