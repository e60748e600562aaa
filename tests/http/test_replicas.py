"""Goal: a gateway over two stores serves, and stays right, while either of them is gone or wrong.

Method: two folders of a real gateway, in two failure domains. A folder is moved away as if its disk
had been unmounted, or what lies in it is damaged; then what clients see, and what lies where. Of an
erased object nothing may be left in any store, nor may it be called erased before.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from crypto import SEGMENT_SIZE
from storage_gateway.backends import health
from storage_gateway.backends.disk import Disk
from storage_gateway.backends.fs import RealFs
from storage_gateway.backends.health import Breaker
from storage_gateway.catalog.tables import placements
from storage_gateway.config import ConfigError
from storage_gateway.verify import Checker
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    leftovers,
    open_session,
    running_gateway,
)
from tests.http.raw import connected, exchange, request
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded

pytestmark = pytest.mark.both_databases

NAMES = ("one", "two")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the two stores lie."""

    path: Path

    def backends(self) -> list[dict[str, str]]:
        return [{"kind": "local", "name": n, "path": str(self.path / n)} for n in NAMES]

    async def vanish(self, name: str) -> None:
        await asyncio.to_thread((self.path / name).rename, self.path / f"{name}-away")

    async def come_back(self, name: str) -> None:
        await asyncio.to_thread((self.path / f"{name}-away").rename, self.path / name)

    async def payload_files(self, name: str) -> list[Path]:
        found = await asyncio.to_thread(lambda: list((self.path / name).rglob("*")))
        return sorted(file for file in found if file.is_file() and "payloads" in file.parts)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@asynccontextmanager
async def running(
    folders: Folders, **settings: object
) -> AsyncIterator[tuple[RunningGateway, OpenSession]]:
    async with running_gateway(
        folders.path, backends=folders.backends(), reserve_bytes=0, **settings
    ) as gateway:
        yield gateway, await open_session(gateway, f"{random.getrandbits(64)}")


async def placed(gateway: RunningGateway) -> list[tuple[int, str, str]]:
    """Return segment, store and state of every row."""
    query = select(placements.c.segment, placements.c.backend, placements.c.state)
    rows = await gateway.catalog.read(lambda c: c.execute(query).all())
    return sorted((row.segment, row.backend, row.state) for row in rows)


def checker(folders: Folders, gateway: RunningGateway) -> Checker:
    parts = gateway.gateway.parts
    return Checker(
        catalog=parts.catalog,
        shelves={name: Disk(name, folders.path / name, RealFs()) for name in NAMES},
        identities=parts.keyring.opening(),
        payloads=parts.payloads,
        marker=parts.marker,
    )


async def is_erased(gateway: RunningGateway, session: OpenSession, urn: str) -> bool:
    shown = await fetch(gateway, urn, session.user_token, part="/manifest")
    return bool(shown.json()["state"] == "erased")


async def test_both_have_it_and_the_catalog_says_so(folders: Folders) -> None:
    content = made_bytes(SEGMENT + 1)
    async with running(folders) as (gateway, session):
        document = await uploaded(gateway, session.path("t1"), session.user_token, content)
        answer = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])
        rows = await placed(gateway)

    assert content == answer.body
    assert [(s, name, "placed") for s in (0, 1) for name in NAMES] == rows
    one, two = [await folders.payload_files(name) for name in NAMES]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]
    assert 2 == len(one)


@pytest.mark.parametrize("gone", NAMES)
async def test_with_a_quorum_of_one_it_goes_on_without_either(folders: Folders, gone: str) -> None:
    content, later = made_bytes(SEGMENT + 1), made_bytes(SEGMENT + 2, seed=2)
    async with running(folders, write_quorum=1) as (gateway, session):
        token = session.user_token
        before = await uploaded(gateway, session.path("t1"), token, content)
        await folders.vanish(gone)
        during = await uploaded(gateway, session.path("t2"), token, later)
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        read = [
            await fetch(gateway, d["urn"], token, headers=[PLAINTEXT]) for d in (before, during)
        ]
        sealed = await fetch(gateway, before["urn"], token)
        rows = await placed(gateway)

    assert [content, later] == [answer.body for answer in read]
    assert (200, before["sealed_size"]) == (sealed.status, len(sealed.body))
    assert (200, "degraded") == (ready.status, ready.json()["status"])
    assert "backend_unavailable" == ready.json()["checks"][f"store {gone}"]
    (other,) = set(NAMES) - {gone}
    assert [(0, gone, "pending"), (1, gone, "pending")] == [row for row in rows if "pending" in row]
    assert [(0, other, "placed")] * 2 == [row for row in rows if row[:2] == (0, other)]


async def test_a_store_whose_room_cannot_be_told_stops_nobody(folders: Folders) -> None:
    """A link to itself answers as a broken mount does: neither there nor missing."""
    async with running(folders, write_quorum=1) as (gateway, session):
        await folders.vanish("one")
        await asyncio.to_thread((folders.path / "one").symlink_to, folders.path / "one")
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        read = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])

    assert b"content" == read.body
    assert (200, "degraded") == (ready.status, ready.json()["status"])


async def test_below_the_quorum_uploads_are_refused_and_reads_go_on(folders: Folders) -> None:
    content = made_bytes(1000)
    async with running(folders) as (gateway, session):
        token = session.user_token
        before = await uploaded(gateway, session.path("t1"), token, content)
        await folders.vanish("one")
        refused = await upload(gateway, session.path("t2"), token, b"x")
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        read = await fetch(gateway, before["urn"], token, headers=[PLAINTEXT])
        await folders.come_back("one")

        async def taken() -> bool:
            return (await upload(gateway, session.path("t2"), token, b"x")).status == 201

        await eventually(taken, what="an upload after the store is back")

        async def nothing_left() -> bool:
            return not await leftovers(gateway.catalog, gateway.gateway.parts.store)

        await eventually(nothing_left, what="the refused upload settled")

    assert refused.problem(503, "backend_unavailable")["detail"].startswith("2 stores must take")
    assert refused.header("Retry-After")
    assert (503, "unavailable") == (ready.status, ready.json()["status"])
    assert content == read.body


async def test_a_store_may_go_in_the_midst_of_an_upload(folders: Folders) -> None:
    content = made_bytes(3 * SEGMENT)
    async with running(folders, write_quorum=1) as (gateway, session):
        head = request(
            "POST",
            session.path("t1"),
            session.user_token,
            headers=[("Content-Length", str(len(content)))],
        )
        async with connected(gateway.address) as connection:
            await connection.send(head + content[: SEGMENT + 1])

            async def first_is_there() -> bool:
                return len(await folders.payload_files("two")) >= 1

            await eventually(first_is_there, what="the first segment")
            await folders.vanish("two")
            await connection.send(content[SEGMENT + 1 :])
            answer = await connection.answer()
        read = await fetch(gateway, answer.json()["urn"], session.user_token, headers=[PLAINTEXT])
        rows = await placed(gateway)

    assert 201 == answer.status
    assert content == read.body
    assert (2, "two", "pending") in rows
    assert {"placed"} == {state for _, name, state in rows if name == "one"}


@pytest.mark.parametrize("accept", [[], [PLAINTEXT]], ids=["sealed", "plaintext"])
async def test_damage_in_one_store_is_not_seen_by_anyone(
    folders: Folders, accept: list[tuple[str, str]]
) -> None:
    """Every segment is bad in one of the two stores, and no store has all of them right."""
    content = made_bytes(3 * SEGMENT + 1)
    async with running(folders) as (gateway, session):
        document = await uploaded(gateway, session.path("t1"), session.user_token, content)
        whole = await fetch(gateway, document["urn"], session.user_token, headers=accept)
        for number, name in ((0, "one"), (1, "two"), (2, "one"), (3, "two")):
            file = (await folders.payload_files(name))[number if number < 3 else -1]
            if number == 2:
                await asyncio.to_thread(file.unlink)
            else:
                await asyncio.to_thread(flip, file)
        read = await fetch(gateway, document["urn"], session.user_token, headers=accept)

    assert (200, whole.body) == (read.status, read.body)


def flip(file: Path, at: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


async def test_a_bad_copy_is_marked_and_counted_until_it_is_made_again(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        content = made_bytes(SEGMENT + 1)
        document = await uploaded(gateway, session.path("t1"), session.user_token, content)
        first, _ = await folders.payload_files("one")
        right = await asyncio.to_thread(first.read_bytes)
        await asyncio.to_thread(flip, first, 0)  # what is read first, before anything ranks
        read = await fetch(gateway, document["urn"], session.user_token)

        async def is_marked() -> bool:
            return (0, "one", "bad") in await placed(gateway)

        await eventually(is_marked, what="the mark")
        rows = await placed(gateway)
        found = await asyncio.to_thread(checker(folders, gateway).run)
        await asyncio.to_thread(first.write_bytes, right)
        restored = await asyncio.to_thread(checker(folders, gateway).run)

    assert 200 == read.status
    others = [(0, "two", "placed"), (1, "one", "placed"), (1, "two", "placed")]
    assert [(0, "one", "bad"), *others] == rows
    assert ["leaf"] == [finding.kind for finding in found.findings], "a mark hides nothing"
    assert [] == restored.findings
    for report in (found, restored):
        assert (1, 1) == (report.segments_pending, report.segments_bad)


async def test_what_is_bad_in_all_stores_is_told_as_damage(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        for name in NAMES:
            (file,) = await folders.payload_files(name)
            await asyncio.to_thread(flip, file)
        bad = await fetch(gateway, document["urn"], session.user_token)
        await folders.vanish("two")
        unreachable = await fetch(gateway, document["urn"], session.user_token)

    bad.problem(500, "blob_corrupt")
    # The one that is left could be right.
    unreachable.problem(503, "backend_unavailable")


async def test_a_check_says_in_which_store_what_is_wrong(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        (missing,), (bad,) = [await folders.payload_files(name) for name in NAMES]
        await asyncio.to_thread(missing.unlink)
        await asyncio.to_thread(flip, bad)
        report = await asyncio.to_thread(checker(folders, gateway).run)

    (gone, spoiled) = report.findings
    assert ("object", "leaf") == (gone.kind, spoiled.kind)
    assert "missing in store one" in gone.detail
    assert "in store two" in spoiled.detail


async def test_nothing_is_erased_before_every_store_was_seen_clean(folders: Folders) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        urn, token = document["urn"], session.user_token
        await folders.vanish("one")
        answer = await fetch(gateway, urn, token, method="DELETE")
        reached = await folders.payload_files("two")
        gone = await fetch(gateway, urn, token)
        for _ in range(3):
            await gateway.gateway.recovery.run_once()
        early = await is_erased(gateway, session, urn)
        await folders.come_back("one")
        await eventually(lambda: is_erased(gateway, session, urn), what="the state erased")
        left = [await folders.payload_files(name) for name in NAMES]

    assert (202, "erasing") == (answer.status, answer.json()["state"])
    gone.problem(410, "erased")
    assert [] == reached, "what could be reached is deleted at once"
    assert not early
    assert [[], []] == left


async def test_nothing_is_erased_while_a_store_rests(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked, so nobody knows what it has: also when it would answer."""
    async with running(folders, write_quorum=1) as (gateway, session):
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        monkeypatch.setattr(health, "REST_FACTOR", 1e12)
        one, recovery = gateway.gateway.parts.members[0], gateway.gateway.recovery
        await folders.vanish("one")
        await fetch(gateway, document["urn"], session.user_token, method="DELETE")
        while one.lists.is_closed:
            await recovery.run_once()
        await folders.come_back("one")

        async def has_waited() -> bool:
            return not (await recovery.run_once()).graves_waiting

        await eventually(has_waited, what="the wait for late writes")
        report = await recovery.run_once()
        early = await is_erased(gateway, session, document["urn"])
        left = await folders.payload_files("one")
        one.lists = Breaker()
        await eventually(
            lambda: is_erased(gateway, session, document["urn"]), what="the state erased"
        )
        left_at_last = await folders.payload_files("one")

    assert (0, 1) == (report.graves_closed, report.failures)
    assert not early
    assert 1 == len(left), "it was asked although it rested"
    assert [] == left_at_last


async def test_nothing_is_erased_by_who_does_not_know_every_store_it_lies_in(
    folders: Folders,
) -> None:
    """As while processes are restarted one by one with another backend."""
    options = {"reserve_bytes": 0, "write_quorum": 1}
    async with running_gateway(folders.path, backends=folders.backends()[:1], **options) as old:
        async with running(folders, write_quorum=1) as (new, session):
            document = await uploaded(new, session.path("t1"), session.user_token, b"content")
        urn, token = document["urn"], session.user_token
        await fetch(old, urn, token, method="DELETE")

        async def has_waited() -> bool:
            report = await old.gateway.recovery.run_once()
            return not (report.graves_waiting or report.failures)

        await eventually(has_waited, what="the wait for late writes")
        early = await is_erased(old, session, urn)
    async with running_gateway(folders.path, backends=folders.backends(), **options) as new:
        await eventually(lambda: is_erased(new, session, urn), what="the state erased")
        left = [await folders.payload_files(name) for name in NAMES]

    assert not early
    assert [[], []] == left


async def test_it_starts_without_a_store_that_it_knows_and_takes_it_in_later(
    folders: Folders,
) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        first = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    await folders.vanish("one")
    async with running_gateway(
        folders.path, backends=folders.backends(), write_quorum=1, reserve_bytes=0
    ) as gateway:
        read = await fetch(gateway, first["urn"], session.user_token, headers=[PLAINTEXT])
        await uploaded(gateway, session.path("t2"), session.user_token, b"other")
        made = (folders.path / "one").exists()
        await folders.come_back("one")
        (member, _) = gateway.gateway.parts.members

        async def is_ready() -> bool:
            return member.ready

        await eventually(is_ready, what="the store is written to")
        await uploaded(gateway, session.path("t3"), session.user_token, b"more")
        rows = await placed(gateway)

    assert b"content" == read.body
    assert not made, "nothing may be written where the right disk will be mounted"
    assert 3 == len([row for row in rows if row == (0, "two", "placed")])
    assert 2 == len([row for row in rows if row == (0, "one", "placed")])


async def test_a_store_without_our_marker_is_refused(folders: Folders) -> None:
    async with running(folders) as (_, _):
        pass
    for file in await asyncio.to_thread(lambda: list((folders.path / "two").rglob("marker"))):
        await asyncio.to_thread(file.unlink)

    with pytest.raises(ConfigError, match="store two lacks the marker"):
        async with running(folders):
            pass


async def test_a_store_that_is_known_must_be_configured(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")

    with pytest.raises(ConfigError, match="backend two holds payloads and is not configured"):
        async with running_gateway(folders.path, backends=folders.backends()[:1]):
            pass


def test_a_segment_is_as_long_as_these_tests_think() -> None:
    assert SEGMENT_SIZE == SEGMENT + 120 * 16
