"""Goal: a PostgreSQL server that dies under load costs clients a retry and nothing else.

Method: a gateway with uploads and downloads under way while its database server is killed and comes
back; every answer is a success or a 503 that says when to try again, and every success is there.
"""

import asyncio
from pathlib import Path

from tests.databases import databases
from tests.gateway import eventually, leftovers, open_session, running_gateway
from tests.http.raw import Answer, exchange, request
from tests.http.steps import PLAINTEXT, fetch, upload
from tests.servers.postgres import PostgresServer

CLIENTS = 6
KILLS = 2


async def test_what_was_answered_outlives_the_server_and_the_rest_is_told_to_retry(
    tmp_path: Path, postgres: PostgresServer, empty_catalog: str
) -> None:
    databases.server, databases.template = postgres, empty_catalog
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
            await asyncio.sleep(0.3)
            await asyncio.to_thread(postgres.kill)
            seen_down.append(await exchange(gateway.address, request("GET", "/readyz")))
            await asyncio.to_thread(postgres.start)
        stop.set()
        await asyncio.gather(*clients)

        assert {201, 200, 503} == {answer.status for answer in answers}
        for answer in answers:
            if answer.status == 503:
                assert answer.json()["code"] in {"catalog_unavailable", "intent_lost"}, answer
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
