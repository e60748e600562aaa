"""Goal: a session's payloads lie where it wants them, as often as it wants, and nowhere else; what
it cannot have is refused, when it is opened or when something is uploaded.

Method: three folders of a real gateway in two failure domains, of which sessions want some. What
clients see, what the catalog says, and what lies in which folder.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from storage_gateway import outbox, room
from storage_gateway.backends.disk import Disk
from storage_gateway.backends.fs import RealFs
from storage_gateway.catalog.tables import placements, sessions
from storage_gateway.client import ClientError
from storage_gateway.config import ConfigError
from storage_gateway.findings import CheckReport
from storage_gateway.verify import Checker
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    leftovers,
    open_session,
    running_gateway,
)
from tests.http.raw import exchange, request
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded

pytestmark = pytest.mark.both_databases

DOMAINS = {"one": "near", "two": "near", "three": "far"}


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the stores lie."""

    path: Path

    def backends(self, **domains: str) -> list[dict[str, str]]:
        return [
            {"kind": "local", "name": n, "path": str(self.path / n), "failure_domain": domain}
            for n, domain in domains.items()
        ]

    @asynccontextmanager
    async def running(
        self, domains: dict[str, str] = DOMAINS, **settings: object
    ) -> AsyncIterator[RunningGateway]:
        backends = self.backends(**domains)
        options = {"reserve_bytes": 0} | settings
        async with running_gateway(self.path, backends=backends, **options) as gateway:
            yield gateway

    async def holding(self) -> dict[str, int]:
        """Return how many files of payloads lie in each store that has any."""
        found = await asyncio.to_thread(lambda: list(self.path.rglob("*")))
        names = [
            file.relative_to(self.path).parts[0]
            for file in found
            if file.is_file() and "payloads" in file.parts
        ]
        return {name: names.count(name) for name in DOMAINS if name in names}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


async def rows(gateway: RunningGateway) -> set[tuple[int, str, str]]:
    query = select(placements.c.segment, placements.c.backend, placements.c.state)
    found = await gateway.catalog.read(lambda c: c.execute(query).all())
    return {(row.segment, row.backend, row.state) for row in found}


async def check(folders: Folders, gateway: RunningGateway) -> CheckReport:
    parts = gateway.gateway.parts
    checker = Checker(
        catalog=parts.catalog,
        shelves={name: Disk(name, folders.path / name, RealFs()) for name in DOMAINS},
        identities=parts.keyring.opening(),
        payloads=parts.payloads,
        marker=parts.marker,
    )
    return await asyncio.to_thread(checker.run)


async def shown(gateway: RunningGateway, session: OpenSession) -> tuple[object, object]:
    path = f"/v1/sessions/{session.session_id}"
    document = (await exchange(gateway.address, request("GET", path, session.user_token))).json()
    return document["backends"], document["write_quorum"]


async def refused(gateway: RunningGateway, **wanted: object) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        await open_session(gateway, "refused", **wanted)
    return caught.value.problem


async def test_payloads_lie_where_they_are_wanted_and_nowhere_else(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    content = made_bytes(SEGMENT + 1)
    async with folders.running() as gateway:
        session = await open_session(gateway, backends=["two", "three"])
        document = await uploaded(gateway, session.path("t1"), session.user_token, content)
        for name in ("one", "two"):  # of which the first never had it
            (folders.path / name).rename(folders.path / f"{name}-away")
        read = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])
        for name in ("one", "two"):
            (folders.path / f"{name}-away").rename(folders.path / name)
        told = {
            record.__dict__.get("store")
            for record in caplog.records
            if record.name != outbox.__name__  # copies of manifests go to every store
        } - {None}
        placed = await rows(gateway)
        wanted = await shown(gateway, session)
        report = await check(folders, gateway)

    assert content == read.body
    assert (["two", "three"], None) == wanted
    assert {(s, name, "placed") for s in (0, 1) for name in ("two", "three")} == placed
    assert {"two": 2, "three": 2} == await folders.holding()
    assert "one" not in told
    assert ([], 0, 0) == (report.findings, report.segments_pending, report.segments_bad)


async def test_a_session_that_wants_nothing_has_what_the_deployment_has(folders: Folders) -> None:
    async with folders.running(write_quorum=1) as gateway:
        session = await open_session(gateway)
        wanted = await shown(gateway, session)
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        everywhere = await folders.holding()
        null = text(
            "SELECT session_id FROM sessions WHERE backends IS NULL AND write_quorum IS NULL"
        )
        open_ended = await gateway.catalog.read(lambda c: c.execute(null).scalar_one())
    async with folders.running(write_quorum=2) as gateway:
        (folders.path / "three").rename(folders.path / "away")
        later = await upload(gateway, session.path("t2"), session.user_token, b"content")

    assert (None, None) == wanted
    assert session.session_id == open_ended
    assert dict.fromkeys(DOMAINS, 1) == everywhere
    later.problem(503, "backend_unavailable")


async def test_the_quorum_is_the_sessions_and_pending_is_what_it_wants(folders: Folders) -> None:
    async with folders.running() as gateway:  # with a quorum of two
        either = await open_session(gateway, backends=["one", "three"], write_quorum=1)
        both = await open_session(gateway, write_quorum=2)
        alone = await open_session(gateway, backends=["one"], write_quorum=1)
        wanted = [await shown(gateway, session) for session in (either, both, alone)]
        (folders.path / "three").rename(folders.path / "away")
        await uploaded(gateway, either.path("t1"), either.user_token, b"content")
        too_few = await upload(gateway, both.path("t1"), both.user_token, b"content")
        await uploaded(gateway, alone.path("t1"), alone.user_token, b"content")
        (folders.path / "away").rename(folders.path / "three")

        async def is_settled() -> bool:
            return not await leftovers(gateway.catalog, gateway.gateway.parts.store)

        await eventually(is_settled, what="the refused upload settled")
        placed = await rows(gateway)
        report = await check(folders, gateway)

    assert [(["one", "three"], 1), (None, 2), (["one"], 1)] == wanted
    assert "out of reach: three" in too_few.problem(503, "backend_unavailable")["detail"]
    assert {(0, "one", "placed"), (0, "three", "pending")} == placed
    assert ([], 1, 0) == (report.findings, report.segments_pending, report.segments_bad)


REFUSED: dict[str, tuple[dict[str, object], str, str]] = {
    "none": ({"backends": []}, "backends", "at least one, or be left out"),
    "unknown": ({"backends": ["one", "four"]}, "backends[1]", "there are: one, two, three"),
    "twice": ({"backends": ["one", "three", "one"]}, "backends[2]", "one is named twice"),
    "no list": ({"backends": "one"}, "backends", "array"),
    "no text": ({"backends": [1]}, "backends[0]", "str"),
    "a quorum of none": ({"write_quorum": 0}, "write_quorum", "from 1 to 2"),
    "below none": ({"write_quorum": -1}, "write_quorum", "from 1 to 2"),
    "beyond the domains": ({"write_quorum": 3}, "write_quorum", "from 1 to 2"),
    "beyond any": ({"write_quorum": 10**30}, "write_quorum", "from 1 to 2"),
    "no number": ({"write_quorum": "2"}, "write_quorum", "int"),
    "beyond their domains": (
        {"backends": ["one", "two"], "write_quorum": 2},
        "write_quorum",
        "from 1 to 1",
    ),
    "the deployment's is beyond their domains": (
        {"backends": ["one", "two"]},
        "write_quorum",
        "the deployment's write_quorum is 2, but these backends are in 1 failure domains: give",
    ),
}


async def test_what_cannot_be_is_refused_with_its_field(folders: Folders) -> None:
    async with folders.running() as gateway:
        problems = {name: await refused(gateway, **case[0]) for name, case in REFUSED.items()}
        stored = await gateway.catalog.read(lambda c: c.execute(select(sessions)).all())

    assert [] == stored
    for name, (_, field, said) in REFUSED.items():
        problem = problems[name]
        assert (422, field) == (problem["status"], problem["field"]), name
        assert said in problem["detail"], name
        assert "Correct the field" in problem["remedy"]


async def test_the_one_store_of_a_data_folder_can_be_wanted(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, backends=["local"], write_quorum=1)
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        read = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])
        problem = await refused(gateway, backends=["other"])

    assert b"content" == read.body
    assert "there are: local" in problem["detail"]


async def test_a_store_that_is_gone_from_the_settings_is_told_at_the_upload(
    folders: Folders,
) -> None:
    """Nothing was ever put there, so the gateway starts, and serves everybody else."""
    less = {"one": "near", "three": "far"}
    async with folders.running() as gateway:
        wanting = await open_session(gateway, backends=["two", "three"])
        other = await open_session(gateway, backends=["one", "three"])
        document = await uploaded(gateway, other.path("t1"), other.user_token, b"content")
    async with folders.running(less) as gateway:
        gone = await upload(gateway, wanting.path("t1"), wanting.user_token, b"content")
        left = await leftovers(gateway.catalog, gateway.gateway.parts.store)
        await uploaded(gateway, other.path("t2"), other.user_token, b"content")
        read = await fetch(gateway, document["urn"], other.user_token, headers=[PLAINTEXT])
        wanted = await shown(gateway, wanting)
    async with folders.running() as gateway:
        await uploaded(gateway, wanting.path("t1"), wanting.user_token, b"content")
    with pytest.raises(ConfigError, match="backend two holds payloads and is not configured"):
        async with folders.running(less):
            pass

    problem = gone.problem(503, "placement_impossible")
    assert problem["detail"] == "the session wants backends that are not configured: two"
    assert gone.header("Retry-After") is None
    assert [] == left
    assert b"content" == read.body
    assert (["two", "three"], None) == wanted


async def test_failure_domains_that_became_one_are_told_at_the_upload(folders: Folders) -> None:
    async with folders.running() as gateway:
        session = await open_session(gateway, backends=["one", "three"], write_quorum=2)
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    near = dict.fromkeys(DOMAINS, "near")
    async with folders.running(near) as gateway:
        refused_now = await upload(gateway, session.path("t2"), session.user_token, b"content")
        read = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])

    problem = refused_now.problem(503, "placement_impossible")
    assert "write_quorum is 2, but one, three are in 1 failure domains" in problem["detail"]
    assert b"content" == read.body


async def test_room_is_asked_for_where_the_payload_goes(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {folders.path / "one", folders.path / "two"}
    monkeypatch.setattr(room, "_has_room", lambda folder, _reserve: folder not in full)
    async with folders.running() as gateway:
        of_roomy = await open_session(gateway, backends=["three"], write_quorum=1)
        of_full = await open_session(gateway, backends=["two"], write_quorum=1)
        of_all = await open_session(gateway)
        await uploaded(gateway, of_roomy.path("t1"), of_roomy.user_token, b"content")
        answers = [
            await upload(gateway, session.path("t1"), session.user_token, b"content")
            for session in (of_full, of_all)
        ]

    for answer in answers:
        answer.problem(507, "storage_full")
    assert {"three": 1} == await folders.holding()


async def test_what_is_erased_is_looked_for_in_every_store(folders: Folders) -> None:
    """A copy that somebody put where it was not wanted, by a restored disk perhaps."""
    async with folders.running() as gateway:
        session = await open_session(gateway, backends=["one", "three"])
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        (file,) = [f for f in (folders.path / "one").rglob("*/payloads/*/0") if f.is_file()]
        stray = folders.path / "two" / file.relative_to(folders.path / "one").with_name("1")
        stray.parent.mkdir(parents=True)
        stray.write_bytes(b"stray")
        await fetch(gateway, document["urn"], session.user_token, method="DELETE")

        async def is_erased() -> bool:
            answer = await fetch(gateway, document["urn"], session.user_token, part="/manifest")
            return bool(answer.json()["state"] == "erased")

        await eventually(is_erased, what="the state erased")
        left = await folders.holding()

    assert {} == left


async def test_where_no_store_is_left_that_was_wanted_nothing_is_called_lost(
    folders: Folders,
) -> None:
    async with folders.running() as gateway:
        session = await open_session(gateway, backends=["one"], write_quorum=1)
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await gateway.catalog.run(lambda c: c.execute(update(sessions).values(backends=["gone"])))
        read = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])

    read.problem(503, "backend_unavailable")
