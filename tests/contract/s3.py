"""S3 stores over the tests' own server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crypto import Secret
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_client import S3Settings
from storage_gateway.backends.s3_signature import Credentials
from tests.servers.seaweedfs import SeaweedFS

MARKER = "deployment-marker"


def now() -> datetime:
    return datetime.now(UTC)


def s3_settings(server: SeaweedFS, bucket: str, **changes: Any) -> S3Settings:  # noqa: ANN401 - its fields
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


def settings_file(folder: Path, server: SeaweedFS, bucket: str) -> Path:
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
async def s3_store(server: SeaweedFS, spool: Path, **changes: float) -> AsyncIterator[S3Store]:
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
