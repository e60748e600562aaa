"""Running `storage-gateway` commands as a user does: one process each, its output, its files."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from crypto import HybridIdentity, Identity, X25519Identity
from tests.requirements import ROOT

PROGRAM = (sys.executable, "-P", "-m", "storage_gateway")
# Buffered output, as a user has it: what cannot be written shows only when it is flushed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
DEADLINE_S = 60


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with keys in it, where commands are run."""

    path: Path
    user: Identity = field(default_factory=X25519Identity.generate)
    miner: Identity = field(default_factory=X25519Identity.generate)
    outsider: Identity = field(default_factory=X25519Identity.generate)
    hybrid: Identity = field(default_factory=HybridIdentity.generate)

    def __post_init__(self) -> None:
        for name in ("user", "miner", "outsider", "hybrid"):
            self.write(f"{name}.txt", f"{getattr(self, name).to_text()}\n".encode())

    def run(self, *arguments: object, stdin: bytes = b"", stdout: int = subprocess.PIPE) -> Done:
        """Run a command in this folder; `stdout` is a descriptor that it shall write to."""
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            input=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=self.path,
            env=ENVIRONMENT,
            timeout=DEADLINE_S,
            check=False,
        )
        return Done(done.returncode, done.stdout or b"", done.stderr.decode())

    def well(self, *arguments: object, stdin: bytes = b"") -> bytes:
        """Run a command that must succeed; return what it wrote to stdout."""
        done = self.run(*arguments, stdin=stdin)
        assert done.status == 0, done.stderr
        return done.stdout

    def start(self, *arguments: object, stderr: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        """Start a command in this folder, with pipes to it and from it."""
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=self.path,
            env=ENVIRONMENT,
        )

    def write(self, name: str, data: bytes) -> Path:
        """Make a file."""
        path = self.path / name
        path.write_bytes(data)
        return path

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.path / name).read_bytes()

    def names(self) -> set[str]:
        """Return the names of all files, hidden ones too."""
        return {path.name for path in self.path.iterdir()}

    def secrets(self) -> list[str]:
        """Return the texts that no output may hold."""
        return [key.to_text() for key in (self.user, self.miner, self.outsider, self.hybrid)]
