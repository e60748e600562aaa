"""What the servers of the tests have in common as processes: started on ports of their own in a
folder of their own, killed, started again on the same ports and files.
"""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

WITHIN_S = 60.0
PORT_TAKEN = "address already in use"


@dataclass(slots=True)
class ServerProcess(ABC):
    """One server. `start` it, `close` it."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _served: bool = field(default=False, init=False)

    @abstractmethod
    def _choose_ports(self) -> None:
        """Choose the ports that clients are to use."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return what starts it on these ports."""

    @abstractmethod
    def _environment(self) -> dict[str, str]:
        """Return all that it sees of the environment."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether all of it is there."""

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start, or start again on the same ports and files, and wait until it answers."""
        until = time.monotonic() + WITHIN_S
        self._spawn()
        while not self._answers():
            assert time.monotonic() < until, self.log[-2000:]
            time.sleep(0.02)
            if self.process is not None and self.process.poll() is not None:
                assert PORT_TAKEN in self.log[-4000:].lower(), self.log[-2000:]
                self._spawn()
        self._served = True

    def _spawn(self) -> None:
        if not self._served:  # later on clients know the ports: they are waited for
            self._choose_ports()
        log = self.folder / "log"
        self.process = spawn(self._command(), log=log, environment=self._environment())

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WITHIN_S)

    def stop(self) -> None:
        """Stop it in its tracks: it accepts connections and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # each of its threads

    def resume(self) -> None:
        """Let it go on after `stop`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def revive(self) -> None:
        """Start it if it was killed, whatever became of the test that did."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def close(self) -> None:
        """End it for good: nothing of it is needed any more."""
        if self.process is not None and self.process.poll() is None:
            self.kill()


def spawn(
    command: Sequence[str], *, log: Path, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a process in the folder of its log, to which all goes that it says."""
    with log.open("ab") as said:
        return subprocess.Popen(
            command,
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            cwd=log.parent,
            start_new_session=True,
            env=environment,
        )
