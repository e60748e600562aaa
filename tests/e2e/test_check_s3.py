"""Goal: `storage-gateway check` reads what lies in a bucket as it reads a folder.

Method: a real gateway over a real S3 server; then the command, before and after
a blob was cut short.
"""

import asyncio
import tomllib
from pathlib import Path

import pytest

from tests.commands import command_beside
from tests.contract.s3 import settings_file
from tests.gateway import open_session, running_gateway
from tests.http.steps import SEGMENT, made_bytes, uploaded
from tests.servers.seaweedfs import SeaweedFS


async def test_check_reads_the_bucket(tmp_path: Path, s3_server: SeaweedFS) -> None:
    bucket = await asyncio.to_thread(s3_server.new_bucket)
    file = settings_file(tmp_path, s3_server, bucket)
    config = tomllib.loads(file.read_text())
    async with running_gateway(tmp_path, late_write_horizon_s=900, **config) as gateway:
        session = await open_session(gateway)
        await uploaded(gateway, session.path("t1"), session.user_token, made_bytes(SEGMENT + 1))
        keys = [blob.key async for blob in gateway.gateway.parts.store.list("")]

    options: list[str | Path] = ["check", "--data-dir", tmp_path / "data", "--config", file]
    well = await command_beside(*options)
    (second,) = [key for key in keys if "/payloads/" in key and key.endswith("/1")]
    await asyncio.to_thread(s3_server.truncate, bucket, second, 3)
    damaged = await command_beside(*options)

    assert (0, True) == (well.status, b"all is well" in well.out), well
    assert 1 == damaged.status
    assert b"has another size" in damaged.out


@pytest.mark.nightly
async def test_what_the_bucket_has_wrong_is_made_from_the_folder_and_back(
    tmp_path: Path, s3_server: SeaweedFS
) -> None:
    bucket = await asyncio.to_thread(s3_server.new_bucket)
    file = settings_file(tmp_path, s3_server, bucket)
    folder = tmp_path / "folder"
    local = f'[[backends]]\nkind = "local"\nname = "folder"\npath = "{folder}"\n'
    file.write_text(f"reserve_bytes = 0\n{local}{file.read_text()}")
    config = tomllib.loads(file.read_text()) | {"repair_interval_s": 3600}
    async with running_gateway(tmp_path, late_write_horizon_s=900, **config) as gateway:
        session = await open_session(gateway)
        await uploaded(gateway, session.path("t1"), session.user_token, made_bytes(SEGMENT + 1))
    files = sorted(path for path in folder.rglob("payloads/*/*") if path.is_file())
    before = [path.read_bytes() for path in files]
    files[0].unlink()
    key = str(files[1].relative_to(folder))
    await asyncio.to_thread(s3_server.truncate, bucket, key, 3)

    options: list[str | Path] = ["check", "--data-dir", tmp_path / "data", "--config", file]
    damaged = await command_beside(*options)
    mended = await command_beside(*options, "--repair")

    assert (1, 3) == (damaged.status, damaged.out.count(b"copies left: 1"))
    assert (0, b"repair: 2 copies made") == (mended.status, mended.out[:21]), mended
    assert before == [path.read_bytes() for path in files]
