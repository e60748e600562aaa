"""Goal: an upload of a week, in which the keys of its parties are rotated twice, is committed for
the keys of its end; what it began with is not destroyed under it, and opens nothing of it after.

Method: a real gateway by whose catalog a day passes between two looks at it; each day recovery goes
through what is under way.
"""

from pathlib import Path

import pytest
from sqlalchemy import func, select

from crypto import CryptoError, open_file
from storage_gateway.catalog import now_ms
from storage_gateway.catalog.clock import attach_clock
from storage_gateway.catalog.tables import instances, intents
from tests.gateway import RunningGateway, eventually, open_session, running_gateway
from tests.http.raw import connected, request
from tests.http.steps import SEGMENT, fetch, made_bytes
from tests.http.test_keys import rotated, set_state
from tests.http.test_stale_writers import rotate_router

pytestmark = pytest.mark.both_databases

DAY_MS = 86_400_000
DAYS = 7
ROTATIONS = (2, 5)
HELD: dict[str, object] = {
    "recovery_interval_s": 3600,
    "instance_renew_s": 0.1,
    "key_disabled_s": 3600,
}


async def day_passed(gateway: RunningGateway, ahead: list[int]) -> None:
    """Have a day pass, in which the process renewed its lease and recovery was at work."""
    ahead[0] += DAY_MS

    async def is_held() -> bool:
        until = select(func.min(instances.c.lease_until_ms))
        return await gateway.catalog.read(lambda c: c.execute(until).scalar_one() > now_ms(c))

    await eventually(is_held, what="the lease")
    report = await gateway.gateway.recovery.run_once()
    assert 0 == report.uploads_aborted


async def under_way(gateway: RunningGateway) -> int:
    count = select(func.count()).select_from(intents)
    return await gateway.catalog.read(lambda c: int(c.execute(count).scalar_one()))


async def test_an_upload_of_a_week_is_for_the_keys_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [0]
    for database in ("sqlite", "postgres"):
        name = f"storage_gateway.catalog.{database}.attach_clock"
        monkeypatch.setattr(name, lambda info, _: attach_clock(info, lambda ms: ms + ahead[0]))
    body = made_bytes(SEGMENT * 2 + 1000)
    async with running_gateway(tmp_path, **HELD) as gateway:
        session = await open_session(gateway)
        users, first_router = [session.user], gateway.gateway.parts.keyring.opening()[-1]
        question = request("POST", session.path("t1"), session.user_token, body=body)
        rest = len(body) // (DAYS + 1)
        async with connected(gateway.address) as connection:
            await connection.send(question[:-rest])

            async def began() -> bool:
                return await under_way(gateway) == 1

            await eventually(began, what="the upload")
            for day in range(1, DAYS + 1):
                await day_passed(gateway, ahead)
                if day in ROTATIONS:
                    users.append(await rotated(gateway, session))
                    await rotate_router(gateway)
            assert 200 == (await set_state(gateway, session, 1, "disabled")).status
            await day_passed(gateway, ahead)
            (await set_state(gateway, session, 1, "destroyed")).problem(409, "key_in_use")
            await connection.send(question[-rest:])
            answer = await connection.answer()

        assert 201 == answer.status, answer
        assert 200 == (await set_state(gateway, session, 1, "destroyed")).status
        urn = answer.json()["urn"]
        sealed = (await fetch(gateway, urn, session.user_token)).body
        newest = gateway.gateway.parts.keyring.opening()[-1]
        assert body == open_file(sealed, [users[-1]]) == open_file(sealed, [newest])
        for former in (*users[:-1], first_router):
            with pytest.raises(CryptoError):
                open_file(sealed, [former])
        manifest = (await fetch(gateway, urn, session.user_token, part="/manifest")).json()
        versions = {p["role"]: p["version"] for p in manifest["wrapped_for"]}
        assert (3, 3) == (versions["user"], versions["router"])
