"""Goal: who wants an object to stay can say so; the longest claim wins, and no promise is broken.

Method: lifetimes and leases that are set, raised, lowered and given up under governance and under
compliance; a table of what is no such wish. Nothing waits: rows are aged.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from retention import LIFETIME_S_MAX
from storage_gateway.catalog import now_ms
from storage_gateway.catalog.retention_tables import leases
from storage_gateway.catalog.tables import objects
from tests.gateway import RunningGateway, open_session, running_gateway
from tests.http.blind_world import open_blind
from tests.http.claims_world import SETTINGS, Kept, ask, kept, lives_s, ms_of
from tests.http.steps import fetch

pytestmark = pytest.mark.both_databases

NEAR_MS = 60_000
"""Between a lease that was asked for and what is compared with it no machine takes longer."""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, **SETTINGS) as running:
        yield running


async def lease_of(held: Kept, holder: str = "user") -> float | None:
    """Return how long a lease lasts, in seconds from now, by what is told."""
    now = await held.gateway.catalog.run(now_ms)
    told = {lease["holder"]: lease["until"] for lease in (await held.shown())["leases"]}
    return (ms_of(told[holder]) - now) / 1000 if holder in told else None


async def generation(held: Kept) -> int:
    query = select(objects.c.claims_generation).where(objects.c.object_id == held.object_id)
    return int(await held.gateway.catalog.read(lambda c: c.execute(query).scalar_one()))


async def columns(held: Kept) -> tuple[object, ...]:
    """Return what the row says, and the leases."""
    here = objects.c.object_id == held.object_id
    row = select(objects.c.keep_until_ms, objects.c.expires_ms, objects.c.claims_generation)
    of = select(leases.c.holder, leases.c.until_ms).order_by(leases.c.holder)
    return await held.gateway.catalog.read(
        lambda c: (*c.execute(row.where(here)).one(), *map(tuple, c.execute(of)))
    )


# What is told.


async def test_all_that_is_claimed_is_told(gateway: RunningGateway) -> None:
    held = await kept(gateway, "strict", lifetime_s=300)
    assert 200 == (await held.leased(400)).status
    answer = await held.ask("GET", "/retention")
    shown = answer.json()

    assert "private, no-cache" == answer.header("Cache-Control")
    assert shown == {
        "urn": held.urn,
        "session_id": held.session.session_id,
        "policy": "strict",
        "mode": "compliance",
        "committed": shown["committed"],
        "keep_until": shown["keep_until"],
        "expires": shown["leases"][0]["until"],
        "leases": [{"holder": "user", "until": shown["expires"]}],
        "held": False,
        "expired": None,
        "erase_after": None,
        "verdict": {"action": "keep", "reason": "lease", "until": shown["expires"]},
    }
    assert 300_000 == ms_of(shown["keep_until"]) - ms_of(shown["committed"])


@pytest.mark.parametrize(
    ("policy", "reason"), [("forever", "forever"), ("brief", "lifetime"), ("strict", "lifetime")]
)
async def test_the_verdict_is_that_of_a_sweep_now(
    gateway: RunningGateway, policy: str, reason: str
) -> None:
    held = await kept(gateway, policy)
    first = await held.shown()
    await held.change(expires_ms=1, keep_until_ms=1)
    over = await held.shown()
    await held.expire()
    grace = await held.shown()
    await held.change(holds=1)

    assert {"action": "keep", "reason": reason, "until": first["expires"]} == first["verdict"]
    assert {"action": "expire", "reason": "lifetime_over", "until": None} == over["verdict"]
    expected = {"action": "keep", "reason": "grace", "until": grace["erase_after"]}
    assert expected == grace["verdict"]
    assert ("held", True) == (
        (await held.shown())["verdict"]["reason"],
        (await held.shown())["held"],
    )


# Lifetimes.


@pytest.mark.parametrize("who", ["user", "operator"])
async def test_a_lifetime_is_raised_and_under_governance_lowered(
    gateway: RunningGateway, who: str
) -> None:
    held = await kept(gateway, "open")
    token = None if who == "user" else gateway.operator_token
    answers = [await held.lives(wish, token=token) for wish in (100, 5, None, LIFETIME_S_MAX, 1)]

    assert [200] * 5 == [answer.status for answer in answers]
    assert [100, 5, None, LIFETIME_S_MAX, 1] == [lives_s(answer.json()) for answer in answers]
    assert 1 == lives_s((await held.ask("GET", "/manifest")).json())
    assert 5 == await generation(held)


async def test_under_compliance_a_lifetime_is_only_raised(gateway: RunningGateway) -> None:
    held = await kept(gateway, "stricter", lifetime_s=300)
    raised = await held.lives(400)
    before = await columns(held)
    refused = [await held.lives(wish, token=gateway.operator_token) for wish in (399, 1)]
    same = await held.lives(400)
    assert before == await columns(held)
    forever = await held.lives(None)
    back = await held.lives(LIFETIME_S_MAX)

    assert [400, 400, None] == [lives_s(a.json()) for a in (raised, same, forever)]
    for answer, promised in [(a, "400 seconds") for a in refused] + [(back, "for ever")]:
        problem = answer.problem(422, "lifetime_too_short")
        assert "lifetime_s" == problem["field"]
        assert promised in problem["detail"]


@pytest.mark.parametrize("policy", ["brief", "strict"])
async def test_no_lifetime_is_longer_than_the_policy_allows(
    gateway: RunningGateway, policy: str
) -> None:
    held = await kept(gateway, policy)
    before = await columns(held)

    for wish in (601, LIFETIME_S_MAX, None):
        problem = (await held.lives(wish)).problem(422, "lifetime_too_long")
        assert "at most 600 seconds" in problem["detail"]
    assert before == await columns(held)
    assert 600 == lives_s((await held.lives(600)).json())


# Leases.


async def test_a_lease_lasts_until_then_and_the_longest_claim_wins(
    gateway: RunningGateway,
) -> None:
    held = await kept(gateway, "open")
    short = (await held.leased(1)).json()
    mine = (await held.leased(1000)).json()
    both = (await held.leased(2000, token=gateway.operator_token)).json()
    lifetime = (await held.lives(3000)).json()

    assert 60 == lives_s(short)
    assert "lifetime" == short["verdict"]["reason"]
    assert mine["leases"][0]["until"] == mine["expires"]
    assert ["operator", "user"] == [lease["holder"] for lease in both["leases"]]
    assert both["leases"][0]["until"] == both["expires"]
    assert both["leases"][1] == mine["leases"][0]
    assert 3000 == lives_s(lifetime)
    assert 4 == await generation(held)


async def test_a_lease_that_is_renewed_is_never_shorter(gateway: RunningGateway) -> None:
    held = await kept(gateway, "open")
    first = (await held.leased(1000)).json()
    before = await columns(held)
    shorter = (await held.leased(10)).json()
    assert before == await columns(held)  # nor is a copy of it due
    longer = (await held.leased(2000)).json()

    assert first["leases"] == shorter["leases"]
    assert NEAR_MS > abs(ms_of(longer["expires"]) - ms_of(first["expires"]) - 1_000_000)


async def test_each_gives_up_its_own_lease(gateway: RunningGateway) -> None:
    held = await kept(gateway, "open")
    operator = gateway.operator_token
    await held.leased(1000)
    await held.leased(2000, token=operator)
    mine = await held.ask("DELETE", "/lease")
    again = await held.ask("DELETE", "/lease")
    at = await generation(held)
    last = await held.ask("DELETE", "/lease", token=operator)

    assert [200, 200] == [mine.status, again.status]
    assert ["operator"] == [lease["holder"] for lease in again.json()["leases"]]
    assert mine.json() == again.json()
    assert (3, 4) == (at, await generation(held))
    assert ([], 60) == (last.json()["leases"], lives_s(last.json()))


async def test_under_compliance_a_lease_can_only_end(gateway: RunningGateway) -> None:
    held = await kept(gateway, "stricter")
    await held.leased(1000)
    before = await columns(held)
    for token in (None, gateway.operator_token):
        answer = await held.ask("DELETE", "/lease", token=token)
        if token is None:
            assert "compliance" in answer.problem(422, "lifetime_too_short")["detail"]
        else:
            assert 200 == answer.status  # the operator has none
    assert before == await columns(held)

    past = update(leases).values(until_ms=1)
    await gateway.catalog.run(lambda c: c.execute(past).close())
    ended = await held.ask("DELETE", "/lease")
    assert (200, []) == (ended.status, ended.json()["leases"])


@pytest.mark.parametrize("policy", ["brief", "strict"])
async def test_no_lease_lasts_longer_than_the_policy_allows(
    gateway: RunningGateway, policy: str
) -> None:
    held = await kept(gateway, policy)
    for wish in (601, LIFETIME_S_MAX):
        problem = (await held.leased(wish)).problem(422, "lifetime_too_long")
        assert "at most 600 seconds from the commit" in problem["detail"]
        assert "for_s" == problem["field"]
    assert await lease_of(held) is None

    assert 200 == (await held.leased(500)).status
    await held.change(created_ms=objects.c.created_ms - 200_000)
    # So long from the commit, not from now.
    (await held.leased(500)).problem(422, "lifetime_too_long")


# What is no wish, and who may have none.

NO_SECONDS = [0, -1, 1.5, "60", True, [], {}, LIFETIME_S_MAX + 1, 2**63, 10**30]


@pytest.mark.parametrize("wish", NO_SECONDS, ids=repr)
async def test_what_is_no_time_is_refused(gateway: RunningGateway, wish: object) -> None:
    held = await kept(gateway, "open")
    before = await columns(held)

    assert "lifetime_s" == (await held.lives(wish)).problem(422, "invalid_field")["field"]
    assert "for_s" == (await held.leased(wish)).problem(422, "invalid_field")["field"]
    assert before == await columns(held)


@pytest.mark.parametrize("document", [{}, {"lifetime_s": 60, "for_s": 60}, [], None, "60"])
async def test_a_wish_has_its_one_member(gateway: RunningGateway, document: object) -> None:
    held = await kept(gateway, "open")
    before = await columns(held)
    for part in ("/retention", "/lease"):
        answer = await held.ask("PUT", part, document)
        assert answer.status in ({415} if document is None else {422}), answer
    (await held.leased(None)).problem(422, "invalid_field")

    assert before == await columns(held)


WISHES = [
    ("GET", "/retention", None),
    ("PUT", "/retention", {"lifetime_s": 90}),
    ("PUT", "/lease", {"for_s": 90}),
    ("DELETE", "/lease", None),
]


@pytest.mark.parametrize(("method", "part", "document"), WISHES)
async def test_who_may_not_wish_changes_nothing_and_is_told_no_more(
    gateway: RunningGateway, method: str, part: str, document: object
) -> None:
    held, foreign = await kept(gateway, "open"), await open_session(gateway)
    before = await columns(held)
    none = await ask(gateway, method, f"{held.path}{part}", None, document)
    refused = {foreign.user_token: (404, "not_found")}
    if method != "GET":
        refused |= {held.session.miner_token: (403, "forbidden")}
        refused |= {foreign.miner_token: (403, "forbidden")}

    none.problem(401, "unauthenticated")
    for token, expected in refused.items():
        (await held.ask(method, part, document, token=token)).problem(*expected)
    assert before == await columns(held)
    # Nor is an absent object told from one of others.
    absent = f"/v1/objects/urn:blob:v4:{'a' * 32}{part}"
    there = await ask(gateway, method, absent, foreign.user_token, document)
    there.problem(404, "not_found")


async def test_the_router_of_blind_custody_may_look_and_not_wish(gateway: RunningGateway) -> None:
    session = await open_blind(gateway)
    urn = (await session.put("t1", b"content"))["urn"]
    shown = await session.get(urn, "router", "/retention")
    wished = await session.ask("DELETE", f"/v1/objects/{urn}/lease", "router")

    assert (200, 60) == (shown.status, lives_s(shown.json()))
    wished.problem(403, "forbidden")


@pytest.mark.parametrize(("method", "part", "document"), WISHES)
async def test_nothing_is_claimed_of_what_is_erased(
    gateway: RunningGateway, method: str, part: str, document: object
) -> None:
    held = await kept(gateway, "open")
    await held.leased(1000)
    token = held.session.user_token
    assert (await fetch(gateway, held.urn, token, method="DELETE")).status in {200, 202}
    before = await columns(held)

    (await held.ask(method, part, document)).problem(410, "erased")
    assert before == await columns(held)
