"""Uploads of processes that died are cleared away while the gateway serves; live ones' stay.

Other processes are played by writing what they would have written: lease, intent, slot, blob.
"""

import pytest
from sqlalchemy import select

from storage_gateway.catalog.objects import Ownership, begin_upload
from storage_gateway.catalog.tables import intents
from storage_gateway.catalog.work import end_instance, list_graves, list_intents, start_instance
from storage_gateway.ids import new_random_id
from storage_gateway.records import Slot
from tests.gateway import OpenSession, RunningGateway, eventually, leftovers, payload_keys
from tests.http.raw import EXPECT, connected, exchange, request
from tests.http.steps import (
    LEAF,
    PLAINTEXT,
    assert_nothing_left,
    fetch,
    made_bytes,
    upload,
)

pytestmark = pytest.mark.both_databases


async def _upload_of_another_process(gateway: RunningGateway, task_id: str) -> str:
    """Play another process that has begun an upload; return its instance id."""
    owner = Ownership(new_random_id(), new_random_id(), 1)
    slot = Slot("101", task_id, "input", None)
    await gateway.catalog.run(lambda c: start_instance(c, owner.instance_id, 1000))
    await gateway.catalog.run(
        lambda c: begin_upload(c, owner, object_id=new_random_id(), slot=slot)
    )
    payloads = gateway.gateway.services.uploads._payloads
    await gateway.store.put(f"{payloads}{owner.payload_id}/0", b"sealed bytes")
    return owner.instance_id


async def test_what_a_dead_process_left_is_cleared_away(
    gateway: RunningGateway, session: OpenSession
) -> None:
    dead = await _upload_of_another_process(gateway, "t1")
    alive = await _upload_of_another_process(gateway, "t2")
    before = await leftovers(gateway.catalog, gateway.store)
    busy = await upload(gateway, session.path("t1"), session.user_token, b"too early")
    await gateway.catalog.run(lambda c: end_instance(c, dead))

    async def is_free() -> bool:
        return 3 == len(await leftovers(gateway.catalog, gateway.store))

    assert 6 == len(before)  # blob, intent and slot of each
    busy.problem(409, "slot_busy")
    await eventually(is_free, what="the end of what the dead process left")
    await gateway.gateway.recovery.run_once()
    owners = await gateway.catalog.read(
        lambda c: c.execute(select(intents.c.instance_id)).scalars().all()
    )
    assert [alive] == owners
    still_busy = await upload(gateway, session.path("t2"), session.user_token, b"too early")
    still_busy.problem(409, "slot_busy")
    await gateway.catalog.run(lambda c: end_instance(c, alive))

    async def is_clean() -> bool:
        return [] == await leftovers(gateway.catalog, gateway.store)

    await eventually(is_clean, what="a clean store")
    await assert_nothing_left(gateway, session, "t1")
    await assert_nothing_left(gateway, session, "t2")


async def test_recovery_leaves_its_own_uploads_alone(
    gateway: RunningGateway, session: OpenSession
) -> None:
    body = made_bytes(3 * LEAF)
    async with connected(gateway.address) as connection:
        headers = [EXPECT, ("Content-Length", str(len(body)))]
        await connection.send(
            request("POST", session.path("t1"), session.user_token, headers=headers)
        )
        assert 100 == (await connection.answer()).status
        await connection.send(body[:-1])
        await eventually(lambda: payload_keys(gateway.catalog, gateway.store))
        reports = [await gateway.gateway.recovery.run_once() for _ in range(3)]
        await connection.send(body[-1:])
        answer = await connection.answer()
    served = await fetch(gateway, answer.json()["urn"], session.user_token, headers=[PLAINTEXT])

    assert [0, 0, 0] == [report.uploads_aborted for report in reports]
    assert 201 == answer.status
    assert body == served.body


async def test_an_upload_that_was_claimed_is_told_so_and_leaves_nothing(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """A process that was paused over its lease cannot commit what others have taken over."""
    body = made_bytes(2 * LEAF)
    async with connected(gateway.address) as connection:
        headers = [EXPECT, ("Content-Length", str(len(body)))]
        await connection.send(
            request("POST", session.path("t1"), session.user_token, headers=headers)
        )
        assert 100 == (await connection.answer()).status
        await connection.send(body[:-1])
        await eventually(lambda: payload_keys(gateway.catalog, gateway.store))
        own = gateway.gateway._instance.instance_id
        await gateway.catalog.run(lambda c: end_instance(c, own))
        await connection.send(body[-1:])
        answer = await connection.answer()
    await gateway.catalog.run(lambda c: start_instance(c, own, 1000))

    answer.problem(503, "intent_lost")
    assert answer.header("Retry-After")
    await assert_nothing_left(gateway, session, "t1")


async def test_the_end_of_an_aborted_upload_keeps_nobody_out_of_the_manifests(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """No manifest was dropped: PostgreSQL would rewrite the table of all, locked, for nothing."""
    cleaned = 0
    clean = gateway.catalog.clean_pages

    def counted() -> bool:
        nonlocal cleaned
        cleaned += 1
        return clean()

    gateway.catalog.clean_pages = counted  # type: ignore[method-assign]
    dead = await _upload_of_another_process(gateway, "t1")
    await gateway.catalog.run(lambda c: end_instance(c, dead))
    await eventually(lambda: _no_grave(gateway), what="the end of the aborted upload")
    after_abort = cleaned
    kept = await upload(gateway, session.path("t2"), session.user_token, b"to be erased")
    path = f"/v1/objects/{kept.json()['urn']}"
    await exchange(gateway.address, request("DELETE", path, session.user_token))
    await eventually(lambda: _no_grave(gateway), what="the end of the erased object")

    assert 0 == after_abort
    assert cleaned


async def test_what_was_erased_is_erasing_while_the_pages_are_not_clean(
    gateway: RunningGateway, session: OpenSession
) -> None:
    clean, asked = gateway.catalog.clean_pages, 0

    def refused() -> bool:
        nonlocal asked
        asked += 1
        return False

    async def asked_twice() -> bool:
        return asked > 1

    gateway.catalog.clean_pages = refused  # type: ignore[method-assign]
    kept = await upload(gateway, session.path("t1"), session.user_token, b"to be erased")
    path = f"/v1/objects/{kept.json()['urn']}"
    await exchange(gateway.address, request("DELETE", path, session.user_token))
    await eventually(asked_twice, what="a second pass")
    meanwhile = await exchange(gateway.address, request("DELETE", path, session.user_token))
    gateway.catalog.clean_pages = clean  # type: ignore[method-assign]
    await eventually(lambda: _no_grave(gateway), what="the end of the erased object")
    in_the_end = await exchange(gateway.address, request("DELETE", path, session.user_token))

    assert (202, "erasing") == (meanwhile.status, meanwhile.json()["state"])
    assert (200, "erased") == (in_the_end.status, in_the_end.json()["state"])


async def _no_grave(gateway: RunningGateway) -> bool:
    """Tell whether nothing is under way and nothing waits for its horizon."""
    waiting = await gateway.catalog.read(lambda c: list_graves(c, "", 1) + list_intents(c, "", 1))
    return not waiting
