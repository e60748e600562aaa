"""Goal: each fault of the proxy is seen by both ends as such a fault is, where the plan says so and
nowhere else, and is over when it is healed. Method: raw bytes over real sockets.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from storage_gateway.stress.tcp_faults import HEAD_END, HOST, FaultKind, ProxyFault, Side, _Body
from storage_gateway.stress.tcp_proxy import TCPProxy, tcp_proxy
from tests.servers.scripted import Say, scripted

BODY = Random(0).randbytes(200_000)
HEAD = b"HTTP/1.1 200 So\r\nContent-Length: 200000"


def request(body: bytes = b"") -> bytes:
    return b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, body: bytes = b"") -> bytes:
        """Return the answer's body, if it comes whole."""
        self.writer.write(request(body))
        await self.writer.drain()
        head = await self.reader.readuntil(HEAD_END)
        return await self.reader.readexactly(int(head.rsplit(b": ", 1)[1]))

    async def read_until_broken(self) -> bytes:
        """Return what came before the connection was reset."""
        came = bytearray()
        try:
            while piece := await self.reader.read(1000):
                came += piece
        except ConnectionResetError:
            return bytes(came)
        raise AssertionError("it ended in order")


@asynccontextmanager
async def client_of(proxy: TCPProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


class Sink:
    """A server that answers nothing and tells what came, and how it ended."""

    def __init__(self) -> None:
        self.came = bytearray()
        self.ended = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(1000):
                self.came += piece
            self.ended = "in order"
        except ConnectionResetError:
            self.ended = "reset"
        finally:
            writer.close()


@asynccontextmanager
async def before_sink(fault: ProxyFault) -> AsyncIterator[tuple[TCPProxy, Sink]]:
    sink = Sink()
    server = await asyncio.start_server(sink.serve, HOST, 0)
    try:
        async with tcp_proxy(server.sockets[0].getsockname()[1], seed=1) as proxy:
            await proxy.inject(fault)
            yield proxy, sink
    finally:
        server.close()


@asynccontextmanager
async def before_script(**fault: Any) -> AsyncIterator[tuple[TCPProxy, list[bytes]]]:  # noqa: ANN401
    """Run the proxy before a server that answers BODY; also give the bodies that it received."""
    bodies: list[bytes] = []

    def say(received: Any) -> Say:  # noqa: ANN401
        bodies.append(received.body)
        return Say(200, BODY)

    async with (
        scripted(say) as server,
        tcp_proxy(int(server.endpoint.rpartition(":")[2]), seed=1) as proxy,
    ):
        await proxy.inject(ProxyFault(**fault))
        yield proxy, bodies


async def test_without_a_fault_all_passes_both_ways() -> None:
    async with before_script() as (proxy, bodies), client_of(proxy) as client:
        for _ in range(3):
            assert BODY == await client.ask(BODY[::-1])

        assert [BODY[::-1]] * 3 == bodies
        assert (1, 0) == (proxy.accepted, proxy.happened)


async def test_an_answer_that_does_not_begin_in_time_is_not_waited_for() -> None:
    async with before_sink(ProxyFault(answer_within_s=0.05)) as (proxy, sink):
        async with client_of(proxy) as client:
            client.writer.write(request(b"all of it"))
            assert b"" == await client.read_until_broken()
        await until(lambda: bool(sink.ended))

        assert (1, "reset") == (proxy.happened, sink.ended)
        assert request(b"all of it") == bytes(sink.came)


async def test_an_answer_that_has_begun_is_waited_for_and_so_is_the_next_request() -> None:
    fault: dict[str, Any] = {"answer_within_s": 0.2, "link_bytes_per_s": 600_000.0}
    async with before_script(**fault) as (proxy, _), client_of(proxy) as client:
        for _ in range(2):
            assert BODY == await client.ask()  # each takes longer than 0.2 s to come whole

        assert 0 == proxy.happened


async def test_who_waits_for_an_answer_when_the_proxy_is_healed_goes_on_waiting() -> None:
    async with (
        before_sink(ProxyFault(answer_within_s=0.05)) as (proxy, sink),
        client_of(proxy) as client,
    ):
        client.writer.write(request())
        await until(lambda: bool(sink.came))
        await proxy.heal()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.1)

        assert 0 == proxy.happened


async def test_a_refusal_is_for_open_connections_too_and_the_port_stays() -> None:
    async with before_script() as (proxy, _):
        async with client_of(proxy) as client:
            await client.ask()
            await proxy.inject(ProxyFault(kind=FaultKind.REFUSE))
            assert b"" == await client.read_until_broken()
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HOST, proxy.port)
        await proxy.heal()
        async with client_of(proxy) as client:
            assert BODY == await client.ask()


async def test_silence_hears_all_and_says_nothing() -> None:
    async with (
        before_script(kind=FaultKind.SILENCE) as (proxy, bodies),
        client_of(proxy) as client,
    ):
        asking = asyncio.create_task(client.ask(BODY))
        await until(lambda: proxy.happened == 1)
        done, _ = await asyncio.wait([asking], timeout=0.1)
        await proxy.heal()

        assert not done
        with pytest.raises(ConnectionError):
            await asking
        assert [] == bodies


@pytest.mark.parametrize("after", [0, 1, 70_000, len(BODY) - 1])
async def test_an_answer_stalls_in_its_body(after: int) -> None:
    async with (
        before_script(kind=FaultKind.STALL, after_bytes=after) as (proxy, _),
        client_of(proxy) as client,
    ):
        client.writer.write(request())
        reading = asyncio.create_task(client.read_until_broken())
        await until(lambda: proxy.happened == 1)
        done, _ = await asyncio.wait([reading], timeout=0.05)
        await proxy.heal()

        assert not done
        assert HEAD + HEAD_END + BODY[:after] == await reading


async def test_who_leaves_a_stalled_answer_is_not_kept() -> None:
    async with before_script(kind=FaultKind.STALL) as (proxy, _):
        async with client_of(proxy) as client:
            client.writer.write(request())
            await until(lambda: proxy.happened == 1)
        await until(lambda: not proxy._running)


@pytest.mark.parametrize("after", [0, 70_000])
async def test_an_answer_is_reset_in_its_body(after: int) -> None:
    async with (
        before_script(kind=FaultKind.RESET, after_bytes=after) as (proxy, _),
        client_of(proxy) as client,
    ):
        client.writer.write(request())

        assert HEAD + HEAD_END + BODY[:after] == await client.read_until_broken()


@pytest.mark.parametrize("after", [0, 70_000])
async def test_a_truncated_answer_ends_in_order(after: int) -> None:
    async with (
        before_script(kind=FaultKind.TRUNCATE, after_bytes=after) as (proxy, _),
        client_of(proxy) as client,
    ):
        client.writer.write(request())

        assert HEAD + HEAD_END + BODY[:after] == await client.reader.read()


async def test_one_bit_is_flipped_in_each_exchange() -> None:
    async with (
        before_script(kind=FaultKind.FLIP, after_bytes=70_000) as (proxy, bodies),
        client_of(proxy) as client,
    ):
        flipped = BODY[:70_000] + bytes([BODY[70_000] ^ 1]) + BODY[70_001:]
        assert [flipped] * 3 == [await client.ask(BODY) for _ in range(3)]
        assert [BODY] * 3 == bodies
        assert 1 == proxy.happened


@pytest.mark.parametrize(
    ("kind", "ended"),
    [
        (FaultKind.STALL, "reset"),
        (FaultKind.RESET, "reset"),
        (FaultKind.TRUNCATE, "in order"),
    ],
)
async def test_a_request_suffers_too(kind: FaultKind, ended: str) -> None:
    fault = ProxyFault(kind=kind, side=Side.REQUEST, after_bytes=70_000)
    async with before_sink(fault) as (proxy, sink), client_of(proxy) as client:
        sent = request(BODY)
        client.writer.write(sent)
        size = sent.index(HEAD_END) + len(HEAD_END) + 70_000
        await until(lambda: len(sink.came) == size)
        await proxy.heal()
        await until(lambda: sink.ended != "")

        assert sent[:size] == sink.came
        assert ended == sink.ended


async def test_a_bit_of_a_request_is_flipped() -> None:
    fault = {"kind": FaultKind.FLIP, "side": Side.REQUEST, "after_bytes": 2}
    async with before_script(**fault) as (proxy, bodies), client_of(proxy) as client:
        assert BODY == await client.ask(b"abcd")
        assert [b"abbd"] == bodies


async def test_a_lost_answer_is_to_a_request_that_was_whole() -> None:
    async with (
        before_script(kind=FaultKind.LOSE_ANSWER) as (proxy, bodies),
        client_of(proxy) as client,
    ):
        client.writer.write(request(BODY))

        assert b"" == await client.read_until_broken()
        assert [BODY] == bodies


async def test_a_late_request_is_whole_and_its_answer_comes() -> None:
    fault = {"kind": FaultKind.LATE, "late_s": 0.1}
    async with before_script(**fault) as (proxy, bodies), client_of(proxy) as client:
        for count in (1, 2):
            began_s = time.monotonic()
            assert BODY == await client.ask(BODY[::-1])

            assert time.monotonic() - began_s > 0.09
            assert [BODY[::-1]] * count == bodies
        assert 1 == proxy.happened


@pytest.mark.parametrize("rudely", [False, True])
async def test_a_late_request_arrives_although_its_client_went_away(rudely: bool) -> None:
    async with before_script(kind=FaultKind.LATE, late_s=0.2) as (proxy, bodies):
        async with client_of(proxy) as client:
            client.writer.write(request(BODY))
            await client.writer.drain()
            await until(lambda: proxy.accepted == 1)
            if not rudely:
                client.writer.close()
                await client.writer.wait_closed()
        assert [] == bodies
        await until(lambda: bool(bodies))
        assert 1 == len(proxy._running), "the server is not told that nobody waits for its answer"
        await proxy.heal()

        assert not proxy._running
        assert [BODY] == bodies
        assert 1 == proxy.happened


async def test_what_is_late_is_dropped_when_the_proxy_is_healed() -> None:
    async with (
        before_script(kind=FaultKind.LATE, late_s=3600.0) as (proxy, bodies),
        client_of(proxy) as client,
    ):
        client.writer.write(request(BODY))
        await until(lambda: proxy.accepted == 1)
        await proxy.heal()

        assert b"" == await client.read_until_broken()
        assert [] == bodies


async def test_a_fault_of_some_requests_spares_the_others() -> None:
    fault = ProxyFault(kind=FaultKind.LOSE_ANSWER, requests=(b"PUT /a", b"PUT /b"))

    async def ask(client: Client, path: str) -> bytes:
        client.writer.write(request().replace(b"PUT /", f"PUT {path}".encode()))
        head = await client.reader.readuntil(HEAD_END)
        return await client.reader.readexactly(int(head.rsplit(b": ", 1)[1]))

    async with before_script() as (proxy, _):
        await proxy.inject(fault)
        async with client_of(proxy) as caught, client_of(proxy) as spared:
            for client in (caught, spared):
                assert [BODY] * 2 == [await ask(client, path) for path in ("/", "/c")]
            assert 0 == proxy.happened
            with pytest.raises(ConnectionResetError):
                await ask(caught, "/b")
            assert 1 == proxy.happened
            await proxy.heal()

            assert BODY == await ask(spared, "/b")


@pytest.mark.parametrize("side", Side)
async def test_a_trickle_takes_its_time(side: Side) -> None:
    rate = 2_000_000.0
    fault = {"kind": FaultKind.TRICKLE, "side": side, "trickle_bytes_per_s": rate}
    async with before_script(**fault) as (proxy, bodies), client_of(proxy) as client:
        began_s = time.monotonic()
        assert BODY == await client.ask(BODY)

        assert time.monotonic() - began_s > 0.8 * len(BODY) / rate
        assert [BODY] == bodies


async def test_a_slow_trickle_comes_byte_by_byte() -> None:
    async with (
        before_script(kind=FaultKind.TRICKLE, trickle_bytes_per_s=200.0) as (proxy, _),
        client_of(proxy) as client,
    ):
        client.writer.write(request())
        began_s = time.monotonic()
        came = await client.reader.readexactly(30)

        assert HEAD[:30] == came
        assert time.monotonic() - began_s > 0.13  # of 0.15, what a late timer is forgiven


async def test_latency_is_of_each_side_of_each_exchange_not_of_each_piece() -> None:
    async with before_script(latency_s=0.1) as (proxy, _), client_of(proxy) as client:
        began_s = time.monotonic()
        for _ in range(2):
            await client.ask(bytes(4 << 20))

        assert 0.4 <= time.monotonic() - began_s < 6.0  # with 64 pieces, 13 seconds


async def test_the_link_is_shared() -> None:
    async with (
        before_script(link_bytes_per_s=4e6) as (proxy, _),
        client_of(proxy) as one,
        client_of(proxy) as other,
    ):
        began_s = time.monotonic()
        assert [BODY, BODY] == list(await asyncio.gather(one.ask(), other.ask()))

        assert time.monotonic() - began_s > 0.8 * 2 * len(BODY) / 4e6


async def outcomes(proxy: TCPProxy, count: int) -> str:
    """Tell of connections, one after the other, which were caught."""
    told = ""
    for _ in range(count):
        async with client_of(proxy) as client:
            try:
                await client.ask()
                told += "-"
            except ConnectionResetError:
                told += "X"
    return told


async def test_the_seed_draws_who_is_caught() -> None:
    fault = ProxyFault(kind=FaultKind.LOSE_ANSWER, one_in=3)
    async with scripted(lambda _: Say()) as server:
        port = int(server.endpoint.rpartition(":")[2])
        told = []
        for seed in (1, 1, 2):
            async with tcp_proxy(port, seed=seed) as proxy:
                await proxy.inject(fault)
                told.append(await outcomes(proxy, 30))
                assert told[-1].count("X") == proxy.happened
    assert told[0] == told[1] != told[2]
    assert 3 <= told[0].count("X") <= 20


async def test_only_the_first_are_caught() -> None:
    async with before_script() as (proxy, _):
        for _ in range(2):
            await proxy.inject(ProxyFault(kind=FaultKind.LOSE_ANSWER, connections_max=2))
            assert "XX--" == await outcomes(proxy, 4)


async def test_healing_breaks_off_only_who_was_caught() -> None:
    async with (
        before_script(kind=FaultKind.STALL, connections_max=1) as (proxy, _),
        client_of(proxy) as caught,
        client_of(proxy) as free,
    ):
        caught.writer.write(request())
        assert HEAD + HEAD_END == await caught.reader.readuntil(HEAD_END)
        await until(lambda: proxy.happened == 1)
        assert BODY == await free.ask()

        await proxy.heal()

        assert BODY == await free.ask()
        assert b"" == await caught.read_until_broken()


async def test_a_server_that_is_gone_is_a_broken_connection() -> None:
    async with before_script() as (proxy, _):
        pass
    async with tcp_proxy(proxy._target_port, seed=1) as orphan, client_of(orphan) as client:
        assert b"" == await client.read_until_broken()


async def test_nothing_is_left_of_it() -> None:
    before = asyncio.all_tasks()
    async with before_script(kind=FaultKind.STALL) as (proxy, _), client_of(proxy) as client:
        client.writer.write(request())
        assert HEAD + HEAD_END == await client.reader.readuntil(HEAD_END)
        await until(lambda: proxy.happened == 1)
        await proxy.close()
        assert b"" == await client.read_until_broken()
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("after", range(5))
def test_a_place_in_the_body_is_found_however_the_pieces_are_cut(after: int) -> None:
    sent = b"a\r\n\rb\r\n\r\n0123"
    place = sent.index(b"0") + after
    for first in range(len(sent)):
        for second in range(first, len(sent)):
            body, found, offset = _Body(), [], 0
            for piece in (sent[:first], sent[first:second], sent[second:]):
                at = body.place_in(piece, after)
                found += [] if at is None else [offset + at]
                offset += len(piece)
            assert ([place] if after < 4 else []) == found, (first, second)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": FaultKind.REFUSE, "one_in": 2},
        {"kind": FaultKind.REFUSE, "connections_max": 1},
        {"kind": FaultKind.SILENCE, "requests": (b"PUT ",)},
        {"after_bytes": -1},
        {"late_s": -0.1},
        {"connections_max": -1},
        {"latency_s": -0.1},
        {"one_in": 0},
        {"trickle_bytes_per_s": 0.0},
        {"link_bytes_per_s": 0.0},
        {"answer_within_s": 0.0},
    ],
)
def test_what_cannot_be_done_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        ProxyFault(**wrong)
