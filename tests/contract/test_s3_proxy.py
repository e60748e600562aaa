"""Goal: a bucket is asked through its proxy when it has one, through none that it does not have,
and nobody but the proxy learns the password for it.

Method: a scripted server as the proxy, before an endpoint where nobody is; for TLS a proxy that
tunnels to a scripted server. What came where is compared, and everything shown is searched.
"""

import asyncio
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from crypto import Secret
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_client import ATTEMPTS_MAX, Proxy
from storage_gateway.errors import BackendUnavailable
from tests.certificates import certificate
from tests.servers.scripted import Received, Say, scripted

from .s3 import MARKER, now
from .test_s3_faults import DONE, KEY, SPOOL, settings

NOBODY = "http://127.0.0.1:1"
LOGIN = Secret(b"gatekeeper:open-sesame")
BASIC = "Basic Z2F0ZWtlZXBlcjpvcGVuLXNlc2FtZQ=="
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@asynccontextmanager
async def store_through(
    endpoint: str, proxy: Proxy | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[S3Store]:
    chosen = replace(settings(endpoint), proxy=proxy)
    store = S3Store(chosen, marker=MARKER, spool=SPOOL, clock=now, tls=tls)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def served(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server shows, and who trusts it."""
    certificate_file, key_file = certificate(tmp_path, "127.0.0.1")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate_file, key_file)
    return serving, ssl.create_default_context(cafile=str(certificate_file))


@asynccontextmanager
async def tunnels(
    answer: bytes = b"200 Go", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """Run a proxy that knows CONNECT only; yield its URL and the heads of what it was asked."""
    asked: list[list[str]] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().strip().splitlines())
        writer.write(b"HTTP/1.1 " + answer + b"\r\n\r\n")
        if not answer.startswith(b"200"):
            writer.close()
            return
        host, _, port = asked[-1][0].split(" ")[1].partition(":")
        there = await asyncio.open_connection(host, int(port))
        ways = pipe(reader, there[1]), pipe(there[0], writer)
        await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}", asked
    finally:
        server.close()


@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "login"])
async def test_what_is_asked_without_tls_goes_to_the_proxy_as_it_is(login: Secret | None) -> None:
    body = bytes(range(256)) * 4096
    async with (
        scripted(lambda _: DONE) as proxy,
        store_through(NOBODY, Proxy(proxy.endpoint, login)) as store,
    ):
        await store.put(KEY, body)

    put = next(request for request in proxy.received if request.method == "PUT")
    assert (f"{NOBODY}/b/{KEY}", body) == (put.target, put.body)
    assert "127.0.0.1:1" == put.headers["host"], "it is what was signed"
    said = {request.headers.get("proxy-authorization") for request in proxy.received}
    assert {BASIC if login else None} == said


@pytest.mark.parametrize("proxy_speaks_tls", [False, True])
async def test_what_tls_protects_goes_through_a_tunnel(
    served: tuple[ssl.SSLContext, ssl.SSLContext], *, proxy_speaks_tls: bool
) -> None:
    serving, trusting = served
    async with (
        scripted(lambda _: DONE, tls=serving) as server,
        tunnels(tls=serving if proxy_speaks_tls else None) as (url, asked),
        store_through(server.endpoint, Proxy(url, LOGIN), trusting) as store,
    ):
        await store.put(KEY, b"x")
        await store.put(KEY, b"y")

    there = server.endpoint.removeprefix("https://")
    assert [f"CONNECT {there} HTTP/1.1"] == [head[0] for head in asked], "it is kept"
    assert f"Proxy-Authorization: {BASIC}" in asked[0]
    assert [b"x", b"y"] == [r.body for r in server.received if r.method == "PUT"]
    assert {f"/b/{KEY}", f"/b/{MARKER}"} >= {request.target for request in server.received}
    assert not any("proxy-authorization" in request.headers for request in server.received)


async def test_a_proxy_that_only_the_environment_names_is_not_used(
    served: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, trusting = served
    async with (
        scripted(lambda _: DONE) as proxy,
        scripted(lambda _: DONE) as plain,
        scripted(lambda _: DONE, tls=serving) as secure,
    ):
        for variable in VARIABLES:
            monkeypatch.setenv(variable, proxy.endpoint)
        for server in (plain, secure):
            async with store_through(server.endpoint, None, trusting) as store:
                await store.put(KEY, b"x")

    assert [] == proxy.received
    assert all(server.received for server in (plain, secure))


async def test_the_environment_excepts_nothing_from_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    async with (
        scripted(lambda _: DONE) as proxy,
        store_through(NOBODY, Proxy(proxy.endpoint)) as store,
    ):
        await store.put(KEY, b"x")

    assert proxy.received


async def test_a_proxy_that_is_not_there_is_told_as_such() -> None:
    async with store_through("https://127.0.0.1:2", Proxy(NOBODY)) as store:
        with pytest.raises(BackendUnavailable, match=r"through its proxy \(ECONNREFUSED\)"):
            await store.get(KEY, 0, 1)


@pytest.mark.parametrize(
    ("status", "attempts"),
    [(b"407 Who", 1), (b"403 No", 1), (b"502 Where", ATTEMPTS_MAX), (b"503 Later", ATTEMPTS_MAX)],
    ids=str,
)
async def test_a_proxy_that_refuses_is_told_as_such(status: bytes, attempts: int) -> None:
    async with (
        tunnels(status) as (url, asked),
        store_through("https://127.0.0.1:2", Proxy(url, LOGIN)) as store,
    ):
        with pytest.raises(BackendUnavailable, match=f"its proxy answered {status[:3].decode()}"):
            await store.get(KEY, 0, 1)

    assert attempts == len(asked)


def says(answer: Say) -> Callable[[Received], Say]:
    return lambda _: answer


async def test_the_proxys_password_is_in_no_error_log_or_repr(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = Say(407, f"you said {BASIC}".encode())
    shown: list[str] = []
    async with tunnels(b"407 Who") as (tunnel, _), scripted(says(echo)) as plain:
        for endpoint, url in (("https://127.0.0.1:2", tunnel), (NOBODY, plain.endpoint)):
            async with store_through(endpoint, Proxy(url, LOGIN)) as store:
                shown += [repr(store.settings), repr(store), repr(Proxy(url, LOGIN))]
                with pytest.raises(BackendUnavailable) as caught:
                    await store.get(KEY, 0, 1)
                shown += traceback.format_exception(caught.value)
                shown.append(repr(caught.value))
    shown.append(caplog.text)

    secrets = ("open-sesame", BASIC.removeprefix("Basic "))
    assert [] == [text for text in shown for secret in secrets if secret in text]
