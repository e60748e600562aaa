"""Goal: parent and worker agree on whose a connection is, also when something goes wrong with it.

Method: both ends of the line in one process: the parent's balancer, and worker ends that are told
what to do, or a real site. Descriptors run out by lowering the limit for one call.
"""

import asyncio
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from aiohttp import web

from storage_gateway.api import HandedSite
from storage_gateway.cli.balancer import Balancer, Member, bind
from storage_gateway.line import Report, WorkerEnd, open_line, worker_end

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="not tested: workers, elsewhere than Linux"
)

WITHIN_S = 10.0


class Parent:
    """A balancer that listens, with as many workers as were added."""

    def __init__(self, listeners: list[socket.socket], opened: ExitStack) -> None:
        self.balancer = Balancer(listeners)
        self._address = listeners[0].getsockname()
        self._opened = opened

    def add(self) -> tuple[Member, WorkerEnd]:
        end, down, reports = open_line()
        line = worker_end(down.detach(), reports)
        self._opened.callback(line.close)
        member = self.balancer.add(end)
        self._opened.callback(self.balancer.remove, member)
        return member, line

    def connect(self) -> socket.socket:
        return self._opened.enter_context(socket.create_connection(self._address, WITHIN_S))


@pytest.fixture
async def parent() -> AsyncIterator[Parent]:
    with ExitStack() as opened:
        made = Parent(await bind("127.0.0.1", 0), opened)
        opened.callback(made.balancer.stop)
        made.balancer.listen()
        yield made


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds():
            await asyncio.sleep(0.001)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_connection_that_found_no_descriptor_is_not_taken_for_the_next_one(
    parent: Parent,
) -> None:
    member, line = parent.add()
    line.report(Report.READY)
    lost = parent.connect()
    await until(lambda: len(member.untaken) == 1)
    with no_descriptor_left():
        assert line.take() is None
    await until(lambda: not member.untaken)

    assert b"" == await asyncio.to_thread(lost.recv, 1)
    assert 0 == member.open
    served = parent.connect()
    await until(lambda: len(member.untaken) == 1)
    taken = line.take()
    assert taken is not None
    with taken:
        assert served.getsockname() == taken.getpeername()
    line.report(Report.TAKEN)
    assert b"" == await asyncio.to_thread(served.recv, 1)


async def test_a_draining_worker_does_not_keep_open_what_another_one_closes(
    parent: Parent,
) -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    member, line = parent.add()
    site = HandedSite(runner, line, ssl_context=None, on_end=lambda: None)
    await site.start()
    await until(lambda: member.taking)
    client = parent.connect()
    # Handed over in the very moment in which the worker stops: it does not take it any more.
    asyncio.get_running_loop().remove_reader(line.down)
    await until(lambda: len(member.untaken) == 1)
    await site.stop()
    other, other_line = parent.add()
    other_line.report(Report.READY)
    await until(lambda: len(other.untaken) == 1)

    taken = other_line.take()
    assert taken is not None
    taken.close()
    other_line.report(Report.TAKEN)

    assert b"" == await asyncio.to_thread(client.recv, 1)
    await runner.cleanup()
