"""Goal: several workers on one port are one gateway: work is spread over them, what one did all
see, and the death of any process, the parent too, loses nothing that was acknowledged.

Method: the real command with ``--workers``, over real sockets. Which worker served a request is
read in its log. Linux, for the list of processes.
"""

import asyncio
import io
import itertools
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from storage_gateway.client import Client, ClientError
from tests.commands import command, command_beside
from tests.gateway import GatewayProcess, eventually, gateway_process, open_session
from tests.http.raw import EXPECT, Answer, Connection, connected, exchange, request
from tests.http.steps import LEAF, PLAINTEXT, SEGMENT, made_bytes
from tests.processes import children_of, is_running, log_of, served_by, worker_process, workers_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="not tested: workers, elsewhere than Linux"),
    pytest.mark.timeout(240),
]

IN_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
WORKERS = 2
LEASES = {"instance_lease_s": 1, "instance_renew_s": 0.2}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(tmp_path / "data", workers=WORKERS, drain_s=20) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """For tests that harm no process."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    async with gateway_process(data_dir, workers=WORKERS) as running:
        yield running


@asynccontextmanager
async def connections(gateway: GatewayProcess, count: int) -> AsyncIterator[list[Connection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(gateway.address)) for _ in range(count)]


async def ask(connection: Connection, *parts: str, body: bytes | None = None) -> Answer:
    method, path, *token = parts
    await connection.send(request(method, path, *token, headers=[PLAINTEXT], body=body))
    return await connection.answer()


# One worker, or several.


async def test_one_worker_is_this_very_process(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data", workers=1) as gateway:
        async with connections(gateway, 1) as (connection,):
            assert 200 == (await ask(connection, "GET", "/healthz")).status

        assert [] == children_of(gateway.process.pid)
        assert [None] == served_by(gateway, "/healthz")


@IN_ONE_LOOP
async def test_connections_are_spread_evenly(shared: GatewayProcess) -> None:
    for count in (2, 6):
        async with connections(shared, count) as opened:
            path = f"/v1/spread-{count}"
            for connection in opened:
                assert 404 == (await ask(connection, "GET", path)).status
        served = Counter(served_by(shared, path))
        assert {1: count // 2, 2: count // 2} == served


@IN_ONE_LOOP
async def test_a_worker_with_long_connections_gets_fewer_new_ones(shared: GatewayProcess) -> None:
    """So many that chance does not send all of a round to the one that has few."""
    long_ones, new_ones = 80, 20
    async with connections(shared, long_ones) as opened:
        for number, connection in enumerate(opened):
            await ask(connection, "GET", f"/v1/long-{number}")
        by = [served_by(shared, f"/v1/long-{number}") for number in range(long_ones)]
        (busy,) = by[0]
        (idle,) = {1, 2} - {busy}
        kept = [connection for connection, one in zip(opened, by, strict=True) if one == [busy]]
        assert new_ones < len(kept) < long_ones
        for connection in set(opened) - set(kept):
            connection.abort()
        rounds = itertools.count()

        async def go_to_the_idle_one() -> bool:
            path = f"/v1/new-{next(rounds)}"
            async with connections(shared, new_ones) as more:
                for connection in more:
                    await ask(connection, "GET", path)
            return [idle] * new_ones == served_by(shared, path)

        # As soon as the parent was told that the others were closed.
        await eventually(go_to_the_idle_one, what="a round that went to the idle worker")


@IN_ONE_LOOP
async def test_what_one_worker_did_the_other_sees_at_once(shared: GatewayProcess) -> None:
    session = await open_session(shared)
    async with connections(shared, 2) as pair:
        await asyncio.gather(*(ask(c, "GET", "/v1/which") for c in pair))
        assert {1, 2} == set(served_by(shared, "/v1/which"))
        for number in range(10):
            writer, reader = pair if number % 2 else reversed(pair)
            path, token = session.path(f"t{number}"), session.user_token
            content = made_bytes(1000, seed=number)
            uploaded = await ask(writer, "POST", path, token, body=content)
            assert 201 == uploaded.status
            urn = f"/v1/objects/{uploaded.json()['urn']}"
            assert content == (await ask(reader, "GET", urn, token)).body
            taken = await ask(reader, "POST", path, token, body=content)
            taken.problem(409, "slot_taken")
            assert (await ask(writer, "DELETE", urn, token)).status in {200, 202}
            (await ask(reader, "GET", urn, token)).problem(410, "erased")


# Ends.


async def test_a_stop_lets_the_uploads_of_every_worker_end(gateway: GatewayProcess) -> None:
    session = await open_session(gateway)
    body = made_bytes(2 * LEAF)
    async with connections(gateway, 4) as opened:
        for number, connection in enumerate(opened):
            headers = [EXPECT, ("Content-Length", str(len(body)))]
            await connection.send(
                request("POST", session.path(f"t{number}"), session.user_token, headers=headers)
            )
            assert 100 == (await connection.answer()).status
            await connection.send(body[:-1000])
        gateway.send_signal(signal.SIGTERM)
        await eventually(lambda: _refuses(gateway), what="the end of listening")
        for connection in opened:
            await connection.send(body[-1000:])
        answers = [await connection.answer() for connection in opened]
        code = await gateway.wait()

    assert [201] * 4 == [answer.status for answer in answers]
    served = [served_by(gateway, session.path(f"t{number}")) for number in range(4)]
    assert {1: 2, 2: 2} == Counter(by for (by,) in served)
    assert 0 == code
    done = await command_beside("check", "--data-dir", gateway.data_dir)
    assert b"4 objects" in done.out


async def test_a_worker_that_is_killed_under_load_loses_nothing_and_is_replaced(
    tmp_path: Path,
) -> None:
    answered: dict[str, bytes] = {}
    enough = asyncio.Event()
    async with gateway_process(tmp_path / "data", workers=WORKERS, **LEASES) as gateway:
        session = await open_session(gateway)
        token = session.user_token

        async def uploads(client: Client, name: str) -> None:
            number = 0
            while not enough.is_set():
                number += 1
                content = made_bytes((1000, SEGMENT + 1)[number % 2], seed=number)
                try:
                    answer = await client.upload(
                        session.session_id, f"{name}.{number}", "input", io.BytesIO(content)
                    )
                except (ClientError, aiohttp.ClientError, OSError):
                    continue
                answered[answer["urn"]] = content

        async with Client(gateway.url, token) as client:
            loads = [asyncio.create_task(uploads(client, f"u{number}")) for number in range(4)]
            for _ in range(2):
                before = len(answered)
                await eventually(lambda b=before: _more(answered, b))  # type: ignore[misc]
                victim = (await workers_of(gateway, WORKERS))[0]
                os.kill(victim, signal.SIGKILL)
                at_kill = len(answered)
                # The service goes on while the worker is missing.
                await eventually(lambda b=at_kill: _more(answered, b))  # type: ignore[misc]
                assert victim not in await workers_of(gateway, WORKERS)
            enough.set()
            await asyncio.gather(*loads)
            for urn, content in answered.items():
                target = io.BytesIO()
                await client.download(urn, target, plaintext=True, on_bytes=lambda _n: None)
                assert content == target.getvalue()
        gateway.send_signal(signal.SIGTERM)
        assert 0 == await gateway.wait()
    ends = [line for line in log_of(gateway) if line["event"] == "worker ended"]
    assert [-signal.SIGKILL] * 2 == [line["exit_code"] for line in ends]


async def _more(answered: dict[str, bytes], than: int) -> bool:
    return len(answered) > than + 3


async def test_a_connection_that_a_dying_worker_did_not_take_is_served_by_another(
    gateway: GatewayProcess,
) -> None:
    stopped, _ = await workers_of(gateway, WORKERS)
    os.kill(stopped, signal.SIGSTOP)
    try:
        async with connections(gateway, 4) as opened:
            for connection in opened:
                await connection.send(request("GET", "/v1/left"))
            await eventually(lambda: _served(gateway, "/v1/left", 2), what="two answers")
            os.kill(stopped, signal.SIGKILL)
            answers = [await connection.answer() for connection in opened]
    finally:
        if is_running(stopped):
            os.kill(stopped, signal.SIGCONT)

    assert [404] * 4 == [answer.status for answer in answers]


async def _served(gateway: GatewayProcess, path: str, count: int) -> bool:
    return count == len(served_by(gateway, path))


async def test_a_worker_that_is_told_to_stop_hands_over(gateway: GatewayProcess) -> None:
    """A rolling restart, one worker after the other, refuses nobody."""
    for told in await workers_of(gateway, WORKERS):
        os.kill(told, signal.SIGTERM)
        while is_running(told):
            async with connections(gateway, 1) as (connection,):
                answer = await ask(connection, "GET", "/v1/rolling")
            if answer.status != 404:  # it had the connection already
                answer.problem(503, "draining")
            await asyncio.sleep(0.01)
        assert told not in await workers_of(gateway, WORKERS)
    assert 404 in {(await _ask_once(gateway)).status for _ in range(4)}


async def _ask_once(gateway: GatewayProcess) -> Answer:
    async with connections(gateway, 1) as (connection,):
        return await ask(connection, "GET", "/v1/once")


async def test_workers_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data", workers=WORKERS, drain_s=1) as gateway:
        workers = await workers_of(gateway, WORKERS)
        async with connections(gateway, 2) as opened:
            for connection in opened:
                await ask(connection, "GET", "/healthz")
            gateway.send_signal(signal.SIGKILL)
            await gateway.wait()

            async def all_gone() -> bool:
                return not any(is_running(pid) for pid in workers)

            await eventually(all_gone, what="the end of the workers")
        port = gateway.address[1]
    async with gateway_process(tmp_path / "data", workers=WORKERS, port=port) as again:
        assert gateway.url == again.url


async def test_workers_that_cannot_start_any_more_end_the_service_with_a_word(
    gateway: GatewayProcess,
) -> None:
    workers = await workers_of(gateway, WORKERS)
    gateway.data_dir.chmod(0o777)  # refused at start
    first, second = workers
    os.kill(first, signal.SIGKILL)

    async def tried() -> bool:
        events = [line["event"] for line in log_of(gateway)]
        return events.count("worker ended") >= 3

    await eventually(tried, what="failed starts", within_s=60)
    assert 404 == (await _ask_once(gateway)).status  # half a service is better than none
    os.kill(second, signal.SIGKILL)
    code = await gateway.wait(within_s=120)

    assert 1 == code
    assert "times in a row" in gateway.log.read_text()
    assert not any(is_running(pid) for pid in workers)


# Starts.


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])

        done = command("serve", "--data-dir", tmp_path / "data", "--workers", "2", "--port", port)

    assert (1, b"") == (done.status, done.out)
    assert f"cannot listen on 127.0.0.1 port {port}" in done.err
    assert [] == list(tmp_path.iterdir())


def test_what_is_wrong_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o777)
    (tmp_path / "data").chmod(0o777)

    done = command("serve", "--data-dir", tmp_path / "data", "--workers", "3")

    said = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert (1, b"", 1) == (done.status, done.out, len(said)), done.err
    assert "chmod 700" in said[0]


async def test_two_commands_at_once_make_one_deployment(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        starting = [
            asyncio.create_task(
                stack.enter_async_context(gateway_process(tmp_path / "data", workers=WORKERS))
            )
            for _ in range(2)
        ]
        one, other = await asyncio.gather(*starting)
        session = await open_session(one)
        async with Client(other.url, session.user_token) as client:
            answer = await client.upload(session.session_id, "1", "input", io.BytesIO(b"content"))
        async with connections(one, 2) as pair:
            urn = f"/v1/objects/{answer['urn']}"
            for connection in pair:
                assert b"content" == (await ask(connection, "GET", urn, session.user_token)).body


async def _refuses(gateway: GatewayProcess) -> bool:
    try:
        async with connected(gateway.address):
            return False
    except OSError:
        return True


def two_free_ports() -> int:
    """Return the first of two ports, one after the other, that nobody listens on."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


async def test_each_worker_tells_its_metrics_on_a_port_of_its_own(tmp_path: Path) -> None:
    first = two_free_ports()
    async with gateway_process(tmp_path / "data", workers=WORKERS, admin_port=first):
        told = [
            (await exchange(("127.0.0.1", port), request("GET", "/metrics"))).body
            for port in (first, first + 1)
        ]

    assert all(b"storage_gateway_recovery_passes_total" in text for text in told)


async def test_a_worker_that_finds_its_admin_port_taken_serves_without_it(tmp_path: Path) -> None:
    first = two_free_ports()
    async with gateway_process(tmp_path / "data", workers=WORKERS, admin_port=first) as gateway:
        await workers_of(gateway, WORKERS)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            os.kill(worker_process(gateway, WORKERS), signal.SIGKILL)

            async def is_taken() -> bool:
                try:
                    taken.bind(("127.0.0.1", first + WORKERS - 1))
                except OSError:
                    return False
                taken.listen()
                return True

            await eventually(is_taken, what="the port")
            await workers_of(gateway, WORKERS)
            async with connections(gateway, 2 * WORKERS) as many:
                answers = [await ask(connection, "GET", "/healthz") for connection in many]
        told = [line for line in log_of(gateway) if "admin_port" in line]

    assert [200] * 2 * WORKERS == [answer.status for answer in answers]
    assert [("error", first + 1, WORKERS)] == [
        (line["level"], line["admin_port"], line["worker"]) for line in told
    ]


def test_an_admin_port_that_is_taken_at_the_start_is_an_error(tmp_path: Path) -> None:
    first = two_free_ports()
    with socket.create_server(("127.0.0.1", first + 1)):
        done = command(
            *("serve", "--data-dir", tmp_path / "data", "--port", "0"),
            *("--workers", str(WORKERS), "--admin-port", str(first)),
        )

    assert 1 == done.status
    assert f"cannot listen on admin_port {first + 1}" in done.err
