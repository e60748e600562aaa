"""Goal: where custody is blind `put` seals here and sends nothing in clear, and `rewrap --pending`
gives a new head to all that is for outdated keys, whatever fails on its way.

Method: the real commands, one process each, against real gateways; what comes out is opened by
another implementation.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from crypto import X25519Identity, format_identity_file, open_file
from storage_gateway.blind_client import BlindClient
from storage_gateway.catalog.blind_tables import kept_headers
from storage_gateway.catalog.tables import objects
from storage_gateway.cli.rewrapping import _rewrap, _Work
from storage_gateway.client import Client
from tests.commands import Done, command_beside
from tests.gateway import MINER, RunningGateway, open_session, running_gateway
from tests.http.blind_world import BlindSession, open_blind
from tests.http.raw import exchange, request
from tests.http.test_blind import opened

CONTENT = bytes(range(256)) * 5000  # two leaves


@dataclass(frozen=True, slots=True)
class Desk:
    """A gateway, a blind session on it, and a folder with its tokens and identities as files."""

    path: Path
    gateway: RunningGateway
    blind: BlindSession

    def write(self, name: str, text: str) -> str:
        (self.path / name).write_text(text)
        return name

    def keep(self, who: str, name: str) -> str:
        """Write a party's identity into a file."""
        identity = self.blind.identities[who]
        return self.write(name, format_identity_file(identity, datetime.now(UTC)))

    async def run(self, *arguments: object, holder: str = "user", stdin: bytes = b"") -> Done:
        token = self.write("token", self.blind.tokens[holder])
        asked = ("--url", self.gateway.url, "--token-file", token)
        return await command_beside(*map(str, arguments), *asked, stdin=stdin, cwd=self.path)

    async def rewrap(self, *arguments: object, holder: str = "user") -> Done:
        pending = ("rewrap", "--pending", "--session", "101")
        return await self.run(*pending, *arguments, holder=holder)


@asynccontextmanager
async def desk_at(path: Path, **settings: object) -> AsyncIterator[Desk]:
    async with running_gateway(path, **settings) as gateway:
        desk = Desk(path, gateway, await open_blind(gateway, "101"))
        for who, name in (("user", "user.txt"), ("router", "router.txt"), (MINER, "miner.txt")):
            desk.keep(who, name)
        parties = [str(identity.recipient()) for identity in desk.blind.identities.values()]
        desk.write("parties.txt", "\n".join(["# all", *parties]))
        yield desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_at(tmp_path) as made:
        yield made


async def test_put_seals_here_and_get_opens_here(desk: Desk) -> None:
    (desk.path / "prompt.bin").write_bytes(CONTENT)
    put = ("put", "--session", "101", "--task")
    made = await desk.run(*put, "t1", "prompt.bin", "-R", "parties.txt", "--content-type", "a/b")
    piped = await desk.run(*put, "t2", "-", stdin=CONTENT)
    result = await desk.run(*put, "t1", "--output", "prompt.bin", "--json", holder=MINER)

    assert [(0, "")] * 3 == [(done.status, done.err) for done in (made, piped, result)]
    urns = [made.out.decode().strip(), piped.out.decode().strip(), json.loads(result.out)["urn"]]
    for urn in urns:
        for who in ("user", "router", MINER):
            sealed = (await desk.blind.get(urn, who)).body
            assert CONTENT == opened(sealed, desk.blind.identities[who])
        got = await desk.run("get", urn, "-i", "user.txt", "-o", "got")
        assert (0, CONTENT) == (got.status, (desk.path / "got").read_bytes()), got
    refused = await desk.run("get", urns[0], "--plaintext")
    assert (1, True) == (refused.status, "[blind_custody]" in refused.err)
    head = await desk.run("get", urns[0], "-o", "object.age")
    told = await command_beside(
        "open", "-i", "miner.txt", "--json", "-o", "b", "object.age", cwd=desk.path
    )
    assert (0, 0) == (head.status, told.status)
    assert ("a/b", "prompt.bin") == tuple(
        json.loads(told.out)[name] for name in ("content_type", "filename")
    )


@pytest.mark.parametrize("verb", ["put", "rewrap"])
async def test_nobody_is_sealed_for_who_is_not_in_the_list(desk: Desk, verb: str) -> None:
    """The gateway may name a key of its own."""
    await desk.blind.put("t0", b"x")
    await desk.blind.rotate(MINER)
    (desk.path / "prompt").write_bytes(CONTENT)
    if verb == "put":
        put = ("put", "--session", "101", "--task", "t1")
        done = await desk.run(*put, "prompt", "-R", "parties.txt")
    else:
        done = await desk.rewrap("-i", "user.txt", "-R", "parties.txt")

    assert 1 == done.status
    assert str(desk.blind.identities[MINER].recipient()) in done.err
    listed = (await desk.blind.ask("GET", f"{desk.blind.path}/objects")).json()["objects"]
    assert ["t0"] == [found["task_id"] for found in listed]
    assert 1 == (await desk.blind.manifest(listed[0]["urn"]))["generation"]


async def test_what_put_is_told_and_cannot_do_is_said(desk: Desk) -> None:
    (desk.path / "x").write_bytes(b"x")
    sealed = await desk.run("put", "--session", "101", "--task", "t1", "--sealed", "x")
    ours = await open_session(desk.gateway, "202")
    desk.blind.tokens["ours"] = ours.user_token
    listed = ("put", "--session", "202", "--task", "t1", "x", "-R", "parties.txt")
    routers = await desk.run(*listed, holder="ours")
    pending = ("rewrap", "--pending", "--session", "202", "-i", "user.txt")
    rewrapped = await desk.run(*pending, holder="ours")

    assert (2, True) == (sealed.status, "give the file unsealed" in sealed.err)
    assert (2, True) == (routers.status, "-R is for blind custody" in routers.err)
    assert (1, True) == (rewrapped.status, "not blind" in rewrapped.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["rewrap", "--pending", "-i", "user.txt"],
        ["rewrap", "--pending", "--session", "101", "-i", "user.txt", "file"],
        ["rewrap", "--pending", "--session", "101", "-i", "user.txt", "-o", "file"],
        ["rewrap", "--pending", "--session", "101", "-i", "user.txt", "--wanted", "age1"],
        ["rewrap", "--pending", "--session", "101"],
        ["rewrap", "--pending", "--session", "101", "-i", "user.txt", "--parallel", "0"],
        ["rewrap", "--session", "101", "-i", "user.txt", "--current", "a", "--wanted", "b", "c"],
        ["rewrap", "-i", "user.txt", "--current", "age1"],
    ],
)
async def test_a_wrong_use_is_told(desk: Desk, arguments: list[str]) -> None:
    done = await desk.run(*arguments)

    assert (2, b"") == (done.status, done.out)
    assert done.err


async def made_objects(desk: Desk, count: int) -> list[str]:
    """Upload so many small objects, some at a time."""
    turn = asyncio.Semaphore(8)

    async def make(number: int) -> str:
        async with turn:
            return str((await desk.blind.put(f"t{number}", b"content %d" % number))["urn"])

    return list(await asyncio.gather(*(make(number) for number in range(count))))


async def count_of(desk: Desk, table: Any) -> int:  # noqa: ANN401 - a table
    query = select(func.count()).select_from(table)
    return await desk.gateway.catalog.read(lambda c: c.execute(query).scalar_one())


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.nightly)])
@pytest.mark.timeout(600)
async def test_all_that_is_pending_is_rewrapped_in_one_go(desk: Desk, count: int) -> None:
    urns = await made_objects(desk, count)
    former = await desk.blind.rotate(MINER)
    await desk.blind.rotate("user")
    new = desk.keep("user", "new.txt")
    tried = await desk.rewrap("-i", "user.txt", "-i", new, "--dry-run", "--json")
    after_trying = await count_of(desk, kept_headers)
    done = await desk.rewrap("-i", "user.txt", "-i", new, "--json")
    again = await desk.rewrap("-i", new)

    nothing: dict[str, Any] = {"changed": 0, "failed": 0, "failures": []}
    wanted = {"dry_run": True, "rewrapped": count} | nothing
    assert (0, wanted, 0) == (tried.status, json.loads(tried.out), after_trying)
    assert (0, wanted | {"dry_run": False}) == (done.status, json.loads(done.out)), done.err
    assert (0, "0 rewrapped, 0 changed meanwhile, 0 failed\n") == (again.status, again.out.decode())
    assert count == await count_of(desk, kept_headers)
    pending = await desk.blind.ask("GET", f"{desk.blind.path}/objects?pending=true")
    assert [] == pending.json()["objects"]
    for number in range(0, count, 50):
        sealed = (await desk.blind.get(urns[number])).body
        for who in ("user", "router", MINER):
            assert b"content %d" % number == opened(sealed, desk.blind.identities[who])
        with pytest.raises(Exception, match="identities"):
            open_file(sealed, [former])


async def test_what_fails_is_told_and_stops_nothing(desk: Desk) -> None:
    urns = await made_objects(desk, 12)
    await desk.blind.rotate("router")
    await desk.blind.ask("DELETE", f"/v1/objects/{urns[7]}")
    # The user's stanza of one is spoilt: it opens for nobody any more who has this identity.
    lines = (await desk.blind.get(urns[5], part="/header")).body.split(b"\n")
    at = next(n for n, line in enumerate(lines) if line.startswith(b"-> X25519"))
    lines[at + 1] = lines[at + 1][:4] + lines[at + 1][4:][::-1]
    spoilt = update(objects).where(objects.c.object_id == urns[5].rpartition(":")[2])
    spoilt = spoilt.values(head=b"\n".join(lines))
    await desk.gateway.catalog.run(lambda c: c.execute(spoilt))
    done = await desk.rewrap("-i", "user.txt", "--json", "--parallel", "3")

    report = json.loads(done.out)
    assert (1, 10, 1) == (done.status, report["rewrapped"], report["failed"])
    (failure,) = report["failures"]
    assert urns[5] == failure["urn"]
    assert urns[5] in done.err


async def test_an_identity_that_opens_nothing_changes_nothing(desk: Desk) -> None:
    await made_objects(desk, 3)
    await desk.blind.rotate("router")
    stranger = X25519Identity.generate()
    name = desk.write("stranger.txt", format_identity_file(stranger, datetime.now(UTC)))
    done = await desk.rewrap("-i", name)

    assert (1, "0 rewrapped, 0 changed meanwhile, 3 failed\n") == (done.status, done.out.decode())
    assert 3 == done.err.count("[NoIdentityMatch]")
    assert 0 == await count_of(desk, kept_headers)


async def test_only_the_user_rewraps(desk: Desk) -> None:
    await made_objects(desk, 1)
    await desk.blind.rotate("user")
    done = await desk.rewrap("-i", "router.txt", holder="router")

    assert (1, True) == (done.status, "[forbidden]" in done.err)


async def test_a_session_of_blind_custody_is_opened(desk: Desk) -> None:
    recipients = [str(desk.blind.identities[who].recipient()) for who in ("user", "router")]
    done = await desk.run(
        *("session", "open", "--user", recipients[0], "--router", recipients[1]),
        *("--session", "303", "-o", "session.json"),
        holder="operator",
    )

    assert 0 == done.status, done.err
    document = json.loads((desk.path / "session.json").read_text())
    assert ("blind", recipients[1]) == (
        document["custody"],
        document["parties"]["router"]["recipient"],
    )
    token = document["tokens"]["router"]
    answer = await exchange(desk.gateway.address, request("GET", "/v1/sessions/303", token))
    assert 200 == answer.status


@pytest.mark.parametrize("meanwhile", ["erased", "rewrapped", "rotated", "rotated and rewrapped"])
async def test_what_changed_since_it_was_listed_is_looked_at_again(
    desk: Desk, meanwhile: str
) -> None:
    blind = desk.blind
    urn = (await blind.put("t1", b"content"))["urn"]
    await blind.rotate("router")
    listed = await blind.manifest(urn)
    if "rotated" in meanwhile:
        await blind.rotate(MINER)
    if "rewrapped" in meanwhile:
        await blind.rewrap(urn, blind.identities["user"])
    if "erased" in meanwhile:
        await blind.ask("DELETE", f"/v1/objects/{urn}")
    async with Client(desk.gateway.url, blind.tokens["user"]) as client:
        identities = [blind.identities["user"]]
        work = _Work(client, BlindClient(client), identities, known=None, dry_run=False)
        done = await _rewrap(work, listed)

    now = await blind.manifest(urn)
    assert (meanwhile == "rotated", False) == (done, now["rewrap_pending"])
    if meanwhile != "erased":
        assert 2 == now["generation"]
        sealed = (await blind.get(urn)).body
        for who in ("user", "router", MINER):
            assert b"content" == opened(sealed, blind.identities[who])
