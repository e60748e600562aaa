"""S3 stores over the tests' own server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crypto import Secret
from storage_gateway.backends.probe_report import ProbeReport
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_answers import Versioning
from storage_gateway.backends.s3_client import Request, S3Client, S3Settings
from storage_gateway.backends.s3_signature import Credentials
from storage_gateway.backends.scratch import Scratch
from storage_gateway.errors import BackendUnavailable
from tests.gateway import eventually
from tests.servers.s3 import S3Server

MARKER = "deployment-marker"
KEY = "d/main/payloads/p/0"


def now() -> datetime:
    return datetime.now(UTC)


def s3_settings(server: S3Server, bucket: str, **changes: Any) -> S3Settings:  # noqa: ANN401 - its fields
    """Return settings of a bucket of the server; soon out of patience, as it is on this machine."""
    settings = S3Settings(
        name="s3",
        endpoint=server.endpoint,
        region="us-east-1",
        bucket=bucket,
        credentials=Credentials(
            access_key=server.access_key, secret_key=Secret(server.secret_key.encode())
        ),
        deadline_s=20.0,
    )
    return replace(settings, **changes)


def settings_file(folder: Path, server: S3Server, bucket: str) -> Path:
    """Write a configuration with one bucket, its secret in a file beside it; return its path."""
    secret, file = folder / "secret", folder / "gateway.toml"
    secret.write_text(server.secret_key)
    secret.chmod(0o600)
    backend = {
        "kind": "s3",
        "name": "bucket",
        "endpoint": server.endpoint,
        "bucket": bucket,
        "access_key": server.access_key,
        "secret_key_file": str(secret),
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in backend.items()]
    file.write_text("\n".join(["[[backends]]", *lines, ""]))
    return file


@asynccontextmanager
async def s3_store(server: S3Server, spool: Path, **changes: float) -> AsyncIterator[S3Store]:
    """Open a store over a new bucket that carries its marker."""
    bucket = await asyncio.to_thread(server.new_bucket)
    settings = s3_settings(server, bucket, **changes)
    store = S3Store(settings, marker=MARKER, spool=spool, clock=now)
    try:
        await store.put(MARKER, b"marker")
        yield store
    finally:
        await store.close()
        await asyncio.to_thread(server.revive)
        await asyncio.to_thread(server.drop, bucket)


@asynccontextmanager
async def impatient(patient: S3Store, spool: Path, *, deadline_s: float) -> AsyncIterator[S3Store]:
    """Open a second store over the bucket of one, for calls that shall be given up soon.

    What must succeed is for the first: a busy machine may take longer than ``deadline_s`` for it.
    """
    settings = replace(patient.settings, deadline_s=deadline_s)
    store = S3Store(settings, marker=MARKER, spool=spool, clock=now)

    async def knows_the_marker() -> bool:
        with suppress(BackendUnavailable):
            return [] == [blob async for blob in store.list("none/")]
        return False

    try:
        # Else each call would ask for it first.
        await eventually(knows_the_marker, what="a look at the marker")
        yield store
    finally:
        await store.close()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of the server, and a client of it."""

    server: S3Server
    name: str
    client: S3Client

    async def set(self, what: str, document: str) -> None:
        await self.client.call(Request(method="PUT", query={what: ""}, body=document.encode()))

    async def contents(self, *, marks: bool = True) -> list[str]:
        """Return the keys of all that is kept in it: objects, versions, marks of deletion."""
        scratch = Scratch(self.client, "")
        listed = await scratch.list("", page_max=1000)
        versions = await scratch.versions()
        assert listed is not None
        assert versions is not None
        kept = [version.key for version in versions if marks or not version.is_marker]
        return [blob.key for blob in listed] + kept


@asynccontextmanager
async def new_bucket(server: S3Server) -> AsyncIterator[Bucket]:
    """Make a bucket; remove it at the end, whatever became of the server."""
    name = await asyncio.to_thread(server.new_bucket)
    client = S3Client(s3_settings(server, name), clock=now)
    try:
        yield Bucket(server, name, client)
    finally:
        await client.close()
        await asyncio.to_thread(server.revive)
        await asyncio.to_thread(server.drop, name)


async def refusals(store: S3Store, said: str) -> str:
    """Ask for everything; return all that was told by the errors, each of which must say this."""
    told = []
    for use in (
        store.get(KEY, 0, 1),
        store.get(KEY, 0, 0),
        store.stat(KEY),
        store.stat(MARKER),
        store.put(KEY, b"x"),
        store.put(MARKER, b"x"),
        store.delete(KEY),
        anext(store.list("d/")),
    ):
        with pytest.raises(BackendUnavailable, match=said) as caught:
            await use
        told.append(str(caught.value))
    return "\n".join(told)


def assert_lacks_nothing(report: ProbeReport) -> None:
    """All that was looked for is there, and the clocks are as good as the same."""
    assert report.clock_ahead_s is not None
    assert abs(report.clock_ahead_s) < 2
    assert replace(report, clock_ahead_s=None, put_mb_s=None, get_mb_s=None) == ProbeReport(
        store="s3",
        reads_after_writes=True,
        range_reads=True,
        listing=True,
        deletes=True,
        versioning=Versioning.OFF,
        object_lock=False,
        preconditions=True,
        checksums=True,
    )
