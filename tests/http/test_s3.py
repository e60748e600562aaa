"""Goal: a few lines of configuration put every payload in a bucket, and the gateway stays right
while the bucket is out of reach, another one, or emptied.

Method: a real gateway over a real S3 server, alone and beside a folder; the server is killed and
started again, and what it holds is looked at and removed below its API.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage_gateway.backends.s3 import S3Store
from storage_gateway.config import ConfigError
from storage_gateway.errors import BackendUnavailable
from tests.gateway import (
    DEADLINE_S,
    OpenSession,
    RunningGateway,
    eventually,
    open_session,
    payload_keys,
    running_gateway,
)
from tests.http.raw import exchange, request
from tests.http.scraping import value
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS
from tests.stress.runs import carried_out, failed

pytestmark = pytest.mark.both_databases

# Soon out of patience, for what is refused and erased; the horizon may not come before that.
PATIENCE = {"attempt_s": 2.0, "deadline_s": 2.0}
HORIZON_S = 2.5
PATIENT: dict[str, object] = {"attempt_s": DEADLINE_S, "deadline_s": DEADLINE_S}
"""For what must be taken before: on a busy machine it may take longer than `PATIENCE`."""


def s3_backend(server: S3Server, bucket: str) -> dict[str, object]:
    return {
        "kind": "s3",
        "name": "bucket",
        "endpoint": server.endpoint,
        "bucket": bucket,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        **PATIENCE,
    }


@pytest.fixture
async def bucket(s3_server: SeaweedFS) -> AsyncIterator[str]:
    made = await asyncio.to_thread(s3_server.new_bucket)
    yield made
    await asyncio.to_thread(s3_server.revive)
    await asyncio.to_thread(s3_server.drop, made)


@asynccontextmanager
async def running(
    path: Path, *backends: dict[str, object], **settings: object
) -> AsyncIterator[tuple[RunningGateway, OpenSession]]:
    """Run it, with the shortest horizon that its backends allow."""
    patient = any(PATIENT.items() <= backend.items() for backend in backends)
    async with running_gateway(
        path,
        backends=list(backends),
        reserve_bytes=0,
        late_write_horizon_s=HORIZON_S + (DEADLINE_S if patient else 0.0),
        **settings,
    ) as gateway:
        yield gateway, await open_session(gateway, f"{random.getrandbits(64)}")


async def keeps_and_erases(folder: Path, backend: dict[str, object]) -> None:
    """Objects are found again by the next process, in so many blobs, and leave none when erased."""
    contents = [made_bytes(size) for size in (0, 1000, 2 * SEGMENT + 1)]
    async with running(folder, backend | PATIENT) as (gateway, session):
        token = session.user_token
        documents = [
            await uploaded(gateway, session.path(f"t{at}"), token, content)
            for at, content in enumerate(contents)
        ]
    async with running(folder, backend | PATIENT) as (gateway, _):
        read = [await fetch(gateway, d["urn"], token, headers=[PLAINTEXT]) for d in documents]
        sealed = await fetch(gateway, documents[2]["urn"], token)
        kept = await payload_keys(gateway.catalog, gateway.gateway.parts.store)
        for document in documents:
            await fetch(gateway, document["urn"], token, method="DELETE")
    async with running(folder, backend) as (gateway, _):

        async def are_erased() -> bool:
            shown = [await fetch(gateway, d["urn"], token, part="/manifest") for d in documents]
            return {"erased"} == {answer.json()["state"] for answer in shown}

        await eventually(are_erased, what="erasing")
        left = await payload_keys(gateway.catalog, gateway.gateway.parts.store)

    assert contents == [answer.body for answer in read]
    assert (200, documents[2]["sealed_size"]) == (sealed.status, len(sealed.body))
    assert 1 + 1 + 3 == len(kept)
    assert [] == left


async def test_payloads_are_in_the_bucket_and_nowhere_else(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    await keeps_and_erases(tmp_path, s3_backend(s3_server, bucket))

    assert not (tmp_path / "data" / "store").exists()


async def test_while_the_bucket_is_out_of_reach_nothing_is_lost_or_called_lost(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    backend = s3_backend(s3_server, bucket)
    async with running(tmp_path, backend | PATIENT) as (gateway, session):
        token = session.user_token
        document = await uploaded(gateway, session.path("t1"), token, b"content")
    async with running(tmp_path, backend) as (gateway, _):
        await asyncio.to_thread(s3_server.kill)
        refused = await upload(gateway, session.path("t2"), token, b"other")
        unread = await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        await asyncio.to_thread(s3_server.start)
        read = await eventually_read(gateway, document["urn"], token)
        await eventually_uploaded(gateway, session, "t2", b"other")

    refused.problem(503, "backend_unavailable")
    unread.problem(503, "backend_unavailable")
    assert 503 == ready.status
    assert "backend_unavailable" == ready.json()["checks"]["store bucket"]
    assert b"content" == read
    for answer in (refused, unread, ready):
        assert s3_server.secret_key.encode() not in answer.body
        assert bucket.encode() not in answer.body, "clients need not know where it lies"


async def eventually_uploaded(
    gateway: RunningGateway, session: OpenSession, task: str, content: bytes
) -> None:
    """The slot is free once what was given up is cleared away."""

    async def is_taken() -> bool:
        answer = await upload(gateway, session.path(task), session.user_token, content)
        assert answer.status in (201, 409, 503)
        return answer.status == 201

    await eventually(is_taken, what="an upload")


async def eventually_read(gateway: RunningGateway, urn: str, token: str) -> bytes:
    """What cannot be read yet is never called lost."""

    async def content() -> bytes:
        answer = await fetch(gateway, urn, token, headers=[PLAINTEXT])
        assert answer.status in (200, 503), answer
        return answer.body if answer.status == 200 else b""

    return await eventually(content, what="a download")


async def test_a_bucket_beside_a_folder(tmp_path: Path, s3_server: SeaweedFS, bucket: str) -> None:
    folder: dict[str, object] = {"kind": "local", "name": "disk", "path": str(tmp_path / "disk")}
    content, backend = made_bytes(SEGMENT + 1), s3_backend(s3_server, bucket)
    async with running(tmp_path, backend | PATIENT, folder, write_quorum=1) as (gateway, session):
        token = session.user_token
        document = await uploaded(gateway, session.path("t1"), token, content)
    async with running(tmp_path, backend, folder, write_quorum=1) as (gateway, _):
        await asyncio.to_thread(s3_server.kill)
        read = await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        other = await uploaded(gateway, session.path("t2"), token, b"other")
        await asyncio.to_thread(s3_server.start)
        again = await fetch(gateway, other["urn"], token, headers=[PLAINTEXT])

    assert content == read.body
    assert (200, "degraded") == (ready.status, ready.json()["status"])
    assert b"other" == again.body


async def test_its_calls_are_told_apart_from_their_retries(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    folder: dict[str, object] = {"kind": "local", "name": "folder", "path": str(tmp_path / "f")}
    bucket_backend = s3_backend(s3_server, bucket)
    async with running(tmp_path, bucket_backend, folder, write_quorum=1) as (gateway, session):
        store = gateway.gateway.parts.members[0].bare
        assert isinstance(store, S3Store)
        await asyncio.to_thread(s3_server.kill)
        await uploaded(gateway, session.path("t1"), session.user_token, b"x")

        async def was_retried() -> bool:
            return store.attempts > store.calls + 1

        await eventually(was_retried, what="a second attempt")
        told = gateway.gateway.metrics.text().decode()
        calls, attempts = (value(told, f"bucket_{what}_total") for what in ("calls", "attempts"))
        assert (store.calls, store.attempts) == (calls, attempts)
        assert calls + 1 < attempts


async def test_a_bucket_that_lost_our_marker_is_not_written_to(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    async with running(tmp_path, s3_backend(s3_server, bucket) | PATIENT) as (gateway, _):
        marker = gateway.gateway.parts.marker
    await asyncio.to_thread(s3_server.remove, bucket, marker)

    with pytest.raises(BackendUnavailable, match=r"lacks the marker .* another bucket, or was"):
        async with running(tmp_path, s3_backend(s3_server, bucket)):
            pass


async def test_a_bucket_of_another_deployment_is_refused(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    async with running(tmp_path / "one", s3_backend(s3_server, bucket) | PATIENT):
        pass

    for name in ("two", "three"):  # whatever comes first in the bucket, by its name
        with pytest.raises(ConfigError, match=rf"bucket {bucket} .* of another deployment"):
            async with running(tmp_path / name, s3_backend(s3_server, bucket)):
                pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bucket": "no-such-bucket"}, "has no such bucket"),
        ({"access_key": "nobody"}, "does not know the access key"),
        ({"secret_key": "wrong"}, "does not accept the signature"),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_bucket_is_said_at_the_start(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(BackendUnavailable, match=said) as caught:
        async with running(tmp_path, s3_backend(s3_server, bucket) | changes):
            pass

    assert s3_server.secret_key not in str(caught.value)


async def test_a_stress_run_works_in_the_bucket_and_leaves_nothing(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    backend = s3_backend(s3_server, bucket)
    async with running(tmp_path, backend, enable_stress=True) as (gateway, _):
        whole = await carried_out(
            gateway, "crash-after-commit", duration_s=1, clients=2, sizes=[1000], seed=1
        )
        left = [blob.key async for blob in gateway.gateway.parts.store.list("")]

    assert ("pass", {}) == (whole["verdict"], failed(whole))
    assert not [key for key in left if "stress-" in key]
