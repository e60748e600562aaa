"""Goal: a bucket that cannot be relied upon is refused before anything is stored in it, by the
command and by the first start, and one that becomes so is noticed by every start. Method: the
command and a gateway over a real S3 server.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage_gateway import markers, parts, readiness
from storage_gateway.backends.s3_client import Request, S3Client
from storage_gateway.config import ConfigError
from storage_gateway.errors import BackendUnavailable
from tests.commands import Done, command_beside
from tests.contract.s3 import now, s3_settings, settings_file
from tests.gateway import RunningGateway, eventually, running_gateway
from tests.http.raw import Answer, exchange, request
from tests.servers.ipfs import IpfsNode
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


def backend_of(server: SeaweedFS, bucket: str) -> dict[str, str]:
    return {
        "kind": "s3",
        "name": "store",
        "endpoint": server.endpoint,
        "bucket": bucket,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


@asynccontextmanager
async def running(
    path: Path, *backends: dict[str, str], **options: object
) -> AsyncIterator[RunningGateway]:
    async with running_gateway(
        path, backends=list(backends), late_write_horizon_s=90, **options
    ) as gateway:
        yield gateway


async def eventually_probed(gateway: RunningGateway) -> Answer:
    """Return what `/readyz` says once the bucket, the first of the stores, was looked at."""
    answers = []

    async def is_probed() -> bool:
        answers.append(await exchange(gateway.address, request("GET", "/readyz")))
        store = answers[-1].json()["stores"][0]
        return store["ready"] and store["probed"] is not None

    await eventually(is_probed, what="a look at the bucket")
    return answers[-1]


def findings(ready: Answer) -> list[dict[str, object]]:
    found: list[dict[str, object]] = ready.json()["stores"][0]["findings"]
    return found


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


async def test_the_command_tries_a_gateway_of_ipfs_too(tmp_path: Path, ipfs: IpfsNode) -> None:
    file = tmp_path / "gateway.toml"
    api = ipfs.api.removesuffix("/api/v0")
    data = tmp_path / "data"

    async def probed(url: str) -> Done:
        node = f'[[backends]]\nkind = "ipfs"\nname = "node"\napi = "{api}"\n'
        gateway = f'[[backends]]\nkind = "ipfs-gateway"\nname = "stranger"\nurl = "{url}"\n'
        file.write_text(node + gateway)
        probe = ["backends", "probe", "--json"]
        return await command_beside(*probe, "--data-dir", data, "--config", file)

    well = await probed(ipfs.gateway)
    wrong = await probed(api)

    assert (0, 1) == (well.status, wrong.status), (well, wrong)
    assert {"store": "stranger", "raw": True, "findings": []} == json.loads(well.out)[1]
    assert ["unavailable"] == [f["kind"] for f in json.loads(wrong.out)[1]["findings"]]


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

    with pytest.raises(ConfigError, match="cannot be used: the bucket keeps versions"):
        async with running(tmp_path, backend_of(s3_server, bucket)):
            raise AssertionError("it started")


async def test_versioning_that_was_switched_on_later_is_seen_by_the_next_start(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, backend_of(s3_server, bucket)) as gateway:
        before = await eventually_probed(gateway)
        deployment_id = gateway.gateway.parts.deployment_id
    await enable_versioning(s3_server, bucket)
    assert "versioning" not in caplog.text

    async with running(tmp_path, backend_of(s3_server, bucket)) as gateway:
        after = await eventually_probed(gateway)

    assert (200, "ok", []) == (before.status, before.json()["status"], findings(before))
    assert (200, "degraded") == (after.status, after.json()["status"])
    remedy = "use a bucket that never had versioning: one where it is suspended keeps what it has"
    assert [{"kind": "versioning", "remedy": remedy, "refuses": True}] == findings(after)
    (warning,) = [r for r in caplog.records if r.getMessage() == "found out about a store"]
    assert ("WARNING", "versioning") == (warning.levelname, vars(warning)["kind"])
    for told in (bucket, s3_server.endpoint, str(s3_server.port), s3_server.access_key):
        assert told.encode() not in after.body, "a stranger may ask"
    for told in (s3_server.secret_key, deployment_id, "the bucket keeps versions"):
        assert told.encode() not in after.body, "a stranger may ask"


async def test_a_start_does_not_wait_for_one_of_several_buckets_that_hangs(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"kind": "local", "name": "disk", "path": str(tmp_path / "disk")}
    backends = (backend_of(s3_server, bucket), folder)
    async with running(tmp_path, *backends, write_quorum=1):
        pass
    for module, name in (
        (markers, "START_S_MAX"),
        (parts, "START_S_MAX"),
        (readiness, "ANSWER_S_MAX"),
    ):
        monkeypatch.setattr(module, name, 0.3)

    await asyncio.to_thread(s3_server.stop)
    try:
        began_s = time.monotonic()
        async with running(tmp_path, *backends, write_quorum=1, recovery_interval_s=0.1) as gateway:
            hung = await exchange(gateway.address, request("GET", "/readyz"))
            took_s = time.monotonic() - began_s
            await asyncio.to_thread(s3_server.resume)
            back = await eventually_probed(gateway)
    finally:
        await asyncio.to_thread(s3_server.resume)

    assert took_s < 10, "not the bucket's own deadline of 60 seconds"
    assert (200, "degraded") == (hung.status, hung.json()["status"])
    assert [False, True] == [store["ready"] for store in hung.json()["stores"]]
    assert "ok" == back.json()["status"]


@pytest.mark.parametrize("known", [True, False])
async def test_a_start_says_soon_that_the_only_bucket_hangs(
    tmp_path: Path,
    s3_server: SeaweedFS,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    if known:
        async with running(tmp_path, backend_of(s3_server, bucket)):
            pass
    monkeypatch.setattr(markers, "ALONE_S_MAX", 0.3)
    why = "it is the only one" if known else "it was never looked at"

    await asyncio.to_thread(s3_server.stop)
    try:
        began_s = time.monotonic()
        with pytest.raises(BackendUnavailable, match=rf"did not answer within .* {why}: start"):
            async with running(tmp_path, backend_of(s3_server, bucket)):
                pass
        took_s = time.monotonic() - began_s
    finally:
        await asyncio.to_thread(s3_server.resume)

    assert took_s < 10, "not the bucket's own deadline of 60 seconds"
