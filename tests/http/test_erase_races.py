"""Goal: erasing is told alike to everybody, whatever it races with.

Method: readers and a DELETE at the same time, many rounds; a DELETE that is asked again and again.
"""

import asyncio
from pathlib import Path

import pytest

from tests.gateway import OpenSession, RunningGateway, eventually, open_session, running_gateway
from tests.http.steps import fetch, uploaded

pytestmark = pytest.mark.both_databases

ROUNDS = 12
READERS = 4


async def test_a_reader_that_races_with_erasing_gets_all_or_410(
    gateway: RunningGateway, session: OpenSession
) -> None:
    statuses: set[int] = set()
    for number in range(ROUNDS):
        task = f"race{number}"
        urn = (await uploaded(gateway, session.path(task), session.user_token, b"x"))["urn"]

        async def read(name: str = urn) -> None:
            while True:
                answer = await fetch(gateway, name, session.user_token)
                statuses.add(answer.status)
                if answer.status != 200:
                    return

        readers = [asyncio.create_task(read()) for _ in range(READERS)]
        erased = await fetch(gateway, urn, session.user_token, method="DELETE")
        await asyncio.gather(*readers)
        assert 202 == erased.status

    assert statuses <= {200, 410}


async def test_asking_again_does_not_prolong_the_wait(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, late_write_horizon_s=1.0) as gateway:
        session = await open_session(gateway)
        urn = (await uploaded(gateway, session.path("t"), session.user_token, b"x"))["urn"]

        async def erased() -> bool:
            answer = await fetch(gateway, urn, session.user_token, method="DELETE")
            return answer.status == 200

        # Asked far more often than the horizon lasts.
        await eventually(erased, within_s=15, what="erased")
        assert [] == list((gateway.data_dir / "store").glob("*/main/payloads/*"))
