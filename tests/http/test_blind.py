"""Goal: in a session of blind custody what its parties seal comes back to them, byte for byte, and
the gateway opens nothing, takes nothing in clear, and takes each reservation once.

Method: clients of their own making over HTTP; what they get is opened by another implementation.
"""

import asyncio
from collections.abc import Callable

import pyrage  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Connection, func, select, update

from crypto import Context, Meta, X25519Identity
from storage_gateway.catalog.blind_tables import reservations
from storage_gateway.catalog.sessions import router_recipient
from storage_gateway.catalog.tables import (
    intents,
    objects,
)
from storage_gateway.catalog.wraps import take_census
from tests.commands import command_beside
from tests.gateway import MINER, OTHER_MINER, RunningGateway, leftovers, open_session
from tests.http.age_files import age_file, stanza
from tests.http.blind_world import BlindSession, context_of, open_blind, sealed_for
from tests.http.raw import CHUNKED, EXPECT, SEALED, chunk, connected, exchange, request
from tests.http.steps import PLAINTEXT, SEGMENT, made_bytes, upload

pytestmark = pytest.mark.both_databases

CONTEXT = stanza("storage-gateway/context-v1", body=bytes(32))
SIZES = [0, 1, 65_536, 65_537, SEGMENT + 1000]


@pytest.fixture
async def blind(gateway: RunningGateway) -> BlindSession:
    return await open_blind(gateway, "101")


def opened(data: bytes, identity: X25519Identity) -> bytes:
    """Open a file as another implementation does."""
    return bytes(pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(identity.to_text())]))


@pytest.mark.parametrize("size", SIZES)
async def test_each_party_opens_what_the_user_sealed(blind: BlindSession, size: int) -> None:
    content = made_bytes(size)
    reservation = await blind.reserve("t1")
    sealed = sealed_for(reservation, content, Meta("text/plain", "a.txt"))
    answer = await blind.send("t1", "input", reservation["urn"], sealed.head + sealed.payload)

    made = answer.json()
    assert (201, reservation["urn"], size) == (answer.status, made["urn"], made["size"])
    for who, identity in blind.identities.items():
        found = await blind.get(made["urn"], who)
        assert sealed.head + sealed.payload == found.body
        assert content == opened(found.body, identity)
    manifest = await blind.manifest(made["urn"])
    assert reservation["payload_id"] == manifest["payload_id"]
    assert (False, 1) == (manifest["rewrap_pending"], manifest["generation"])


async def test_an_output_is_for_its_writer_alone_among_the_miners(blind: BlindSession) -> None:
    made = await blind.put("t1", b"result", "output")

    data = (await blind.get(made["urn"])).body
    for who in ("user", "router", MINER):
        assert b"result" == opened(data, blind.identities[who])
    with pytest.raises(pyrage.DecryptError):
        opened(data, blind.identities[OTHER_MINER])
    (await blind.get(made["urn"], OTHER_MINER)).problem(404, "not_found")


async def test_the_session_has_a_router_of_its_own(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    document = (await blind.ask("GET", blind.path)).json()
    ours = await gateway.catalog.read(router_recipient)
    reservation = await blind.reserve("t1")

    own = str(blind.identities["router"].recipient())
    assert ("blind", own) == (document["custody"], document["parties"]["router"]["recipient"])
    sealed_to = [party["recipient"] for party in reservation["recipients"]]
    assert own in sealed_to
    assert ours not in sealed_to
    assert "tokens" not in document


async def test_a_reservation_says_exactly_what_is_to_be_sealed(blind: BlindSession) -> None:
    reservation = await blind.reserve("t7", "output")

    wanted = Context(
        object_id=reservation["urn"].rpartition(":")[2],
        payload_id=reservation["payload_id"],
        session_id="101",
        task_id="t7",
        direction="output",
        miner=MINER,
        key_class="classic",
    )
    assert wanted == context_of(reservation)
    places = [(party["role"], party["miner"]) for party in reservation["recipients"]]
    assert [("user", None), ("router", None), ("miner", MINER)] == places


async def test_nothing_is_taken_or_sent_in_clear(blind: BlindSession) -> None:
    made = await blind.put("t1", b"secret")
    in_clear = await blind.ask("POST", blind.slot("t2"), body=b"secret")
    asked = await blind.get(made["urn"], headers=[PLAINTEXT])
    either = await blind.get(made["urn"], headers=[PLAINTEXT, ("Accept", "application/age;q=0.1")])
    neither = await blind.get(made["urn"], headers=[("Accept", "text/html")])

    in_clear.problem(409, "blind_custody")
    asked.problem(409, "blind_custody")
    neither.problem(406, "not_acceptable")
    assert (200, "application/age") == (either.status, either.header("Content-Type"))


async def test_a_sealed_upload_names_its_reservation(blind: BlindSession) -> None:
    sealed = age_file(b"x", [str(blind.identities["router"].recipient())])
    answer = await blind.ask("POST", blind.slot("t1"), headers=[SEALED], body=sealed)

    assert "reservation" == answer.problem(422, "invalid_field")["field"]


@pytest.mark.parametrize("name", ["urn", "id"])
async def test_a_reservation_is_for_one_upload(blind: BlindSession, name: str) -> None:
    reservation = await blind.reserve("t1")
    sealed = sealed_for(reservation, b"content")
    data = sealed.head + sealed.payload
    shown = reservation["urn"] if name == "urn" else reservation["urn"].rpartition(":")[2]
    first = await blind.send("t1", "input", shown, data)
    again = await blind.send("t1", "input", shown, data)

    assert 201 == first.status
    assert reservation["urn"] == again.problem(409, "reservation_used")["urn"]


async def test_of_two_uploads_at_once_one_is_taken(blind: BlindSession) -> None:
    reservation = await blind.reserve("t1")
    files = [sealed_for(reservation, bytes([number]) * 100_000) for number in range(2)]
    answers = await asyncio.gather(
        *(blind.send("t1", "input", reservation["urn"], f.head + f.payload) for f in files)
    )

    assert [201, 409] == sorted(answer.status for answer in answers)
    kept = next(f for f, answer in zip(files, answers, strict=True) if answer.status == 201)
    assert kept.head + kept.payload == (await blind.get(reservation["urn"])).body


async def test_an_upload_that_broke_used_its_reservation(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    """What is stored under a payload id is one attempt's: late writes of another would mix."""
    reservation = await blind.reserve("t1")
    sealed = sealed_for(reservation, made_bytes(1000))
    cut = sealed.head + sealed.payload + bytes(65_552 - len(sealed.payload)) + b"x"
    data = chunk(cut) + chunk(b"")
    path = f"{blind.slot('t1')}?reservation={reservation['urn']}"
    head = request("POST", path, blind.tokens["user"], headers=[SEALED, CHUNKED])
    answer = await exchange(gateway.address, head + data)
    answer.problem(422, "payload_invalid")
    whole = sealed.head + sealed.payload
    again = await blind.send("t1", "input", reservation["urn"], whole)

    assert "urn" not in again.problem(409, "reservation_used")
    assert [] == await leftovers(gateway.catalog, gateway.store)
    await blind.put("t1", b"after all")


async def test_a_reservation_ends(gateway: RunningGateway, blind: BlindSession) -> None:
    reservation = await blind.reserve("t1")
    ended = update(reservations).values(expires_ms=reservations.c.created_ms)
    await gateway.catalog.run(lambda c: c.execute(ended))
    sealed = sealed_for(reservation, b"x")
    answer = await blind.send("t1", "input", reservation["urn"], sealed.head + sealed.payload)

    answer.problem(410, "reservation_expired")


@pytest.mark.parametrize(
    ("task_id", "direction"), [("t2", "input"), ("t1", "output")], ids=["task", "direction"]
)
async def test_a_reservation_of_another_slot_is_not_found(
    blind: BlindSession, task_id: str, direction: str
) -> None:
    reservation = await blind.reserve("t1")
    used = await blind.reserve("t3")
    sealed = sealed_for(used, b"x")
    await blind.send("t3", "input", used["urn"], sealed.head + sealed.payload)

    for urn in (reservation["urn"], used["urn"], f"urn:blob:v4:{'a' * 32}"):
        answer = await blind.send(task_id, direction, urn, b"")
        assert "urn" not in answer.problem(404, "unknown_reservation")


async def test_a_reservation_for_older_keys_is_refused_with_the_current_ones(
    blind: BlindSession,
) -> None:
    reservation = await blind.reserve("t1")
    await blind.rotate(MINER)
    sealed = sealed_for(reservation, b"x")
    answer = await blind.send("t1", "input", reservation["urn"], sealed.head + sealed.payload)

    told = answer.problem(409, "stale_parties")["recipients"]
    assert [str(blind.identities[who].recipient()) for who in blind.identities] == told


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        ("used", 409, "reservation_used"),
        ("stale", 409, "stale_parties"),
        ("clear", 409, "blind_custody"),
        ("taken", 409, "slot_taken"),
    ],
)
async def test_what_cannot_succeed_is_refused_before_the_body(
    gateway: RunningGateway, blind: BlindSession, spoil: str, status: int, code: str
) -> None:
    reservation = await blind.reserve("t1")
    if spoil == "used":
        began = update(reservations).values(used_ms=reservations.c.created_ms)
        await gateway.catalog.run(lambda c: c.execute(began))
    elif spoil == "stale":
        await blind.rotate(MINER)
    elif spoil == "taken":
        await blind.put("t1", b"x")
    path = f"{blind.slot('t1')}?reservation={reservation['urn']}"
    kind = ("Content-Type", "text/plain") if spoil == "clear" else SEALED
    headers = [kind, EXPECT, ("Content-Length", "1000")]
    async with connected(gateway.address) as connection:
        await connection.send(request("POST", path, blind.tokens["user"], headers=headers))
        answer = await connection.answer()

    answer.problem(status, code)


async def test_keys_that_change_under_an_upload_are_seen_by_its_commit(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    reservation = await blind.reserve("t1")
    sealed = sealed_for(reservation, made_bytes(2_000_000))
    data = sealed.head + sealed.payload
    path = f"{blind.slot('t1')}?reservation={reservation['urn']}"
    headers = [SEALED, ("Content-Length", str(len(data)))]
    async with connected(gateway.address) as connection:
        await connection.send(request("POST", path, blind.tokens["user"], headers=headers))
        await connection.send(data[:-1])
        count = select(func.count()).select_from(intents)
        while not await gateway.catalog.read(lambda c: c.execute(count).scalar_one()):
            await asyncio.sleep(0.01)
        await blind.rotate("router")
        await connection.send(data[-1:])
        answer = await connection.answer()

    answer.problem(409, "stale_parties")
    assert [] == await leftovers(gateway.catalog, gateway.store)


def with_stanzas(head: bytes, edit: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """Return a head with other stanzas; its MAC, which nobody here can check, is left as it is."""
    magic, *rest = head.partition(b"---")[0].split(b"-> ")
    stanzas = edit([b"-> " + each for each in rest])
    return magic + b"".join(stanzas) + b"---" + head.partition(b"---")[2]


WRONG: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "no age file": (lambda _head, _payload: b"hello", "header_mismatch"),
    "no context": (
        lambda head, payload: with_stanzas(head, lambda s: s[1:]) + payload,
        "header_mismatch",
    ),
    "two contexts": (
        lambda head, payload: with_stanzas(head, lambda s: s[:1] + s) + payload,
        "header_mismatch",
    ),
    "a context of another size": (
        lambda head, payload: (
            with_stanzas(
                head, lambda s: [stanza("storage-gateway/context-v1", body=bytes(31)), *s[1:]]
            )
            + payload
        ),
        "header_mismatch",
    ),
    "a stranger's stanza": (
        lambda head, payload: with_stanzas(head, lambda s: [s[0], stanza("x"), *s[1:]]) + payload,
        "header_mismatch",
    ),
    "a recipient first": (
        lambda head, payload: with_stanzas(head, lambda s: [s[1], s[0], *s[2:]]) + payload,
        "header_mismatch",
    ),
    "one recipient less": (
        lambda head, payload: with_stanzas(head, lambda s: s[:-1]) + payload,
        "header_mismatch",
    ),
    "one recipient more": (
        lambda head, payload: with_stanzas(head, lambda s: [*s, s[-1]]) + payload,
        "header_mismatch",
    ),
    "a recipient's stanza of no shape": (
        lambda head, payload: (
            with_stanzas(head, lambda s: [*s[:-1], stanza("X25519", "AAAA", body=bytes(32))])
            + payload
        ),
        "header_mismatch",
    ),
    "another class": (
        lambda head, payload: (
            with_stanzas(head, lambda s: [*s[:-1], stanza("mlkem768x25519", "x", body=bytes(32))])
            + payload
        ),
        "class_mismatch",
    ),
    "33 stanzas": (
        lambda head, payload: with_stanzas(head, lambda s: [*s, *s[-1:] * 30]) + payload,
        "too_many_stanzas",
    ),
    "a header too long": (
        lambda head, payload: (
            with_stanzas(head, lambda s: [*s, stanza("x", "a" * 70_000)]) + payload
        ),
        "header_too_large",
    ),
    "no payload": (lambda head, _payload: head, "payload_invalid"),
    "a payload that no plaintext has": (
        lambda head, payload: head + payload + bytes(65_552 - len(payload)) + b"x",
        "payload_invalid",
    ),
}


@pytest.mark.parametrize(("change", "code"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_right_is_refused(
    gateway: RunningGateway,
    blind: BlindSession,
    change: Callable[[bytes, bytes], bytes],
    code: str,
) -> None:
    reservation = await blind.reserve("t1")
    sealed = sealed_for(reservation, b"content")
    data = change(sealed.head, sealed.payload)
    answer = await blind.send("t1", "input", reservation["urn"], data)

    answer.problem(422, code)
    assert [] == await leftovers(gateway.catalog, gateway.store)
    # Nothing was stored of it: the reservation is as good as it was.
    again = await blind.send("t1", "input", reservation["urn"], sealed.head + sealed.payload)
    assert 201 == again.status


async def test_only_who_writes_a_slot_reserves_it(blind: BlindSession) -> None:
    asked = [("input", MINER), ("input", "router"), ("output", "user"), ("output", "operator")]
    for direction, who in asked:
        path = f"{blind.slot('t1', direction)}/reservations"
        (await blind.ask("POST", path, who, body=b"")).problem(403, "forbidden")


async def test_a_slot_that_is_taken_is_not_reserved(blind: BlindSession) -> None:
    made = await blind.put("t1", b"x")
    answer = await blind.ask("POST", f"{blind.slot('t1')}/reservations", body=b"")

    assert made["urn"] == answer.problem(409, "slot_taken")["urn"]


async def test_a_session_of_the_gateways_custody_has_no_reservations(
    gateway: RunningGateway,
) -> None:
    session = await open_session(gateway, "202")
    path = f"{session.path('t1')}/reservations"
    answer = await upload(gateway, path, session.user_token, b"")

    answer.problem(409, "not_blind")


async def test_the_census_counts_what_is_reserved(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    async def counted() -> list[tuple[int, int, int, int]]:
        found = await gateway.catalog.read(lambda c: list(take_census(c, "101")))
        return [(wrap.heads, wrap.uploads, wrap.kept, wrap.reserved) for wrap in found]

    reservation = await blind.reserve("t1")
    waiting = await counted()
    sealed = sealed_for(reservation, b"x")
    await blind.send("t1", "input", reservation["urn"], sealed.head + sealed.payload)

    assert [(0, 0, 0, 1)] == waiting
    assert [(1, 0, 0, 0)] == await counted()
    rows = select(func.count()).select_from(reservations)
    assert 0 == await gateway.catalog.read(lambda c: c.execute(rows).scalar_one())


async def test_check_finds_blind_objects_sound_and_damage_in_them(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", made_bytes(100_000))
    sound = await command_beside("check", "--data-dir", gateway.data_dir)
    shorter = update(objects).values(head=(await blind.get(made["urn"], part="/header")).body[3:])
    await gateway.catalog.run(lambda c: c.execute(shorter))
    damaged = await command_beside("check", "--data-dir", gateway.data_dir)

    assert 0 == sound.status, sound
    assert (1, True) == (damaged.status, made["urn"] in (damaged.out.decode() + damaged.err))


async def test_long_expired_reservations_are_forgotten(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    await blind.reserve("t1")
    await blind.reserve("t2")

    def age(connection: Connection) -> None:
        for task_id, hours in (("t1", 48), ("t2", 12)):
            ended = update(reservations).where(reservations.c.task_id == task_id)
            at = reservations.c.created_ms - hours * 3_600_000
            connection.execute(ended.values(expires_ms=at))

    await gateway.catalog.run(age)
    await gateway.gateway.recovery.run_once()

    rows = select(reservations.c.task_id)
    assert ["t2"] == await gateway.catalog.read(lambda c: list(c.execute(rows).scalars()))


async def test_a_token_of_the_router_is_for_its_own_custody(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    await open_session(gateway, "202")
    again = await blind.post(f"{blind.path}/tokens", {"party": "router"}, "operator")
    other = await blind.post("/v1/sessions/202/tokens", {"party": "router"}, "operator")
    former = await blind.ask("GET", blind.path, "router")
    blind.tokens["router"] = again.json()["token"]
    now = await blind.ask("GET", blind.path, "router")

    assert "party" == other.problem(422, "invalid_field")["field"]
    former.problem(401, "token_expired")
    assert 200 == now.status
