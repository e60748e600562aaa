"""Goal: what the admin port tells is right, complete, documented, and says nothing of anybody.

Method: a real gateway over two folders; what happened to it is known, and is looked for in what a
parser that is not ours reads.
"""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from storage_gateway.config import ConfigError, load_config
from storage_gateway.metrics import PREFIX
from tests.gateway import REPOSITORY, RunningGateway, eventually, open_session, running_gateway
from tests.http.age_files import flipped
from tests.http.raw import connected, exchange, request
from tests.http.scraping import NAMES, ended, families_of, scraped, settings, statuses, value
from tests.http.steps import LEAF, PLAINTEXT, fetch, made_bytes, upload, uploaded

SIZE = 100_000
COPIES = 10_000
"""More than the copies of the manifest, and marks, make."""


def blobs_of(folder: Path) -> list[Path]:
    """Return the files of the payloads in a store's folder."""
    return [file for file in folder.glob("*/*/payloads/*/*") if file.is_file()]


async def test_what_happened_is_counted(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, **settings(tmp_path)) as gateway:
        session = await open_session(gateway, "metered")
        token = session.user_token

        async def passed() -> bool:
            return gateway.gateway.recovery.newest is not None

        document = await uploaded(gateway, session.path("t1"), token, made_bytes(SIZE))
        await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
        await upload(gateway, session.path("t1"), token, b"a slot that is taken")
        await exchange(gateway.address, request("GET", "/no/such/path"))
        await eventually(passed)
        text = await scraped(gateway)

    for store in NAMES:
        assert 1 == value(
            text, "store_operation_seconds_count", store=store, operation="write", outcome="ok"
        )
        assert (
            SIZE < value(text, "store_bytes_total", store=store, direction="sent") < SIZE + COPIES
        )
        assert 1 == value(text, "store_ready", store=store)
        assert 0 == value(text, "store_resting", store=store)
    assert SIZE < value(text, "store_bytes_total", direction="received") < SIZE + COPIES
    route = "/v1/sessions/{session}/tasks/{task}/input"
    for status, count in (("201", 1), ("409", 1)):
        assert count == value(text, "request_seconds_count", route=route, status=status)
    assert 1 == value(text, "request_seconds_count", route="none", status="404")
    assert 1 <= value(text, "recovery_passes_total")


async def test_a_store_that_fails_is_seen(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, **settings(tmp_path)) as gateway:
        session = await open_session(gateway, "metered")
        token = session.user_token
        document = await uploaded(gateway, session.path("t0"), token, b"x")
        (tmp_path / "two").rename(tmp_path / "away")
        for task in ("t1", "t2", "t3", "t4"):
            await uploaded(gateway, session.path(task), token, b"x")
        text = await scraped(gateway)
        (tmp_path / "one").rename(tmp_path / "away-too")
        read = await fetch(gateway, document["urn"], token)
        erased = await fetch(gateway, document["urn"], token, method="DELETE")
        later = await scraped(gateway)
        for away, name in (("away", "two"), ("away-too", "one")):
            (tmp_path / away).rename(tmp_path / name)

    assert (503, 202) == (read.status, erased.status)
    assert 3 <= ended(text, "write", "backend_unavailable", store="two")
    assert 1 == ended(text, "write", "ok", store="two")
    assert 1 == value(text, "store_resting", store="two", operation="write")
    assert 0 == value(text, "store_resting", store="one")
    for store in NAMES:
        assert 0 == ended(text, "read", "backend_unavailable", store=store)
        for operation in ("read", "list", "delete"):
            assert 1 <= ended(later, operation, "backend_unavailable", store=store), operation
        for operation in ("read", "delete"):
            assert 0 == ended(later, operation, "ok", store=store), operation


async def broken_off(gateway: RunningGateway, urn: str, token: str) -> None:
    """Damage the object's last byte, in every store, and ask for it."""
    files = [file for member in NAMES for file in blobs_of(gateway.data_dir.parent / member)]
    assert len(NAMES) == len(files)
    for file in files:
        file.write_bytes(flipped(file.read_bytes(), -1))
    answer = await fetch(gateway, urn, token)
    assert (200, False) == (answer.status, answer.whole)


async def left(gateway: RunningGateway, urn: str, token: str) -> None:
    """Ask for it, and be gone once the answer has begun."""
    async with connected(gateway.address) as connection:
        await connection.send(request("GET", f"/v1/objects/{urn}", token))
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.abort()


async def left_by_the_gateway(gateway: RunningGateway, urn: str, token: str) -> None:
    """Ask for it, read its beginning, and have the gateway stop."""
    async with connected(gateway.address) as connection:
        await connection.send(request("GET", f"/v1/objects/{urn}", token))
        await connection.reader.readuntil(b"\r\n\r\n")
        await gateway.gateway.stop()


@pytest.mark.parametrize(
    ("leaves", "end"), [(6, broken_off), (40, left), (40, left_by_the_gateway)]
)
async def test_what_is_cut_off_after_its_first_byte_is_counted_as_that(
    tmp_path: Path, leaves: int, end: Callable[[RunningGateway, str, str], Awaitable[None]]
) -> None:
    """No kernel holds forty leaves for a reader that does not read."""
    async with running_gateway(tmp_path, **settings(tmp_path), drain_s=0.01) as gateway:
        session = await open_session(gateway, "metered")
        token = session.user_token
        document = await uploaded(gateway, session.path("t1"), token, made_bytes(leaves * LEAF))
        await end(gateway, document["urn"], token)

        async def told() -> dict[str, float]:
            text = gateway.gateway.metrics.text().decode()
            return statuses(text, route="/v1/objects/{urn}")

        counted = await eventually(told, what="a request that has ended")

    assert {"cut_off": 1} == counted


async def test_nothing_in_it_is_anybodys(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, **settings(tmp_path)) as gateway:
        session = await open_session(gateway, "a.private.session")
        token = session.user_token
        document = await uploaded(gateway, session.path("private.task"), token, b"x")
        await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
        await exchange(gateway.address, request("GET", "/what.a.stranger.wrote", "a.wrong.token"))
        await exchange(gateway.address, request("PROPFIND", "/healthz"))
        text = await scraped(gateway)

    assert value(text, "request_seconds_count") >= 3
    assert 1 == value(text, "request_seconds_count", method="other", status="405")
    private = [token, gateway.operator_token, document["urn"], document["cid"], session.session_id]
    private += [document["urn"].rpartition(":")[2], "private.task", "stranger", "PROPFIND", "wrong"]
    assert [] == [secret for secret in [*private, str(tmp_path)] if secret in text]


async def test_every_metric_is_documented_and_nothing_else(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, **settings(tmp_path)) as gateway:
        text = await scraped(gateway)

    told = {
        family.name: family.type
        for family in families_of(text)
        if not family.name.endswith("_created")  # of a histogram: when it began
    }
    page = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = re.findall(rf"^\| `({PREFIX}\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert dict(documented) == {
        name + "_total" * (kind == "counter"): kind for name, kind in told.items()
    }


async def test_without_a_port_nothing_is_told_and_never_on_the_main_one(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        answer = await exchange(gateway.address, request("GET", "/metrics"))

    assert gateway.gateway.admin_url is None
    assert 404 == answer.status


async def test_the_admin_port_tells_of_health_and_takes_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, **settings(tmp_path)) as gateway:
        await scraped(gateway)
        url = gateway.gateway.admin_url or ""
        host, _, port = url.removeprefix("http://").partition(":")
        statuses = {
            path: (await exchange((host, int(port)), request("GET", path))).status
            for path in ("/healthz", "/readyz", "/v1/stress")
        }
        posted = await exchange((host, int(port)), request("POST", "/metrics", body=b"x"))

    assert {"/healthz": 200, "/readyz": 200, "/v1/stress": 404} == statuses
    assert 405 == posted.status


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"admin_port": 65_535, "workers": 2}, "ports up to 65536"),
        ({"admin_port": 8420, "port": 8420}, "is the one that requests come to"),
        ({"admin_port": 8420, "port": 8421, "workers": 2}, "is the one that requests come to"),
    ],
)
def test_ports_that_cannot_be_are_refused(
    tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config(file=None, environment={}, options={"data_dir": tmp_path} | options)


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "a", **settings(tmp_path / "a")) as gateway:
        port = int((gateway.gateway.admin_url or "").rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"cannot listen on admin_port {port}"):
            async with running_gateway(tmp_path / "b", admin_port=port):
                pass
