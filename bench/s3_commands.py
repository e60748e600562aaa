"""Peers over the S3 server: commands, as a person without a gateway would use them.

Each is started anew for each transfer, on the gateway's core, and its start counts. It reads a
file, which lies in the page cache, and what it fetches goes nowhere. CPU time is that of all
processes of a command. That it ends without an error says that all was there: both check what they
open.
"""

import os
import resource
import shutil
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from .machine import NotMeasurable, cores, pinned
from .s3_server import S3Server
from .s3_sides import S3Side, Taken, timed
from .sides import RECIPIENTS, SideMissing


class Command(S3Side):
    """Commands in a pipe on the gateway's core, with their start; from a file, to nowhere."""

    def __init__(self, server: S3Server, folder: Path, plaintext: Path) -> None:
        """`plaintext` is a file, in the page cache as it was just written. Raises SideMissing."""
        self._server = server
        self._plaintext = plaintext
        self._rclone = _found("rclone")
        self._environment = {
            # What is meant for other servers, or for another rclone, is not passed on.
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_SERVER_TYPE": "s3",
            "RCLONE_CONFIG_SERVER_PROVIDER": "Other",
            "RCLONE_CONFIG_SERVER_ENDPOINT": server.seaweedfs.endpoint,
            "RCLONE_CONFIG_SERVER_ACCESS_KEY_ID": server.seaweedfs.access_key,
            "RCLONE_CONFIG_SERVER_SECRET_ACCESS_KEY": server.seaweedfs.secret_key,
            "RCLONE_S3_NO_CHECK_BUCKET": "true",
            **self._own_environment(),
        }
        self._prepare(folder)
        self._bucket = server.new_bucket()

    @property
    @abstractmethod
    def version(self) -> str:
        """Name and version of the commands."""

    @abstractmethod
    def _uploading(self) -> Sequence[Sequence[str]]:
        """Return the commands of an upload."""

    @abstractmethod
    def _downloading(self) -> Sequence[Sequence[str]]:
        """Return the commands of a download."""

    def _own_environment(self) -> dict[str, str]:
        return {}

    def _prepare(self, folder: Path) -> None:
        """Make keys."""

    def upload(self) -> Taken:
        return timed(_children_cpu_s, lambda: self._run(self._uploading()))

    def download(self) -> Taken:
        return timed(_children_cpu_s, lambda: self._run(self._downloading()))

    def forget(self) -> None:
        self._server.seaweedfs.drop(self._bucket)
        self._bucket = self._server.new_bucket()

    def _run(self, commands: Sequence[Sequence[str]]) -> None:
        """Run a pipe to its end. Raises NotMeasurable when one of its commands fails."""
        environment = {**self._environment, "RCLONE_CONFIG_CRYPT_REMOTE": f"server:{self._bucket}"}
        running: list[subprocess.Popen[bytes]] = []
        _, core = cores()
        with ExitStack() as stack, pinned(core):
            for number, command in enumerate(commands):
                before = running[-1].stdout if running else None
                process = subprocess.Popen(
                    command,
                    stdin=before or subprocess.DEVNULL,
                    stdout=subprocess.PIPE if number + 1 < len(commands) else subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=environment,
                )
                running.append(stack.enter_context(process))
                if before is not None:
                    before.close()  # the next one has it: who writes shall see when that is gone
            # Each says a line or two: no pipe of errors is ever full.
            said = [process.stderr.read() if process.stderr else b"" for process in running]
        for process, text in zip(running, said, strict=True):
            if process.returncode != 0:
                raise NotMeasurable(f"{self.name} failed: {text.decode(errors='replace')[-500:]}")

    def _says(self, *command: str) -> str:
        run = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()


class RcloneCrypt(Command):
    """rclone's own encryption (XSalsa20-Poly1305 in blocks of 64 KiB), as it comes."""

    name = "rclone crypt"

    def _own_environment(self) -> dict[str, str]:
        said = subprocess.run(
            [self._rclone, "obscure", "made-up password"],
            capture_output=True,
            text=True,
            check=True,
        )
        return {
            "RCLONE_CONFIG_CRYPT_TYPE": "crypt",
            "RCLONE_CONFIG_CRYPT_PASSWORD": said.stdout.strip(),
        }

    @property
    def version(self) -> str:
        return self._says(self._rclone, "version").splitlines()[0]

    def _uploading(self) -> Sequence[Sequence[str]]:
        return [[self._rclone, "copyto", str(self._plaintext), "crypt:object"]]

    def _downloading(self) -> Sequence[Sequence[str]]:
        return [[self._rclone, "cat", "crypt:object"]]


class AgePiped(Command):
    """The age command, piped into `rclone rcat`, which uploads what it reads; `rclone cat` back."""

    name = "age piped into rclone"

    def _prepare(self, folder: Path) -> None:
        self._age, keygen = _found("age"), _found("age-keygen")
        self._keys = [str(folder / f"age-key-{number}") for number in range(RECIPIENTS)]
        self._recipients: list[str] = []
        for key in self._keys:
            self._says(keygen, "-o", key)
            self._recipients += ["-r", self._says(keygen, "-y", key)]

    @property
    def version(self) -> str:
        return f"age {self._says(self._age, '--version')}"

    def _uploading(self) -> Sequence[Sequence[str]]:
        return [
            [self._age, *self._recipients, str(self._plaintext)],
            [self._rclone, "rcat", f"server:{self._bucket}/object"],
        ]

    def _downloading(self) -> Sequence[Sequence[str]]:
        return [
            [self._rclone, "cat", f"server:{self._bucket}/object"],
            [self._age, "-d", "-i", self._keys[-1]],
        ]


def _found(command: str) -> str:
    path = shutil.which(command)
    if path is None:
        raise SideMissing(f"there is no {command}")
    return path


def _children_cpu_s() -> float:
    """Return the CPU seconds of all children that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
