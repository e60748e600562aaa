"""Goal: a bucket that cannot be relied upon is refused before anything is stored in it, by the
command and by the first start. Method: the command and a gateway over a real S3 server.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage_gateway.backends.s3_client import Request, S3Client
from storage_gateway.config import ConfigError
from tests.commands import command_beside
from tests.contract.s3 import now, s3_settings, settings_file
from tests.gateway import running_gateway
from tests.servers.seaweedfs import SeaweedFS

VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


@pytest.fixture
async def bucket(s3_server: SeaweedFS) -> AsyncIterator[str]:
    made = await asyncio.to_thread(s3_server.new_bucket)
    yield made
    await asyncio.to_thread(s3_server.drop, made)


def settings(tmp_path: Path, server: SeaweedFS, bucket: str) -> list[str | Path]:
    file = settings_file(tmp_path, server, bucket)
    return ["backends", "probe", "--data-dir", tmp_path / "data", "--config", file]


async def enable_versioning(server: SeaweedFS, bucket: str) -> None:
    client = S3Client(s3_settings(server, bucket), clock=now)
    await client.call(Request(method="PUT", query={"versioning": ""}, body=VERSIONING))
    await client.close()


async def test_the_command_says_what_a_bucket_can_do(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    options = settings(tmp_path, s3_server, bucket)
    table = await command_beside(*options)
    document = await command_beside(*options, "--json")
    await enable_versioning(s3_server, bucket)
    refused = await command_beside(*options)

    assert 0 == table.status, table
    assert b"range reads          yes" in table.out
    assert 0 == document.status
    (report,) = json.loads(document.out)
    assert ("bucket", True, "off", []) == (
        report["store"],
        report["deletes"],
        report["versioning"],
        report["findings"],
    )
    assert 1 == refused.status
    assert b"refused: versioning" in refused.out
    assert s3_server.secret_key.encode() not in table.out + document.out + refused.out


async def test_a_broken_setting_is_wrong_usage(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    options = settings(tmp_path, s3_server, bucket)
    (tmp_path / "secret").unlink()

    wrong = await command_beside(*options)

    assert 2 == wrong.status
    assert "secret" in wrong.err


async def test_the_first_start_refuses_a_bucket_that_keeps_versions(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    await enable_versioning(s3_server, bucket)
    backend = {
        "kind": "s3",
        "name": "bucket",
        "endpoint": s3_server.endpoint,
        "bucket": bucket,
        "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key,
    }

    with pytest.raises(ConfigError, match="cannot be used: the bucket keeps versions"):
        async with running_gateway(tmp_path, backends=[backend], late_write_horizon_s=90):
            raise AssertionError("it started")
