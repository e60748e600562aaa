"""Goal: whatever an S3 server says, or leaves unsaid, has one meaning for the caller, and a server
in trouble is not asked more than it helps. Method: a server that says what the test wrote.
"""

import asyncio
import gc
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crypto import Secret
from storage_gateway.backends import Range
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_client import (
    ATTEMPTS_MAX,
    RETRIES_SAVED_MAX,
    Request,
    S3Client,
    S3Settings,
)
from storage_gateway.backends.s3_signature import UNSIGNED_PAYLOAD, Credentials
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull
from tests.certificates import certificate
from tests.servers.scripted import HANG, Received, Say, Script, Scripted, scripted

from .s3 import MARKER, now

KEY = "d/main/payloads/p/0"
SPOOL = Path("/not/there")
"""Nothing here is so large that it is spooled."""
SECRET = "the-secret-key"
TOKEN = "the-session-token"

DONE = Say(200)
PARTIAL = Say(206, b"abc", {"Content-Range": "bytes 2-4/10"})


def error(status: int, code: str = "", message: str = "") -> Say:
    document = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Say(status, document.encode() if code else b"")


def settings(endpoint: str, **changes: Any) -> S3Settings:  # noqa: ANN401 - its fields
    chosen = S3Settings(
        name="s3",
        endpoint=endpoint,
        region="r",
        bucket="b",
        credentials=Credentials(
            access_key="key",
            secret_key=Secret(SECRET.encode()),
            session_token=Secret(TOKEN.encode()),
        ),
        deadline_s=5.0,
        attempt_s=2.0,
    )
    return replace(chosen, **changes)


@asynccontextmanager
async def store_over(
    script: Script, *, marker: bool = True, **changes: float
) -> AsyncIterator[tuple[S3Store, Scripted]]:
    """Open a store over a server; unless said otherwise its marker is there."""

    def with_marker(request: Received) -> Say | None:
        if marker and request.method == "GET" and request.target == f"/b/{MARKER}":
            return DONE
        return script(request)

    async with scripted(with_marker) as server:
        store = S3Store(settings(server.endpoint, **changes), marker=MARKER, spool=SPOOL, clock=now)
        try:
            yield store, server
        finally:
            await store.close()


def asked(server: Scripted) -> list[str]:
    """Return the methods of the requests that were not for the marker."""
    return [r.method for r in server.received if not r.target.endswith(MARKER)]


def in_turn(*says: Say | None) -> Script:
    """Say one after the other, the last one again and again."""

    def turns() -> Iterator[Say | None]:
        yield from says
        while True:
            yield says[-1]

    saying = turns()
    return lambda _: next(saying)


@pytest.mark.parametrize(
    ("say", "raised", "attempts"),
    [
        (error(404, "NoSuchKey"), BlobMissing, 1),
        (error(404, "NoSuchBucket"), BackendUnavailable, 1),
        (Say(404, b"<html>not found</html>"), BackendUnavailable, 1),
        (error(404), BackendUnavailable, 1),
        (error(403, "AccessDenied"), BackendUnavailable, 1),
        (error(403, "SignatureDoesNotMatch"), BackendUnavailable, 1),
        (error(400, "ExpiredToken"), BackendUnavailable, 1),
        (error(412, "PreconditionFailed"), BackendUnavailable, 1),
        (Say(301, b"", {"Location": "http://127.0.0.1:1/"}), BackendUnavailable, 1),
        (error(507), StorageFull, 1),
        (error(403, "QuotaExceeded"), StorageFull, 1),
        (error(409, "OperationAborted"), BackendUnavailable, ATTEMPTS_MAX),
        (error(429), BackendUnavailable, ATTEMPTS_MAX),
        (error(500, "InternalError"), BackendUnavailable, ATTEMPTS_MAX),
        (error(503, "SlowDown"), BackendUnavailable, ATTEMPTS_MAX),
        (Say(206, b"ab", {"Content-Range": "bytes 2-4/10"}, 3), BackendUnavailable, ATTEMPTS_MAX),
        (Say(206, b"ab", {"Content-Range": "bytes 2-4/10"}), BackendUnavailable, 1),
        (Say(206, b"abc", {"Content-Range": "bytes 1-3/10"}), BackendUnavailable, 1),
        (Say(206, b"abc"), BackendUnavailable, 1),
        (Say(206, b"abcd", {"Content-Range": "bytes 2-5/10"}), BackendUnavailable, 1),
        (Say(200, b"0123456789"), BackendUnavailable, 1),
        (Say(206, b"ab", {"Content-Range": "bytes 2-3/4"}), BlobCorrupt, 1),
    ],
)
async def test_an_answer_to_a_read_has_one_meaning(
    say: Say, raised: type[Exception], attempts: int
) -> None:
    async with store_over(lambda _: say) as (store, server):
        with pytest.raises(raised) as caught:
            await store.get(KEY, 2, 3)

        assert raised is type(caught.value)
        assert ["GET"] * attempts == asked(server)
        assert raised is not BackendUnavailable or str(caught.value).startswith("store s3 ")
        assert server.endpoint not in str(caught.value), "clients need not know where it lies"


@pytest.mark.parametrize(
    ("say", "raised"),
    [
        (error(404, "NoSuchBucket"), BackendUnavailable),
        (error(403, "AccessDenied"), BackendUnavailable),
        (error(507, "XMinioStorageFull"), StorageFull),
        (error(503, "SlowDown"), BackendUnavailable),
        (HANG, BackendUnavailable),
    ],
)
async def test_an_answer_to_a_put_has_one_meaning(say: Say | None, raised: type[Exception]) -> None:
    async with store_over(lambda _: say, deadline_s=0.5) as (store, _):
        writer = store.create(KEY)
        await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
        for use in (store.put(KEY, b"x"), writer.finish()):
            with pytest.raises(raised) as caught:
                await use
            assert raised is type(caught.value)


async def test_an_answer_without_end_is_not_read_to_it() -> None:
    endless = Say(200, bytes(100_000), length=1 << 40)
    async with store_over(lambda _: endless) as (store, _):
        for use in (store.get(KEY, 0, 9), store.stat(KEY)):
            with pytest.raises(BackendUnavailable, match="more than it was asked for"):
                await use


async def test_a_long_answer_of_trouble_is_trouble_all_the_same() -> None:
    page = Say(503, b"<html>" * 20_000)
    async with store_over(in_turn(page, DONE)) as (store, server):
        await store.put(KEY, b"x")

        assert ["PUT", "PUT"] == asked(server)


async def test_a_bucket_that_is_elsewhere_is_told_so() -> None:
    moved = error(301, "PermanentRedirect")
    async with store_over(lambda _: moved) as (store, _):
        with pytest.raises(BackendUnavailable, match="are endpoint and region right"):
            await store.get(KEY, 0, 1)


@pytest.mark.parametrize("closed_first", [True, False])
async def test_a_marker_that_nobody_waits_for_any_more_leaves_nothing(
    closed_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    script = in_turn(error(404, "NoSuchKey"), HANG)
    async with store_over(script, marker=False, deadline_s=0.5) as (store, server):
        reading = asyncio.create_task(store.get(KEY, 0, 1))
        while len(server.received) < 2:
            await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        marker_read = store._marker_read
        assert marker_read is not None
        if not closed_first:
            await asyncio.wait([marker_read])
    assert marker_read.done()
    del marker_read, store, reading
    gc.collect()

    assert [] == caplog.records


async def test_a_blob_is_missing_only_where_the_marker_is_not() -> None:
    missing = error(404, "NoSuchKey")
    for marker in (missing, error(503), error(403, "AccessDenied"), Say(404, b"<html>")):
        script = in_turn(missing, marker)
        async with store_over(script, marker=False) as (store, _):
            with pytest.raises(BackendUnavailable):
                await store.get(KEY, 0, 1)


async def test_the_marker_is_asked_for_once_by_all_that_wait_for_it() -> None:
    async with store_over(lambda _: error(404, "NoSuchKey")) as (store, server):
        found = await asyncio.gather(
            *(store.get(KEY, 0, 1) for _ in range(20)), return_exceptions=True
        )

        assert {BlobMissing} == {type(one) for one in found}
        assert 1 == len(server.received) - len(asked(server))


async def test_neighbours_are_fetched_by_one_request() -> None:
    say = Say(206, b"abcdef", {"Content-Range": "bytes 2-7/10"})
    ranges = [Range(KEY, 2, 3), Range(KEY, 5, 2), Range(KEY, 7, 1)]
    async with store_over(lambda _: say) as (store, server):
        with ThreadPoolExecutor(1) as threads:
            found = await store.fetch(ranges, lambda at, data: (at, data), threads)

        assert [(0, b"abc"), (1, b"de"), (2, b"f")] == found
        assert ["bytes=2-7"] == [request.headers["range"] for request in server.received]


async def test_what_fails_for_a_moment_is_tried_again_with_the_whole_body() -> None:
    body = bytes(range(256)) * 4096
    cut_off = Say(200, b"", {}, 5)
    async with store_over(in_turn(error(503), cut_off, error(500), DONE)) as (store, server):
        await store.put(KEY, body)

        puts = [request for request in server.received if request.method == "PUT"]
        assert [body] * 4 == [put.body for put in puts]


async def test_one_deadline_holds_for_a_put_and_the_reading_of_the_marker() -> None:
    """What was given up may not arrive later than that."""
    marker = in_turn(HANG, DONE)

    def script(request: Received) -> Say | None:
        return marker(request) if request.target == f"/b/{MARKER}" else HANG

    async with store_over(script, marker=False, deadline_s=2.0, attempt_s=1.6) as (store, server):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="within 2 seconds"):
            await store.put(KEY, b"x")
        took_s = time.monotonic() - began

    assert ["PUT"] == asked(server)
    assert took_s < 1.6 + 2.0, "the marker's attempt, and the deadline once more"


async def test_an_attempt_that_hangs_is_followed_by_another() -> None:
    async with store_over(in_turn(HANG, DONE), attempt_s=0.2) as (store, server):
        await store.put(KEY, b"x")

        assert ["PUT", "PUT"] == asked(server)


async def test_retries_are_a_tenth_of_the_traffic() -> None:
    calls = 60
    async with store_over(lambda _: error(503)) as (store, server):
        for _ in range(calls):
            with pytest.raises(BackendUnavailable):
                await store.get(KEY, 0, 1)

        retries = len(asked(server)) - calls
        assert RETRIES_SAVED_MAX <= retries <= RETRIES_SAVED_MAX + calls / 10
        assert (calls, calls + retries) == (store.calls, store.attempts)


@pytest.mark.parametrize("kept", [True, False], ids=["a kept connection", "a new one"])
@pytest.mark.parametrize(
    "asks", [Request(method="GET"), Request(method="PUT", body=b"x"), Request(method="DELETE")]
)
async def test_a_connection_that_breaks_before_the_answer_is_one_attempt(
    asks: Request, kept: bool
) -> None:
    """Nobody below us sends a request again: it would be more than the allowance lets through."""

    def script(received: Received) -> Say:
        if received.target.endswith(KEY):
            raise ConnectionError
        return DONE

    async with scripted(script) as server:
        client = S3Client(settings(server.endpoint), clock=now)
        try:
            if kept:
                await client.call(Request(method="GET"))
            first = client.attempts
            with pytest.raises(BackendUnavailable, match="broke the connection off"):
                await client.call(replace(asks, key=KEY))
        finally:
            await client.close()

        assert [asks.method] * ATTEMPTS_MAX == [r.method for r in server.received[first:]]
        assert (first + 1, first + ATTEMPTS_MAX) == (client.calls, client.attempts)


@pytest.mark.parametrize(
    "script",
    [
        lambda _: HANG,
        in_turn(error(503), HANG),
        lambda _: Say(206, b"ab", {"Content-Range": "bytes 2-4/10"}, 3),
    ],
    ids=["hangs", "fails, then hangs", "breaks off"],
)
async def test_every_call_ends_by_its_deadline(script: Script) -> None:
    async with (
        store_over(script, deadline_s=0.3, idle_s=0.1) as (store, _),
        asyncio.timeout(10),
    ):
        with pytest.raises(BackendUnavailable):
            await store.get(KEY, 2, 3)


async def test_nobody_there_is_unavailable() -> None:
    async with store_over(lambda _: DONE) as (store, _):
        pass
    gone = S3Store(store.settings, marker=MARKER, spool=SPOOL, clock=now)
    try:
        with pytest.raises(BackendUnavailable, match="ECONNREFUSED"):
            await gone.get(KEY, 0, 1)
    finally:
        await gone.close()


async def test_a_connection_that_the_server_closed_meanwhile_is_no_fault() -> None:
    async with store_over(lambda _: Say(200, closes=True)) as (store, server):
        for _ in range(5):
            await store.put(KEY, b"abc")

        assert [b"abc"] * 5 == [r.body for r in server.received if r.method == "PUT"]


USES: list[Callable[[S3Store], Awaitable[object]]] = [
    lambda store: store.get(KEY, 0, 1),
    lambda store: store.put(KEY, b"x"),
    lambda store: store.delete(KEY),
    lambda store: anext(store.list("d/")),
]


@pytest.mark.parametrize("status", [400, 403, 404, 503])
async def test_no_secret_is_in_an_error_a_log_or_a_repr(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = error(status, "SignatureDoesNotMatch", f"you signed with {SECRET} {TOKEN}")
    async with store_over(lambda _: echo) as (store, _):
        shown = [repr(store.settings), repr(store)]
        for use in USES:
            with pytest.raises(BackendUnavailable) as caught:
                await use(store)
            shown += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    shown.append(caplog.text)

    assert [] == [text for text in shown if SECRET in text or TOKEN in text]


async def test_bodies_are_signed_unless_tls_protects_them(tmp_path: Path) -> None:
    certificate_file, key_file = certificate(tmp_path, "127.0.0.1")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate_file, key_file)
    trusting = ssl.create_default_context(cafile=str(certificate_file))
    async with scripted(lambda _: DONE, tls=serving) as server:
        trusted = S3Store(
            settings(server.endpoint), marker=MARKER, spool=SPOOL, clock=now, tls=trusting
        )
        distrusted = S3Store(settings(server.endpoint), marker=MARKER, spool=SPOOL, clock=now)
        try:
            await trusted.put(KEY, b"x")
            with pytest.raises(BackendUnavailable, match="certificate"):
                await distrusted.put(KEY, b"x")
        finally:
            await trusted.close()
            await distrusted.close()
        assert UNSIGNED_PAYLOAD == server.received[-1].headers["x-amz-content-sha256"]
        assert TOKEN == server.received[-1].headers["x-amz-security-token"]
    async with store_over(lambda _: DONE) as (store, server):
        await store.put(KEY, b"x")
        assert 64 == len(server.received[-1].headers["x-amz-content-sha256"])
