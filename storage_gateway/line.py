"""The line between a parent process and one of its workers: connections go down, reports come up.

Both ends are non-blocking. The operating system closes an end whose process has died, however it
died: the other end is then told by `LineEnded`, which is how neither outlives the other.
"""

import enum
import os
import socket
from dataclasses import dataclass

REPORTS_READ_MAX = 65_536
"""As many as a pipe holds."""
AGAIN = "again"
"""The last argument of a worker that is started in the place of one that served."""
_CARRIER = b"c"
"""A byte to send a descriptor with: none can travel alone."""


class LineEnded(Exception):
    """The process at the other end is gone."""


class Report(enum.Enum):
    """What a worker tells, one byte each."""

    READY = b"r"
    """It takes connections from now on."""
    TAKEN = b"t"
    """It has the connection that waited longest: the parent's copy may be closed."""
    CLOSED = b"x"
    """One of its connections has ended."""
    DRAINING = b"d"
    """It takes no connection any more and ends when those that it has are done."""


@dataclass(frozen=True, slots=True)
class ParentEnd:
    """The parent's end."""

    down: socket.socket
    reports: int
    """The descriptor to read reports from."""

    def hand(self, connection: socket.socket) -> bool:
        """Send a copy of a connection; False when the line is full or broken."""
        try:
            socket.send_fds(self.down, [_CARRIER], [connection.fileno()])
        except OSError:  # BlockingIOError when it is full
            return False
        return True

    def read_reports(self) -> list[Report]:
        """Return what came.

        Raises:
            LineEnded: nothing will come any more.

        """
        try:
            data = os.read(self.reports, REPORTS_READ_MAX)
        except BlockingIOError:
            return []
        if not data:
            raise LineEnded
        return [Report(bytes([byte])) for byte in data]

    def close(self) -> None:
        """Let go of the line."""
        self.down.close()
        os.close(self.reports)


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """A worker's end."""

    down: socket.socket
    reports: int

    def take(self) -> socket.socket | None:
        """Return the next connection, or None when none waits.

        Raises:
            LineEnded: the parent is gone.

        """
        try:
            data, descriptors, _, _ = socket.recv_fds(self.down, 1, 1)
        except BlockingIOError:
            return None
        if not data:
            raise LineEnded
        if not descriptors:  # the process has none left: the kernel dropped the connection
            # Else the parent would take each later report for one of the connection before.
            self.report(Report.TAKEN)
            self.report(Report.CLOSED)
            return None
        connection = socket.socket(fileno=descriptors[0])
        connection.setblocking(False)
        return connection

    def report(self, report: Report) -> None:
        """Tell the parent, if it is there to listen."""
        try:
            os.write(self.reports, report.value)
        except OSError:
            # Full after 65,536 reports: the parent is stopped. Or gone, which `take` tells.
            return

    def close(self) -> None:
        """Let go of the line."""
        self.down.close()
        os.close(self.reports)


def open_line() -> tuple[ParentEnd, socket.socket, int]:
    """Return the parent's end, and the two halves that a worker inherits."""
    down, down_worker = socket.socketpair()
    reports, reports_worker = os.pipe()
    down.setblocking(False)
    os.set_blocking(reports, False)
    return ParentEnd(down, reports), down_worker, reports_worker


def worker_end(down: int, reports: int) -> WorkerEnd:
    """Return the end of a worker that inherited these descriptors."""
    inherited = socket.socket(fileno=down)
    inherited.setblocking(False)
    os.set_blocking(reports, False)
    for descriptor in (down, reports):
        os.set_inheritable(descriptor, False)
    return WorkerEnd(inherited, reports)
