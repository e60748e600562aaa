"""Goal: a key provider that hangs or dies degrades a gateway as configured, and nothing more: no
new seals, known heads open while the last answer counts, sealed downloads always; a restart comes
up without it, and all heals by itself.

Method: a real OpenBao, stopped in its tracks, killed, or without its token, under a gateway.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from crypto import CLASSIC, X25519Identity, open_file
from storage_gateway.catalog.registry import ROUTER_ITSELF, add_key
from storage_gateway.config import ConfigError
from storage_gateway.custody import COPIES_FILE, IDENTITY_FILE
from storage_gateway.key_provider import identity_file
from tests.commands import command_beside
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    open_session,
    running_gateway,
)
from tests.http.raw import exchange, request
from tests.http.scraping import scraped, value
from tests.http.steps import (
    LEAF,
    PLAINTEXT,
    fetch,
    made_bytes,
    sealed_by_stock_tool,
    upload,
    upload_sealed,
    uploaded,
)
from tests.http.test_rebuild import lose_catalog, new_token
from tests.servers.openbao import OpenBao

AWAY = "key_provider_unavailable"
LONG_S = 3600.0
BODY = made_bytes(LEAF + 1)


@dataclass
class Site:
    """Where gateways run whose keys are on a server."""

    folder: Path
    bao: OpenBao
    settings: dict[str, object]
    token: str

    def running(self, **settings: object) -> AbstractAsyncContextManager[RunningGateway]:
        return running_gateway(self.folder, **self.settings | settings)


@pytest.fixture
async def site(tmp_path: Path, bao: OpenBao) -> Site:
    key, token = await asyncio.to_thread(bao.new_key)
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(0o600)
    settings: dict[str, object] = {
        "key_provider": "transit",
        "key_transit_url": bao.url,
        "key_transit_key": key,
        "key_transit_token_file": file,
        "key_timeout_s": 0.3,
        "key_refresh_s": 0.1,
        "key_fresh_s": 0.6,
        "key_ttl_s": LONG_S,
        "admin_port": 0,
    }
    return Site(tmp_path, bao, settings, token)


async def hang(site: Site) -> None:
    await asyncio.to_thread(site.bao.stop)


async def let_go_on(site: Site) -> None:
    await asyncio.to_thread(site.bao.resume)


async def kill(site: Site) -> None:
    await asyncio.to_thread(site.bao.kill)


async def start(site: Site) -> None:
    await asyncio.to_thread(site.bao.start)


async def take_token(site: Site) -> None:
    (site.folder / "token").write_text("s.gone")


async def give_token(site: Site) -> None:
    (site.folder / "token").write_text(site.token)


Step = Callable[[Site], Awaitable[None]]
AWAYS: dict[str, tuple[Step, Step]] = {
    "it hangs": (hang, let_go_on),
    "it dies": (kill, start),
    "its token is gone": (take_token, give_token),
}


@pytest.fixture(params=AWAYS)
def away(request: pytest.FixtureRequest) -> tuple[Step, Step]:
    return AWAYS[request.param]


async def seals(gateway: RunningGateway, session: OpenSession, task: str) -> int:
    """Return the status of an upload, which must be taken or refused in one way."""
    answer = await upload(gateway, session.path(task), session.user_token, b"another")
    if answer.status != 201:
        answer.problem(503, AWAY)
        assert answer.header("Retry-After") == "5"
    return answer.status


class Tasks:
    """Names tasks that no upload had yet."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self) -> str:
        self._count += 1
        return f"n{self._count}"


async def until_seals(
    gateway: RunningGateway, session: OpenSession, new_task: Tasks, *, status: int
) -> None:
    async def is_so() -> bool:
        return status == await seals(gateway, session, new_task())

    await eventually(is_so, what=f"an upload that ends with {status}")


async def open_sealed(gateway: RunningGateway, session: OpenSession, urn: str) -> bytes:
    answer = await fetch(gateway, urn, session.user_token)
    assert 200 == answer.status, answer
    return open_file(answer.body, [session.user])


async def test_while_it_is_away_only_what_needs_it_is_refused(
    site: Site, away: tuple[Step, Step]
) -> None:
    leave, come_back = away
    new_task = Tasks()
    async with site.running() as gateway:
        session = await open_session(gateway, "101")
        urn = (await uploaded(gateway, session.path("t1"), session.user_token, BODY))["urn"]
        doomed = (await uploaded(gateway, session.path("t2"), session.user_token, b"x"))["urn"]
        recipient = session.router_recipient
        await leave(site)
        await until_seals(gateway, session, new_task, status=503)

        opened = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
        assert (200, BODY) == (opened.status, opened.body)
        assert BODY == await open_sealed(gateway, session, urn)
        sealed = await upload_sealed(gateway, session, "s1", sealed_by_stock_tool(b"s", recipient))
        sealed.problem(503, AWAY)
        another = await _ask_for_session(gateway, "102")
        assert another == 503
        erased = await fetch(gateway, doomed, session.user_token, method="DELETE")
        assert 202 == erased.status
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        assert (200, "degraded") == (ready.status, ready.json()["status"])
        assert AWAY == ready.json()["checks"]["key provider transit"]
        text = await scraped(gateway)
        assert 0 == value(text, "key_provider_up", provider="transit")
        assert 0.6 < value(text, "key_provider_answer_age_seconds", provider="transit")

        await come_back(site)
        await until_seals(gateway, session, new_task, status=201)
        assert 201 == await _ask_for_session(gateway, "102")
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        assert "ok" == ready.json()["checks"]["key provider transit"]
        text = await scraped(gateway)
        assert 1 == value(text, "key_provider_up", provider="transit")


async def _ask_for_session(gateway: RunningGateway, session_id: str) -> int:
    recipient = str(X25519Identity.generate().recipient())
    parties = {"user": {"recipient": recipient}, "miners": []}
    document = {"session_id": session_id, "custody": "router", "parties": parties}
    headers = [("Content-Type", "application/json")]
    data = request(
        "POST",
        "/v1/sessions",
        gateway.operator_token,
        headers=headers,
        body=json.dumps(document).encode(),
    )
    return (await exchange(gateway.address, data)).status


async def test_after_its_time_nothing_is_opened_and_a_restart_comes_up_all_the_same(
    site: Site, away: tuple[Step, Step]
) -> None:
    leave, come_back = away
    async with site.running() as gateway:
        session = await open_session(gateway, "101")
        urn = (await uploaded(gateway, session.path("t1"), session.user_token, BODY))["urn"]

    async def is_opened(gateway: RunningGateway) -> bool:
        answer = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
        if answer.status != 200:
            answer.problem(503, AWAY)
            return False
        assert BODY == answer.body
        return True

    async with site.running(key_ttl_s=0.6) as gateway:
        assert await eventually(lambda: is_opened(gateway), what="the first answer")
        await leave(site)

        async def is_refused() -> bool:
            return not await is_opened(gateway)

        await eventually(is_refused, what="the end of its time")
        assert {} == gateway.gateway.parts.keyring._held
        assert BODY == await open_sealed(gateway, session, urn)

    async with site.running(key_ttl_s=LONG_S) as gateway:  # it never answered this one
        assert not await is_opened(gateway)
        assert 503 == await seals(gateway, session, "r1")
        assert BODY == await open_sealed(gateway, session, urn)
        shown = request("GET", "/v1/sessions/101", session.user_token)
        (await exchange(gateway.address, shown)).problem(503, AWAY)
        await come_back(site)
        await eventually(lambda: is_opened(gateway), what="the answer that heals")
        await until_seals(gateway, session, Tasks(), status=201)
        assert 200 == (await exchange(gateway.address, shown)).status


async def test_where_it_is_so_configured_uploads_go_on(site: Site) -> None:
    async with site.running(key_provider_away="seal") as gateway:
        session = await open_session(gateway, "101")
        await kill(site)

        async def is_stale() -> bool:
            return (gateway.gateway.parts.keyring.state().age_s or 0) > 0.6

        await eventually(is_stale)
        assert 201 == await seals(gateway, session, "t1")


async def test_a_download_that_began_goes_on(site: Site) -> None:
    body = made_bytes(8 * LEAF)
    async with site.running(key_ttl_s=0.6, read_memory_bytes=4 << 20) as gateway:
        session = await open_session(gateway, "101")
        urn = (await uploaded(gateway, session.path("t1"), session.user_token, body))["urn"]
        pieces = gateway.gateway.services.reads.plaintext(urn.rsplit(":", 1)[1])
        got = bytearray(await anext(pieces))
        await kill(site)

        async def is_gone() -> bool:
            return not gateway.gateway.parts.keyring.state().opens

        await eventually(is_gone)
        async for piece in pieces:
            got += piece

    assert body == bytes(got)


async def test_only_the_very_first_start_needs_it(site: Site) -> None:
    await kill(site)
    with pytest.raises(ConfigError, match="first start needs the key provider"):
        async with site.running():
            pass
    await start(site)

    async with site.running() as gateway:
        session = await open_session(gateway, "101")
        await uploaded(gateway, session.path("t1"), session.user_token, BODY)
    assert not (site.folder / "data" / IDENTITY_FILE).exists()
    assert (site.folder / "data" / COPIES_FILE).exists()


async def test_a_restart_that_is_broken_off_while_it_hangs_ends_in_time(site: Site) -> None:
    async with site.running():
        pass
    await hang(site)
    async with asyncio.timeout(20):
        for _ in range(3):
            async with site.running(key_timeout_s=0.2):
                pass


async def test_commands_say_that_it_is_away_and_work_when_it_is_back(site: Site) -> None:
    async with site.running(header_copies=2) as gateway:  # the copy is there with the answer
        session = await open_session(gateway, "101")
        urn = (await uploaded(gateway, session.path("t1"), session.user_token, BODY))["urn"]
    data_dir = gateway.data_dir
    environment = {
        f"GATEWAY_{name.upper()}": str(setting)
        for name, setting in site.settings.items()
        if name.startswith("key_")
    }
    await kill(site)
    done = await command_beside("check", "--data-dir", data_dir, environment=environment)
    assert (1, True) == (done.status, "key provider" in done.err), done

    await start(site)
    done = await command_beside("check", "--data-dir", data_dir, environment=environment)
    assert (0, True) == (done.status, b"1 objects" in done.out), done
    await asyncio.to_thread(lose_catalog, data_dir)
    command = ("catalog", "rebuild", "--data-dir", data_dir)
    done = await command_beside(*command, environment=environment)
    assert 0 == done.status, done
    async with site.running() as gateway:
        token = await new_token(gateway)
        opened = await fetch(gateway, urn, token, headers=[PLAINTEXT])
        assert (200, BODY) == (opened.status, opened.body)


OTHERS: dict[str, dict[str, object]] = {
    "seed": {"key_provider": "seed", "key_seed": "5eed" * 16},
    "file": {},
}


@pytest.mark.parametrize("kind", OTHERS)
async def test_a_gateway_with_another_provider_does_its_job(tmp_path: Path, kind: str) -> None:
    urns = []
    for number in range(2):
        async with running_gateway(tmp_path, **OTHERS[kind]) as gateway:
            session = await open_session(gateway, f"s{number}")
            token = session.user_token
            document = await uploaded(gateway, session.path("t1"), token, BODY)
            urns.append((document["urn"], token))
            sealed = sealed_by_stock_tool(b"sealed", session.router_recipient)
            assert 201 == (await upload_sealed(gateway, session, "t2", sealed)).status
            for urn, held in urns:
                opened = await fetch(gateway, urn, held, headers=[PLAINTEXT])
                assert (200, BODY) == (opened.status, opened.body)


async def test_what_was_sealed_to_an_older_version_opens_and_new_is_sealed_to_the_newer(
    tmp_path: Path,
) -> None:
    """Also where another process made and activated the newer one."""
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        token = session.user_token
        old = await uploaded(gateway, session.path("t1"), token, BODY)
        elsewhere = identity_file(gateway.data_dir)
        made = await elsewhere.make(CLASSIC)
        await elsewhere.close()
        recipient = str(made.recipient())
        activate = partial(
            add_key, holder=ROUTER_ITSELF, recipient=recipient, key_class=CLASSIC, proven=True
        )
        await gateway.catalog.run(activate)

        async def is_taken() -> bool:
            answer = await upload(gateway, session.path("t2"), token, b"new")
            if answer.status == 201:
                return True
            answer.problem(503, AWAY)
            return False

        await eventually(is_taken)
        opened = await fetch(gateway, old["urn"], token, headers=[PLAINTEXT])
        assert (200, BODY) == (opened.status, opened.body)
        document = await uploaded(gateway, session.path("t3"), token, BODY)
        shown = await fetch(gateway, document["urn"], token, part="/manifest")
        routers = [p["recipient"] for p in shown.json()["wrapped_for"] if p["role"] == "router"]
        assert [recipient] == routers
        opened = await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
        assert (200, BODY) == (opened.status, opened.body)
