"""Goal: a catalog comes back from a bucket that holds other deployments too, and from what answers
of several stores, in as many goes as it takes; copies are compared, and brought again; with a
recovery recipient of its own nobody rebuilds without its identity.

Method: real gateways over a real S3 server and folders; the command, as an operator runs it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from crypto import CopySealer, X25519Identity, format_identity_file, recovery_identity
from storage_gateway.catalog import Unit
from storage_gateway.catalog.high_water import is_behind
from storage_gateway.catalog.outbox import is_due
from storage_gateway.custody import load_copies_identity
from storage_gateway.manifest_copies import OBJECT, CopyName
from tests.commands import Done, command_beside
from tests.databases import databases
from tests.gateway import RunningGateway, eventually, open_catalog, open_session, running_gateway
from tests.http.steps import PLAINTEXT, fetch, uploaded
from tests.http.test_manifest_copies import pass_over_copies
from tests.http.test_rebuild import lose_catalog, new_token, outbox_is_empty
from tests.http.test_replicas import NAMES, Folders, folders
from tests.http.test_s3 import bucket, s3_backend
from tests.servers.seaweedfs import SeaweedFS
from tests.stress.planted_mending import foreign_stores_are_taken

__all__ = ["bucket", "folders"]

T = TypeVar("T")

Backends = Sequence[Mapping[str, Any]]


def config_file(data_dir: Path, backends: Backends, **settings: object) -> Path:
    """Write the settings that a command is given."""
    settings["data_dir"] = str(data_dir)
    if url := databases.url(data_dir):
        settings["catalog_url"] = url
    file = data_dir.with_name(f"{data_dir.name}.toml")
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    for backend in backends:
        lines += ["[[backends]]", *(f"{n} = {json.dumps(value)}" for n, value in backend.items())]
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    return file


async def catalog(verb: str, config: Path, *arguments: str | Path) -> tuple[Done, dict[str, Any]]:
    """Run a command; return how it ended, and its report if it came so far."""
    done = await command_beside("catalog", verb, "--config", config, "--json", *arguments)
    return done, json.loads(done.out) if done.out else {}


@dataclass(frozen=True, slots=True)
class Made:
    """A deployment with an object."""

    path: Path
    data_dir: Path
    deployment: str
    urn: str


@asynccontextmanager
async def running(
    path: Path, backends: Backends, **settings: object
) -> AsyncIterator[RunningGateway]:
    """Run a gateway; its horizon is what the deadlines of buckets ask for."""
    settings |= {"backends": list(backends), "reserve_bytes": 0, "late_write_horizon_s": 30.0}
    async with running_gateway(path, **settings) as gateway:
        yield gateway


async def made_in(path: Path, backends: Backends, content: bytes, **settings: object) -> Made:
    async with running(path, backends, **settings) as gateway:
        session = await open_session(gateway, "101")
        answer = await uploaded(gateway, session.path("t1"), session.user_token, content)
        await eventually(lambda: outbox_is_empty(gateway.catalog), what="the copies")
        deployment = gateway.gateway.parts.deployment_id
    return Made(path, path / "data", deployment, answer["urn"])


async def read_by(made: Made, backends: Backends, **settings: object) -> bytes:
    async with running(made.path, backends, **settings) as gateway:
        token = await new_token(gateway)
        answer = await fetch(gateway, made.urn, token, headers=[PLAINTEXT])
    assert 200 == answer.status, answer
    return answer.body


async def test_a_deployment_is_found_by_its_signature_among_others(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_stores_are_taken(monkeypatch)  # as they were in the same bucket before it was asked
    backends = [s3_backend(s3_server, bucket) | {"attempt_s": 20.0, "deadline_s": 20.0}]
    ours = await made_in(tmp_path / "ours", backends, b"ours")
    theirs = await made_in(tmp_path / "theirs", backends, b"theirs")
    for each in (ours, theirs):
        await asyncio.to_thread(lose_catalog, each.data_dir)
    config = await asyncio.to_thread(config_file, ours.data_dir, backends)

    wrong, _ = await catalog("rebuild", config, "--deployment", theirs.deployment)
    done, report = await catalog("rebuild", config)

    assert (1, b"") == (wrong.status, wrong.out)
    assert (0, 1, 1, 0) == (done.status, report["sessions"], report["objects"], report["refused"])
    assert b"ours" == await read_by(ours, backends)
    config = await asyncio.to_thread(config_file, theirs.data_dir, backends)
    done, report = await catalog("rebuild", config, "--deployment", theirs.deployment)
    assert (0, 1) == (done.status, report["objects"])
    assert b"theirs" == await read_by(theirs, backends)


@pytest.mark.nightly
async def test_the_catalog_of_another_deployment_is_not_begun_by_mistake(
    folders: Folders,
) -> None:
    made = await made_in(folders.path, folders.backends(), b"ours")
    config = await asyncio.to_thread(config_file, made.data_dir, folders.backends())

    wrong, _ = await catalog("rebuild", config, "--deployment", "o" * 32)

    assert 1 == wrong.status
    assert f"that of deployment {made.deployment}, not of {'o' * 32}" in wrong.err


@pytest.mark.nightly
async def test_a_deployment_is_found_behind_forged_copies(folders: Folders) -> None:
    made = await made_in(folders.path, folders.backends(), b"ours")
    await asyncio.to_thread(lose_catalog, made.data_dir)
    forged = []
    for name in NAMES:
        for kind in ("manifests", "sessions"):
            file = folders.path / name / made.deployment / "main" / kind / ("2" * 32) / "1"
            await asyncio.to_thread(file.parent.mkdir)
            await asyncio.to_thread(file.write_bytes, b"forged")
            forged.append(file)
    config = await asyncio.to_thread(config_file, made.data_dir, folders.backends())

    done, report = await catalog("rebuild", config)

    assert (1, 1, len(forged)) == (done.status, report["objects"], report["refused"])
    assert b"ours" == await read_by(made, folders.backends())


@pytest.mark.parametrize("away", ["bucket", pytest.param("folder", marks=pytest.mark.nightly)])
async def test_what_is_out_of_reach_is_gone_through_later(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str, away: str
) -> None:
    folder = tmp_path / "folder"
    local = {"kind": "local", "name": "folder", "path": str(folder)}
    patient = s3_backend(s3_server, bucket) | {"attempt_s": 20.0, "deadline_s": 20.0}
    made = await made_in(tmp_path, [patient, local], b"content")
    await asyncio.to_thread(lose_catalog, made.data_dir)
    backends: Backends = [s3_backend(s3_server, bucket), local]
    config = await asyncio.to_thread(config_file, made.data_dir, backends)
    elsewhere = tmp_path / "elsewhere"
    if away == "bucket":
        await asyncio.to_thread(s3_server.kill)
    else:
        await asyncio.to_thread(folder.rename, elsewhere)

    first, report = await catalog("rebuild", config)

    assert (1, [away], 1) == (first.status, report["unreachable"], report["objects"])
    assert any("run it again" in finding["remedy"] for finding in report["findings"])
    assert await behind(made.data_dir)
    if away == "bucket":
        await asyncio.to_thread(s3_server.start)
    else:
        await asyncio.to_thread(elsewhere.rename, folder)
    second, report = await catalog("rebuild", config)
    assert (0, []) == (second.status, report["unreachable"]), second
    assert not await behind(made.data_dir)
    assert b"content" == await read_by(made, [patient, local])


@pytest.mark.nightly
async def test_a_store_without_the_marker_is_not_taken_for_an_empty_one(folders: Folders) -> None:
    made = await made_in(folders.path, folders.backends(), b"content")
    await asyncio.to_thread(lose_catalog, made.data_dir)
    marker = folders.path / NAMES[1] / made.deployment / "marker"
    await asyncio.to_thread(marker.unlink)
    config = await asyncio.to_thread(config_file, made.data_dir, folders.backends())

    done, report = await catalog("rebuild", config)

    assert (1, {}) == (done.status, report)
    assert "store two lacks the marker" in done.err


async def behind(data_dir: Path) -> bool:
    return await in_catalog(data_dir, is_behind)


async def in_catalog(data_dir: Path, unit: Unit[T]) -> T:
    opened = await asyncio.to_thread(open_catalog, data_dir)
    try:
        return await opened.run(unit)
    finally:
        await asyncio.to_thread(opened.close)


COUNTS = ("right", "due", "missing", "wrong", "unknown", "entered")


def counted(report: dict[str, Any]) -> dict[str, int]:
    return {name: report[name] for name in COUNTS if report[name]}


@pytest.mark.nightly
async def test_copies_are_compared_and_brought_again(folders: Folders) -> None:
    made = await made_in(folders.path, folders.backends(), b"content")
    object_id = made.urn.rpartition(":")[2]
    key = CopyName(OBJECT, object_id, 1).below(f"{made.deployment}/main/")
    one, two = (folders.path / name / key for name in NAMES)
    true = await asyncio.to_thread(one.read_bytes)
    config = await asyncio.to_thread(config_file, made.data_dir, folders.backends())

    done, report = await catalog("verify", config)
    assert (0, {"right": 4}) == (done.status, counted(report))

    await asyncio.to_thread(one.unlink)
    await asyncio.to_thread(two.write_bytes, true[:-1] + b"!")
    newer = two.with_name("2")
    await asyncio.to_thread(newer.write_bytes, true)
    done, report = await catalog("verify", config)
    assert (1, {"right": 2, "missing": 1, "wrong": 1, "unknown": 1}) == (
        done.status,
        counted(report),
    )
    told = {finding["where"]: finding for finding in report["findings"]}
    assert {f"{key} in store one", f"{key} in store two", f"{key[:-1]}2 in store two"} == {*told}
    assert "does not open" in told[f"{key} in store two"]["detail"]

    await asyncio.to_thread(newer.unlink)
    done, report = await catalog("verify", config, "--repair")
    assert (1, 2) == (done.status, report["entered"])
    async with running(folders.path, folders.backends()) as gateway:
        await pass_over_copies(gateway)
        assert await outbox_is_empty(gateway.catalog)
    assert [true, true] == [await asyncio.to_thread(file.read_bytes) for file in (one, two)]
    done, report = await catalog("verify", config)
    assert (0, {"right": 4}) == (done.status, counted(report))


async def test_a_copy_that_one_store_lacks_is_to_come_after_a_rebuild(folders: Folders) -> None:
    made = await made_in(folders.path, folders.backends(), b"content")
    object_id = made.urn.rpartition(":")[2]
    key = CopyName(OBJECT, object_id, 1).below(f"{made.deployment}/main/")
    await asyncio.to_thread((folders.path / NAMES[1] / key).unlink)
    await asyncio.to_thread(lose_catalog, made.data_dir)
    config = await asyncio.to_thread(config_file, made.data_dir, folders.backends())

    done, report = await catalog("rebuild", config)

    assert (0, 1) == (done.status, report["objects"])
    assert await in_catalog(made.data_dir, partial(is_due, kind=OBJECT, record_id=object_id))


async def test_a_recovery_recipient_is_needed_to_rebuild(folders: Folders) -> None:
    recovery = X25519Identity.generate()
    key = folders.path / "recovery.txt"
    await asyncio.to_thread(key.touch, 0o600)
    text = format_identity_file(recovery, datetime.now(UTC))
    await asyncio.to_thread(key.write_text, text)
    named = {"recovery_recipient": str(recovery.recipient())}
    backends = folders.backends()
    made = await made_in(folders.path, backends, b"content", **named)
    await asyncio.to_thread(lose_catalog, made.data_dir)
    config = await asyncio.to_thread(partial(config_file, made.data_dir, backends, **named))

    refused, _ = await catalog("rebuild", config)
    done, report = await catalog("rebuild", config, "--recovery-identity", key)

    assert (1, b"") == (refused.status, refused.out)
    assert "give --recovery-identity" in refused.err
    assert (0, 1, 1) == (done.status, report["sessions"], report["objects"]), done
    assert b"content" == await read_by(made, backends, **named)


async def test_a_copy_of_a_newer_program_lets_nothing_older_back(folders: Folders) -> None:
    """It may be a tombstone: what it says is not known, but that it is ours."""
    made = await made_in(folders.path, folders.backends(), b"content")
    prefix, object_id = f"{made.deployment}/main/", made.urn.rpartition(":")[2]
    identity = await asyncio.to_thread(load_copies_identity, made.data_dir)
    assert identity is not None
    key = CopyName(OBJECT, object_id, 2).below(prefix)
    sealer = CopySealer(identity, made.deployment)
    newer = sealer.seal(key, b'{"type": "new"}', recovery_identity(identity).recipient())
    await asyncio.to_thread((folders.path / NAMES[0] / key).write_bytes, newer)
    await asyncio.to_thread(lose_catalog, made.data_dir)
    config = await asyncio.to_thread(config_file, made.data_dir, folders.backends())

    done, report = await catalog("rebuild", config)

    assert (1, 0, 1) == (done.status, report["objects"], report["conflicts"])
    (finding,) = report["findings"]
    assert "of the version that wrote it" in finding["remedy"]
    assert await behind(made.data_dir)
