"""Goal: a PostgreSQL server that dies under load costs clients a retry and nothing else; one that
hangs or is busy cleaning its pages does not hold up a stop.

Method: a gateway with uploads and downloads under way while its database server is killed and comes
back; every answer is a success or a 503 that says when to try again, and every success is there. A
real process whose server rewrites the manifests without end, stopped in its tracks or not.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.databases import ON_POSTGRESQL, databases
from tests.gateway import eventually, gateway_process, leftovers, open_session, running_gateway
from tests.http.raw import Answer, exchange, request
from tests.http.steps import PLAINTEXT, fetch, upload, uploaded
from tests.servers.postgres import PostgresServer

pytestmark = ON_POSTGRESQL

CLIENTS = 6
KILLS = 2

DOWN = {"catalog_unavailable", "intent_lost", "copies_late"}
"""What may be said of an upload: committed, or not, nobody knows; or its copy could not be made."""


async def test_what_was_answered_outlives_the_server_and_the_rest_is_told_to_retry(
    tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        stop = asyncio.Event()
        answers: list[Answer] = []
        stored: dict[str, bytes] = {}

        async def client(number: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                body = f"content {number} {count}".encode()
                path = session.path(f"{number}.{count}")
                answer = await upload(gateway, path, session.user_token, body)
                answers.append(answer)
                if answer.status == 201:
                    stored[answer.json()["urn"]] = body
                    urn = answer.json()["urn"]
                    answers.append(await fetch(gateway, urn, session.user_token))

        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        seen_down: list[Answer] = []
        for _ in range(KILLS):
            await _one_more(answers, 200)
            await asyncio.to_thread(postgres.kill)
            seen_down.append(await exchange(gateway.address, request("GET", "/readyz")))
            await _one_more(answers, 503)
            await asyncio.to_thread(postgres.start)
        stop.set()
        await asyncio.gather(*clients)

        assert {201, 200, 503} == {answer.status for answer in answers}
        for answer in answers:
            if answer.status == 503:
                assert answer.json()["code"] in DOWN, answer
                assert answer.header("Retry-After")
        assert {"catalog_unavailable"} == {
            answer.json()["checks"]["catalog postgresql"] for answer in seen_down
        }
        for urn, body in stored.items():
            found = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
            assert body == found.body

        async def is_tidy() -> bool:
            return not await leftovers(gateway.catalog, gateway.store)

        await eventually(is_tidy, what="clearing up what was cut off")


async def _one_more(answers: list[Answer], status: int) -> None:
    """Wait until a client was answered so, from now on."""
    count = len(answers)

    async def is_told() -> bool:
        return status in {answer.status for answer in answers[count:]}

    await eventually(is_told, what=f"an answer with {status}")


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_stop_does_not_wait_for_the_pages(
    tmp_path: Path, postgres: PostgresServer, database: str, hangs: bool
) -> None:
    data_dir = tmp_path / "data"

    async def rewrites() -> bool:
        return await asyncio.to_thread(postgres.rewrites)

    async def no_more() -> bool:
        return not await rewrites()

    async with gateway_process(data_dir, module="tests.endless_rewrites") as gateway:
        await asyncio.to_thread(postgres.hold_rewrites, databases.made[data_dir])
        session = await open_session(gateway)
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"to be erased")
        path = f"/v1/objects/{document['urn']}"
        await exchange(gateway.address, request("DELETE", path, session.user_token))
        await eventually(rewrites, what="the rewrite of the manifests")
        if hangs:
            postgres.send_signal(signal.SIGSTOP)
        try:
            gateway.send_signal(signal.SIGTERM)
            status = await gateway.wait(within_s=60)
        finally:
            postgres.send_signal(signal.SIGCONT)
        # A server that looks keeps nobody out for a client that is gone.
        await eventually(no_more, what="the end of the rewrite")

    said = (await asyncio.to_thread(gateway.log.read_text)).splitlines()[-1]
    if hangs:  # nobody is there who could take the lease back
        assert (1, True) == (status, "serve: the catalog did not answer" in said), said
    else:
        assert 0 == status, said
