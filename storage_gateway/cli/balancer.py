"""Handing each new connection to the worker that has the fewest open. In the parent process.

Each connection is the parent's until a worker has told that it took it: when a worker ends before,
however it ends, its connections go to the others. What none can take waits here, or in the kernel.
"""

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage_gateway.line import LineEnded, ParentEnd, Report

logger = logging.getLogger(__name__)

BACKLOG = 128
ACCEPTED_AT_ONCE_MAX = 16
EXHAUSTED_S = 1.0
"""How long to accept nothing after the system had no descriptor or memory for a connection."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(slots=True, eq=False)
class Member:
    """A worker, as far as connections go."""

    end: ParentEnd
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    taking: bool = False
    open: int = 0
    """Connections that were handed to it and have not ended."""
    untaken: "deque[socket.socket]" = field(default_factory=deque)
    last_handed: int = 0


class Balancer:
    """Accepts from listening sockets once `listen` was called; `stop` ends that."""

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        """The sockets are bound, do not listen yet, and are this object's to close."""
        self._listeners = listeners
        self._members: list[Member] = []
        self._waiting: deque[socket.socket] = deque()
        self._handed = 0
        self._listening = False
        self._accepting = False

    def listen(self) -> None:
        """Listen, and hand on what comes.

        Raises:
            OSError: another process took the port meanwhile.

        """
        for listener in self._listeners:
            listener.listen(BACKLOG)
        self._listening = True
        self._accept_if_possible()

    def stop(self) -> None:
        """Listen no more; connections that no worker has taken are closed."""
        self._pause()
        self._listening = False
        for listener in self._listeners:
            listener.close()
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().close()

    def add(self, end: ParentEnd) -> Member:
        """Take a worker in; it gets connections once it is ready."""
        member = Member(end)
        self._members.append(member)
        asyncio.get_running_loop().add_reader(end.reports, self._hear, member)
        return member

    def remove(self, member: Member) -> None:
        """Let go of a worker that has ended; what it did not take goes to the others."""
        self._hear(member)  # its last words
        asyncio.get_running_loop().remove_reader(member.end.reports)
        self._members.remove(member)
        self._give_up(member)
        member.end.close()

    def _hear(self, member: Member) -> None:
        try:
            reports = member.end.read_reports()
        except LineEnded:
            asyncio.get_running_loop().remove_reader(member.end.reports)
            return
        for report in reports:
            if report is Report.READY:
                member.taking = True
                member.ready.set()
            elif report is Report.TAKEN and member.untaken:
                member.untaken.popleft().close()
            elif report is Report.CLOSED:
                member.open -= 1
            elif report is Report.DRAINING:
                self._give_up(member)
        self._hand_waiting()

    def _give_up(self, member: Member) -> None:
        member.taking = False
        self._waiting.extend(member.untaken)
        member.open -= len(member.untaken)
        member.untaken.clear()
        if self._listening:
            self._hand_waiting()
        else:
            self._drop_waiting()

    def _hand_waiting(self) -> None:
        while self._waiting and self._hand(self._waiting[0]):
            self._waiting.popleft()
        self._accept_if_possible()

    def _hand(self, connection: socket.socket) -> bool:
        takers = (member for member in self._members if member.taking)
        for member in sorted(takers, key=lambda m: (m.open, m.last_handed)):
            if member.end.hand(connection):
                self._handed += 1
                member.last_handed = self._handed
                member.open += 1
                member.untaken.append(connection)
                return True
        return False

    def _accept_if_possible(self) -> None:
        """Accept only while somebody can take: the rest waits in the kernel."""
        able = not self._waiting and any(member.taking for member in self._members)
        if not (self._listening and able):
            self._pause()
        elif not self._accepting:
            self._accepting = True
            for listener in self._listeners:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE_MAX):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                logger.warning("no connection accepted", extra={"reason": error.strerror})
                self._pause()
                asyncio.get_running_loop().call_later(EXHAUSTED_S, self._accept_if_possible)
                return
            self._waiting.append(connection)
            self._hand_waiting()
            if self._waiting:
                return


async def bind(host: str, port: int) -> list[socket.socket]:
    """Bind where a server of one process would, and do not listen yet.

    Raises:
        OSError: that is not possible.

    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        listeners = [socket.socket(fileno=os.dup(found.fileno())) for found in server.sockets]
    finally:
        server.close()
    for listener in listeners:
        listener.setblocking(False)
    return listeners
