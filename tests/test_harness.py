"""Goal: the safety nets of the suite itself hold. Method: do what each forbids, see it refused."""

import asyncio
import base64
import importlib
import logging
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from blockbuster import BlockingError

from crypto import Secret, X25519Identity
from storage_gateway.api.access import Route
from storage_gateway.backends.fs import RealFs
from tests import requirements
from tests.commands import command_beside
from tests.conftest import PACKAGES
from tests.garbage import held_by_cycles, uncollected
from tests.gateway import gateway_process, open_session, running_gateway
from tests.http.raw import exchange, request
from tests.http.steps import upload
from tests.overheard import Overheard


def test_a_connection_to_another_host_is_refused() -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match="loopback only"):
        client.connect(("192.0.2.1", 9))


def test_a_datagram_to_another_host_is_refused() -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as client,
        pytest.raises(RuntimeError, match="loopback only"),
    ):
        client.sendto(b"", ("192.0.2.1", 9))


def test_a_name_is_not_looked_up() -> None:
    with pytest.raises(RuntimeError, match="may not look up"):
        socket.getaddrinfo("gateway.example", 80)


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(("localhost", server.getsockname()[1])) as client:
            client.sendall(b"x")
            accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(1) == b"x"


async def test_blocking_in_our_code_on_the_loop_is_an_error(
    tmp_path: Path, blocked: list[str]
) -> None:
    with pytest.raises(BlockingError):
        RealFs().make_folder(tmp_path / "folder")

    assert ["os.mkdir"] == blocked
    blocked.clear()


async def test_calls_that_the_guard_was_taught_count_too(
    tmp_path: Path, blocked: list[str]
) -> None:
    with pytest.raises(BlockingError, match=r"os\.open"):
        RealFs().create(tmp_path / "file")

    blocked.clear()


KEY = bytes(range(3, 35))
SECRETS = {
    "a token": f"of sg_user_{'abcd234567' * 5}!",
    "an identity": f"made {X25519Identity.generate().to_text().lower()}",
    "a key": f"key={KEY.hex()}",
    "a key ": f"key={KEY[:16].hex().upper()}",
    "a key  ": f"xx/{base64.b64encode(KEY).decode()}",
    "a key   ": f"is-{base64.urlsafe_b64encode(KEY).decode()}",
    "a secret text": "with the passphrase correct horse battery staple",
    "a body": "got b'\\x00\\x01 a body that nobody else reads'",
}


@pytest.mark.parametrize("what", SECRETS)
@pytest.mark.parametrize("field", ["event", "field", "trace"])
def test_a_secret_that_is_logged_is_found(what: str, field: str, said: Overheard) -> None:
    """Also at a level that is not shown."""
    held = Secret(KEY), Secret(b"correct horse battery staple")
    said.text("a body", b"\x00\x01 a body that nobody else reads, whatever it is")
    logger = logging.getLogger("storage_gateway.planted")
    logger.debug("a line before")
    if field == "event":
        logger.debug(SECRETS[what])
    elif field == "field":
        logger.debug("planted", extra={"about": [SECRETS[what]]})
    else:
        try:
            raise ValueError(SECRETS[what])
        except ValueError:
            logger.debug("planted", exc_info=True)
    logger.debug("a line after", extra={"object_id": "abcdefghij234567" * 2, "key": str(held)})

    assert [what.strip()] == [found.partition(",")[0] for found in said.take()]
    assert [] == said.take()


async def test_what_gateways_and_commands_say_is_heard(tmp_path: Path, said: Overheard) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway)
        body = b"a prompt that is not for the log"
        await upload(gateway, session.path("t1"), session.user_token, body)
        logging.getLogger("storage_gateway").info("for %s", session.user_token)
        logging.getLogger("storage_gateway").info(body.decode())
        for key in gateway.gateway.parts.keyring.opening():
            assert isinstance(key, X25519Identity)
            logging.getLogger("aiohttp.server").error("with %s", key.key.expose().hex())
    assert ["a token", "a body", "a key"] == [found.partition(",")[0] for found in said.take()]
    async with gateway_process(tmp_path / "data") as process:
        with process.log.open("a") as log:
            log.write(process.operator_token)
    (found,) = said.take()
    assert found.startswith("a token")
    await command_beside("check", "--data-dir", tmp_path / process.operator_token)
    (found,) = said.take()
    assert found.startswith("a token")


BLOCKING = {
    "a sleep": "import time; time.sleep(0.001)",
    "a file": "with open(PATH, 'rb') as file: file.read()",
    "a database": "with closing(sqlite3.connect(PATH + '.db')) as db: db.execute('SELECT 1')",
}


def planted_in(package: str, source: str, path: Path) -> Callable[[], None]:
    """Return a function that stands in a file of the package, for whoever looks at the stack."""
    file = Path(importlib.import_module(package).__path__[0]) / "planted.py"
    scope: dict[str, Any] = {"PATH": str(path), "closing": closing, "sqlite3": sqlite3}
    exec(compile(f"def planted():\n    {source}\n", str(file), "exec"), scope)  # noqa: S102
    planted: Callable[[], None] = scope["planted"]
    return planted


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("call", BLOCKING)
async def test_every_package_of_ours_is_watched(
    package: str, call: str, tmp_path: Path, blocked: list[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(BlockingError):
        planted_in(package, BLOCKING[call], tmp_path / "file")()

    blocked.clear()


@pytest.mark.parametrize("call", BLOCKING)
async def test_a_handler_that_blocks_is_noted_though_its_error_is_answered(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked: list[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    planted = planted_in("storage_gateway.api", BLOCKING[call], tmp_path / "file")

    async def handler(_request: web.Request) -> web.Response:
        planted()
        return web.Response()

    route = Route("GET", "/planted", None, handler)
    monkeypatch.setattr("storage_gateway.api.application.ROUTES", (route,))
    async with running_gateway(tmp_path) as gateway:
        answer = await exchange(gateway.address, request("GET", "/planted"))

    assert 500 == answer.status
    assert blocked
    blocked.clear()


async def test_the_same_call_in_a_thread_is_right(tmp_path: Path) -> None:
    await asyncio.to_thread(RealFs().make_folder, tmp_path / "folder")

    assert (tmp_path / "folder").is_dir()


def test_no_setting_leaks_in_from_the_environment() -> None:
    leaked = {
        name
        for name in os.environ
        if name.startswith("GATEWAY_") and not name.startswith("GATEWAY_TEST_")
    }

    assert set() == leaked


def test_a_missing_tool_is_a_skip_by_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_TEST_REQUIRE", raising=False)

    with pytest.raises(pytest.skip.Exception, match=r"not tested: .*; to test it: get it"):
        requirements.need("no-such-command", "get it")


def test_a_missing_tool_is_a_failure_where_all_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_TEST_REQUIRE", "all")

    with pytest.raises(pytest.fail.Exception, match=r"not tested: .*; to test it: get it"):
        requirements.need("no-such-command", "get it")


def test_missing_vectors_are_a_skip_even_where_all_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_TEST_REQUIRE", "all")
    monkeypatch.setenv("AGE_VECTORS", str(tmp_path))

    with pytest.raises(pytest.skip.Exception, match="not tested: the public age vectors"):
        requirements.vectors("age")


def test_what_was_there_before_is_no_find_of_the_garbage() -> None:
    before: list[object] = [bytes(5000)]
    before.append(before)

    with uncollected():
        del before
        assert not held_by_cycles(1000)
        since: list[object] = [bytes(5000)]
        since.append(since)
        del since
        assert held_by_cycles(1000) == ["5000 bytes in a list"]
