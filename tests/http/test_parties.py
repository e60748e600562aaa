"""Who sees what: lists and their pages, and what stays unknown to the other miner and the operator.

The matrix of routes and tokens is in `test_routes`; here is what the answers hold.
"""

from pathlib import Path
from typing import Any

import pytest

from crypto import Identity, NoIdentityMatch, X25519Identity, open_file
from tests.gateway import (
    MINER,
    OTHER_MINER,
    OpenSession,
    RunningGateway,
    open_session,
    running_gateway,
)
from tests.http.raw import Answer, exchange, request
from tests.http.steps import PLAINTEXT, fetch, uploaded

INPUT, RESULT, OTHER_RESULT = b"the prompt", b"the result", b"the other result"


async def _fill(gateway: RunningGateway, session: OpenSession) -> dict[str, dict[str, Any]]:
    token = session.user_token
    return {
        "input": await uploaded(gateway, session.path("t1"), token, INPUT),
        "result": await uploaded(
            gateway, session.path("t1", "output"), session.miner_token, RESULT
        ),
        "other result": await uploaded(
            gateway, session.path("t1", "output"), session.other_miner_token, OTHER_RESULT
        ),
    }


async def test_who_can_open_what_was_sealed(gateway: RunningGateway, session: OpenSession) -> None:
    documents = await _fill(gateway, session)
    (router,) = gateway.gateway.parts.keyring.opening()
    everyone: dict[str, Identity] = {
        "user": session.user,
        "router": router,
        "miner": session.miner,
        "other miner": session.other_miner,
        "outsider": X25519Identity.generate(),
    }
    able = {}
    for name, document in documents.items():
        sealed = (await fetch(gateway, document["urn"], session.user_token)).body
        able[name] = {who for who, identity in everyone.items() if _opens(sealed, identity)}

    assert {
        "input": {"user", "router", "miner", "other miner"},
        "result": {"user", "router", "miner"},
        "other result": {"user", "router", "other miner"},
    } == able


async def test_each_party_is_served_the_plaintext_of_what_it_may_open(
    gateway: RunningGateway, session: OpenSession
) -> None:
    documents = await _fill(gateway, session)
    served = {}
    for who, token in (
        ("user", session.user_token),
        ("miner", session.miner_token),
        ("other miner", session.other_miner_token),
    ):
        answers = {
            name: await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
            for name, document in documents.items()
        }
        served[who] = {name: a.body for name, a in answers.items() if a.status == 200}

    assert {
        "user": {"input": INPUT, "result": RESULT, "other result": OTHER_RESULT},
        "miner": {"input": INPUT, "result": RESULT},
        "other miner": {"input": INPUT, "other result": OTHER_RESULT},
    } == served


async def test_the_operator_manages_and_reads_no_payload(
    gateway: RunningGateway, session: OpenSession
) -> None:
    documents = await _fill(gateway, session)
    token = gateway.operator_token
    for document in documents.values():
        for headers in ([], [PLAINTEXT], [("If-None-Match", "*")]):
            for method in ("GET", "HEAD"):
                answer = await fetch(
                    gateway, document["urn"], token, method=method, headers=headers
                )
                assert 403 == answer.status
        assert 200 == (await fetch(gateway, document["urn"], token, part="/manifest")).status
    assert 3 == len(await _all_pages(gateway, token, limit=100))


async def test_a_list_shows_what_its_reader_may_know_of(
    gateway: RunningGateway, session: OpenSession
) -> None:
    await _fill(gateway, session)
    foreign = await open_session(gateway, "202")
    await uploaded(gateway, foreign.path("t1"), foreign.user_token, b"elsewhere")
    lists = {
        who: {
            (o["task_id"], o["direction"], o["miner"])
            for o in await _all_pages(gateway, token, limit=100)
        }
        for who, token in (
            ("user", session.user_token),
            ("operator", gateway.operator_token),
            ("miner", session.miner_token),
            ("other miner", session.other_miner_token),
        )
    }

    shared = ("t1", "input", None)
    mine, other = ("t1", "output", MINER), ("t1", "output", OTHER_MINER)
    assert {
        "user": {shared, mine, other},
        "operator": {shared, mine, other},
        "miner": {shared, mine},
        "other miner": {shared, other},
    } == lists


async def test_a_manifest_shows_parties_and_no_key_material(
    gateway: RunningGateway, session: OpenSession
) -> None:
    documents = await _fill(gateway, session)
    (router,) = gateway.gateway.parts.keyring.opening()
    shown = await fetch(gateway, documents["result"]["urn"], session.miner_token, part="/manifest")
    sealed = (await fetch(gateway, documents["result"]["urn"], session.miner_token)).body

    wrapped_for = {(p["role"], p.get("miner")): p["recipient"] for p in shown.json()["wrapped_for"]}
    assert {
        ("router", None): str(router.recipient()),
        ("user", None): str(session.user.recipient()),
        ("miner", MINER): str(session.miner.recipient()),
    } == wrapped_for
    assert len(sealed) == shown.json()["sealed_size"]
    assert OTHER_MINER.encode() not in shown.body
    assert not {"head", "file_key_print"} & set(shown.json())


@pytest.mark.parametrize("limit", [1, 2, 7, 25, 26, 1000])
async def test_pages_lose_nothing_and_repeat_nothing(
    gateway: RunningGateway, session: OpenSession, limit: int
) -> None:
    urns = [
        (await uploaded(gateway, session.path(f"t{i}"), session.user_token, b"x"))["urn"]
        for i in range(25)
    ]
    await fetch(gateway, urns[3], session.user_token, method="DELETE")

    listed = await _all_pages(gateway, session.user_token, limit=limit)

    assert sorted(urns) == sorted(o["urn"] for o in listed)
    times = [o["created"] for o in listed]
    assert sorted(times) == times
    assert {urns[3]} == {o["urn"] for o in listed if o["state"] != "committed"}


async def test_a_miners_pages_are_full_though_others_write_between(
    gateway: RunningGateway, session: OpenSession
) -> None:
    for i in range(5):
        for token in (session.miner_token, session.other_miner_token):
            await uploaded(gateway, session.path(f"t{i}", "output"), token, b"x")

    first = (await _page(gateway, session.miner_token, "?limit=4")).json()
    second = (await _page(gateway, session.miner_token, f"?limit=4&cursor={first['next']}")).json()

    assert [4, 1] == [len(first["objects"]), len(second["objects"])]
    assert second["next"] is None
    assert {MINER} == {o["miner"] for o in first["objects"] + second["objects"]}


@pytest.mark.parametrize(
    "limit", ["0", "-1", "1001", "x", "", "1.5", "%D9%A1", "1e3", "+1", "%201", "9" * 400]
)
async def test_a_limit_out_of_bounds_is_refused(
    gateway: RunningGateway, session: OpenSession, limit: str
) -> None:
    answer = await _page(gateway, session.user_token, f"?limit={limit}")

    assert "limit" == answer.problem(422, "invalid_field")["field"]


async def test_the_largest_page_is_a_setting(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, page_max=2) as gateway:
        session = await open_session(gateway, "101")
        for i in range(3):
            await uploaded(gateway, session.path(f"t{i}"), session.user_token, b"x")
        by_default = (await _page(gateway, session.user_token, "")).json()
        over = await _page(gateway, session.user_token, "?limit=3")

    assert 2 == len(by_default["objects"])
    assert by_default["next"] is not None
    over.problem(422, "invalid_field")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "",
        "%00",
        "*" * 10,
        "A" * 3000,
        "101~",
        "101~0",
        "101~-5",
        "101~1e5",
        "101~%D9%A1",
        "101~" + "9" * 30,
        "102~1",
        "~1",
    ],
)
async def test_a_cursor_that_was_not_answered_here_is_refused(
    gateway: RunningGateway, session: OpenSession, cursor: str
) -> None:
    answer = await _page(gateway, session.user_token, f"?cursor={cursor}")

    assert "cursor" == answer.problem(422, "invalid_field")["field"]


async def test_another_sessions_cursor_is_refused(
    gateway: RunningGateway, session: OpenSession
) -> None:
    foreign = await open_session(gateway, "202")
    for i in range(2):
        await uploaded(gateway, foreign.path(f"t{i}"), foreign.user_token, b"x")
    page = await exchange(
        gateway.address, request("GET", "/v1/sessions/202/objects?limit=1", foreign.user_token)
    )
    answer = await _page(gateway, session.user_token, f"?cursor={page.json()['next']}")

    assert "cursor" == answer.problem(422, "invalid_field")["field"]


def _opens(sealed: bytes, identity: Identity) -> bool:
    try:
        open_file(sealed, [identity])
    except NoIdentityMatch:
        return False
    return True


async def _page(gateway: RunningGateway, token: str, query: str) -> Answer:
    path = f"/v1/sessions/101/objects{query}"
    return await exchange(gateway.address, request("GET", path, token))


async def _all_pages(gateway: RunningGateway, token: str, *, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query = f"?limit={limit}"
    while True:
        document = (await _page(gateway, token, query)).json()
        assert len(document["objects"]) <= limit
        found += document["objects"]
        if document["next"] is None:
            return found
        query = f"?limit={limit}&cursor={document['next']}"
