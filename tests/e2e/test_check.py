"""Goal: `storage-gateway check` says "all is well" exactly when it is.

Method: a gateway makes a data folder with objects of several kinds; each test damages a copy of it,
on disk or by SQL, as hardware, people and faults of ours might, and names what must be found.
"""

import asyncio
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from crypto import X25519Identity, format_identity_file
from storage_gateway.cli import run
from storage_gateway.client import Client, ClientError
from tests.gateway import (
    REPOSITORY,
    RunningGateway,
    eventually,
    gateway_process,
    open_session,
    running_gateway,
)

LARGE = Random(4).randbytes(9_000_000)  # two segments


@dataclass(frozen=True, slots=True)
class Folder:
    """A data folder and where in it things are."""

    path: Path
    store: Path
    small: str
    """Payload id of an object of one leaf."""
    large: str
    empty: str
    erased: str

    def payload(self, payload_id: str) -> Path:
        return self.store / "main/payloads" / payload_id

    def sql(self, *statements: str) -> None:
        """Change the catalog as no program of ours would."""
        with closing(sqlite3.connect(self.path / "catalog.sqlite3")) as connection, connection:
            for statement in statements:
                connection.execute(statement)


async def _make(tmp_path: Path) -> Folder:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway)
        async with (
            Client(gateway.url, session.user_token) as user,
            Client(gateway.url, session.miner_token) as miner,
        ):
            uploads = {
                "small": (user, "input", b"small"),
                "large": (user, "input", LARGE),
                "empty": (miner, "output", b""),
                "erased": (user, "input", b"to be erased"),
            }
            ids: dict[str, str] = {}
            for name, (client, direction, content) in uploads.items():
                answer = await client.upload(
                    session.session_id, name, direction, io.BytesIO(content)
                )
                ids[name] = (await client.manifest(answer["urn"]))["payload_id"]
                if name == "erased":
                    await user.erase(answer["urn"])
                    await eventually(partial(_is_erased, user, answer["urn"]))
        (deployment,) = [p for p in (gateway.data_dir / "store").iterdir() if p.is_dir()]
        return Folder(gateway.data_dir, deployment, **ids)


async def _is_erased(client: Client, urn: str) -> bool:
    return bool((await client.manifest(urn))["state"] == "erased")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return asyncio.run(_make(tmp_path_factory.mktemp("healthy")))


@pytest.fixture
def folder(healthy: Folder, tmp_path: Path) -> Folder:
    path = tmp_path / "data"
    shutil.copytree(healthy.path, path)
    return Folder(
        path,
        path / "store" / healthy.store.name,
        healthy.small,
        healthy.large,
        healthy.empty,
        healthy.erased,
    )


Check = Callable[[Folder], tuple[int, dict[str, Any]]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    def one(folder: Folder) -> tuple[int, dict[str, Any]]:
        status = run(["check", "--data-dir", str(folder.path), "--json"])
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        return status, report

    return one


def test_a_healthy_folder_is_healthy(folder: Folder, check: Check) -> None:
    status, report = check(folder)

    assert ([], 0) == (report["findings"], status)
    assert (3, 1, 0, 0) == tuple(
        report[name] for name in ("objects", "tombstones", "uploads_open", "graves")
    )
    stored = sum(path.stat().st_size for path in folder.store.rglob("payloads/*/*"))
    assert stored == report["bytes_verified"] > len(LARGE)


# Damage to files.


def _change(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(data)


def _flip(path: Path, at: int) -> None:
    content = path.read_bytes()
    _change(path, at, bytes([content[at] ^ 1]))


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


FILES: dict[str, tuple[Callable[[Folder], object], set[str]]] = {
    "a bit in the only leaf": (lambda f: _flip(f.payload(f.small) / "0", 3), {"leaf"}),
    "a bit in the first leaf": (lambda f: _flip(f.payload(f.large) / "0", 0), {"leaf"}),
    "a bit in the last leaf": (lambda f: _flip(f.payload(f.large) / "1", -1), {"leaf"}),
    "a bit of an empty object": (lambda f: _flip(f.payload(f.empty) / "0", 7), {"leaf"}),
    "cut short": (
        lambda f: os.truncate(f.payload(f.large) / "0", 1000),
        {"segment", "object"},
    ),
    "cut to nothing": (lambda f: os.truncate(f.payload(f.small) / "0", 0), {"segment", "object"}),
    "one byte more": (lambda f: _append(f.payload(f.large) / "1"), {"segment"}),
    "a segment is gone": (lambda f: (f.payload(f.large) / "1").unlink(), {"object"}),
    "a payload is gone": (lambda f: shutil.rmtree(f.payload(f.small)), {"object"}),
    "two segments are swapped": (
        lambda f: (
            (f.payload(f.large) / "0").rename(f.payload(f.large) / "x"),
            (f.payload(f.large) / "1").rename(f.payload(f.large) / "0"),
            (f.payload(f.large) / "x").rename(f.payload(f.large) / "1"),
        ),
        {"segment", "leaf", "object"},
    ),
    "a payload of nobody": (lambda f: _put(f.payload("a" * 32) / "0"), {"orphan"}),
    "a segment too many": (lambda f: _put(f.payload(f.large) / "2"), {"orphan"}),
    "a file where payloads are": (lambda f: _put(f.payload("stray")), {"orphan"}),
    "an erased payload is back": (lambda f: _put(f.payload(f.erased) / "0"), {"orphan"}),
    "a probe was killed": (lambda f: _put(f.store / "probe" / "1700000000-x" / "a"), {"left-over"}),
    "the marker is gone": (lambda f: (f.store / "marker").unlink(), {"marker"}),
    "another deployment's store": (
        lambda f: f.store.rename(f.store.with_name("b" * 32)),
        {"marker", "object", "orphan"},
    ),
}


@pytest.mark.parametrize("damage", FILES)
def test_damage_to_files_is_found(folder: Folder, check: Check, damage: str) -> None:
    do, expected = FILES[damage]
    do(folder)

    status, report = check(folder)

    assert expected == {finding["kind"] for finding in report["findings"]}
    assert 1 == status
    assert all(finding["where"] and finding["remedy"] for finding in report["findings"])


def test_what_gc_deletes_by_itself_is_told_from_what_it_leaves(
    folder: Folder, check: Check
) -> None:
    _put(folder.payload("a" * 32) / "0")
    _put(folder.payload("stray"))
    _put(folder.payload(folder.large) / "2")

    _, report = check(folder)

    told = {
        finding["where"].rpartition("payloads/")[2]: "pass gc" in finding["remedy"]
        for finding in report["findings"]
    }
    assert {"a" * 32: True, f"{folder.large}/2": False, "stray": False} == told


def test_a_probe_may_be_at_work(folder: Folder, check: Check) -> None:
    began_s = f"{datetime.now(UTC).timestamp():.0f}"
    _put(folder.store / "probe" / f"{began_s}-x" / "small")

    status, report = check(folder)

    assert [] == report["findings"]
    assert 0 == status


# Damage to the catalog.

CATALOG: dict[str, tuple[str, set[str]]] = {
    "another CID": (
        "UPDATE objects SET cid = (SELECT cid FROM objects WHERE {large}) WHERE {small}",
        {"cid"},
    ),
    "another size": ("UPDATE objects SET size = size + 1 WHERE {small}", {"size"}),
    "another payload size": (
        "UPDATE objects SET payload_size = payload_size - 1 WHERE {large}",
        {"size", "object"},
    ),
    "another sealed size": (
        "UPDATE objects SET sealed_size = sealed_size + 1 WHERE {small}",
        {"size"},
    ),
    "another object's head": (
        "UPDATE objects SET head = (SELECT head FROM objects WHERE {large}) WHERE {small}",
        {"object"},
    ),
    "half a head": (
        "UPDATE objects SET head = substr(head, 1, length(head) / 2) WHERE {small}",
        {"object"},
    ),
    "no head": ("UPDATE objects SET head = NULL WHERE {small}", {"object"}),
    "a head that came back": (
        "UPDATE objects SET head = zeroblob(9) WHERE state = 'erased'",
        {"erased"},
    ),
    "another file key": (
        "UPDATE objects SET file_key_print = zeroblob(32) WHERE {small}",
        {"head"},
    ),
    "a party too few": (
        "UPDATE objects SET wrapped_for = json_remove(wrapped_for, '$[0]') WHERE {small}",
        {"head"},
    ),
    "another session's": (
        "UPDATE objects SET task_id = 'elsewhere' WHERE {small}",
        {"object", "slot"},
    ),
    "another digest": (
        "UPDATE segments SET leaf_digests = zeroblob(64) WHERE {large} AND segment = 1",
        {"leaf"},
    ),
    "no digest": (
        "UPDATE segments SET leaf_digests = zeroblob(0) WHERE {large} AND segment = 1",
        {"size", "segment"},
    ),
    "another tag": (
        "UPDATE segments SET leaf_tags = zeroblob(32) WHERE {large} AND segment = 1",
        {"leaf"},
    ),
    "a tag too few": (
        "UPDATE segments SET leaf_tags = substr(leaf_tags, 1, 16) WHERE {large} AND segment = 1",
        {"leaf"},
    ),
    "a tag too many": (
        "UPDATE segments SET leaf_tags = zeroblob(48) WHERE {large} AND segment = 1",
        {"leaf", "segment"},
    ),
    "another tag key": ("UPDATE segments SET tag_key = zeroblob(16) WHERE {small}", {"leaf"}),
    "a segment's size": (
        "UPDATE segments SET size = size - 1 WHERE {large} AND segment = 1",
        {"segment", "leaf"},
    ),
    "a segment's row is gone": (
        "DELETE FROM segments WHERE {large} AND segment = 0",
        {"segment", "orphan", "object"},
    ),
    "every segment's row is gone": ("DELETE FROM segments WHERE {small}", {"size", "orphan"}),
    "no slot": ("DELETE FROM slots WHERE {small}", {"slot"}),
    "a slot of nothing": (
        "INSERT INTO slots VALUES ('101', '9', 'input', '', 'object', 'payload')",
        {"slot"},
    ),
    "no session": ("DELETE FROM sessions", {"catalog"}),
    "the object is gone": ("DELETE FROM objects WHERE {small}", {"orphan", "slot", "copy"}),
}


@pytest.mark.parametrize("damage", CATALOG)
def test_damage_to_the_catalog_is_found(folder: Folder, check: Check, damage: str) -> None:
    statement, expected = CATALOG[damage]
    rows = {n: f"payload_id = '{getattr(folder, n)}'" for n in ("small", "large")}
    folder.sql(statement.format(**rows))

    status, report = check(folder)

    assert expected == {finding["kind"] for finding in report["findings"]}
    assert 1 == status


def test_a_catalog_whose_pages_are_damaged_is_found(folder: Folder) -> None:
    catalog = folder.path / "catalog.sqlite3"
    for page in range(8192, catalog.stat().st_size - 4096, 4096):
        _change(catalog, page + 8, b"\xff" * 64)

    status, out, err = as_process(folder.path)

    assert 1 == status
    assert "Traceback" not in err
    assert "malformed" in out + err or "cannot be read" in out + err


# How it is told.


def as_process(data_dir: Path, *options: str) -> tuple[int, str, str]:
    """Run the command as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", "storage_gateway", "check", "--data-dir", str(data_dir), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_person_reads_what_was_found_and_what_to_do(folder: Folder) -> None:
    status, out, err = as_process(folder.path)
    assert (0, "") == (status, err)
    assert "3 objects" in out
    assert out.endswith("all is well\n")

    _flip(folder.payload(folder.small) / "0", 0)
    status, out, err = as_process(folder.path)
    assert (1, "") == (status, err)
    assert "leaf: urn:blob:v4:" in out
    assert "remedy: restore" in out
    assert "1 finding" in out


def test_a_check_changes_nothing(folder: Folder, check: Check) -> None:
    def contents() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.path.rglob("*")
            if path.is_file()
        }

    before = contents()
    check(folder)
    _flip(folder.payload(folder.small) / "0", 0)
    _flip(folder.payload(folder.small) / "0", 0)
    check(folder)

    assert before == contents()


def _first_start_cut_short(folder: Folder) -> None:
    folder.sql("DELETE FROM deployment")
    shutil.rmtree(folder.path / "store")


def _exchange(identity: Path) -> None:
    identity.write_text(format_identity_file(X25519Identity.generate(), datetime.now(UTC)))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f.path / "catalog.sqlite3").unlink(), "no catalog"),
        (lambda f: (f.path / "router-identity.txt").unlink(), "identity is missing"),
        (lambda f: (f.path / "router-identity.txt").chmod(0o644), "chmod 600"),
        (lambda f: (f.path / "router-identity.txt").write_text("x"), "router-identity.txt"),
        (lambda f: _exchange(f.path / "router-identity.txt"), "restore that one"),
        (lambda f: shutil.rmtree(f.path / "store"), "store"),
        (lambda f: f.sql("DELETE FROM deployment"), "is empty: restore it"),
        (_first_start_cut_short, "no deployment"),
        (lambda f: f.sql("PRAGMA user_version = 99"), "schema version 99"),
        (lambda f: (f.path / "catalog.sqlite3").write_text("x" * 9000), "not a database"),
    ],
)
def test_a_folder_that_cannot_be_checked_is_a_failure_in_one_sentence(
    folder: Folder, capsys: pytest.CaptureFixture[str], spoil: Callable[[Folder], object], says: str
) -> None:
    spoil(folder)

    status = run(["check", "--data-dir", str(folder.path)])

    captured = capsys.readouterr()
    assert 1 == status
    assert "" == captured.out
    assert says in captured.err
    assert 1 == len(captured.err.splitlines())


# Beside a gateway.


async def _load(gateway: RunningGateway | Any, stop: asyncio.Event) -> int:  # noqa: ANN401
    """Upload, erase and break off uploads until told to stop; return how many there were."""
    session = await open_session(gateway)
    count = 0
    async with Client(gateway.url, session.user_token) as client:
        while not stop.is_set():
            count += 1
            content = LARGE[: Random(count).choice([0, 10, 1_000_000, 9_000_000])]
            answer = await client.upload(
                session.session_id, f"t{count}", "input", io.BytesIO(content)
            )
            if count % 2:
                await client.erase(answer["urn"])
            upload = asyncio.create_task(
                client.upload(session.session_id, f"b{count}", "input", io.BytesIO(LARGE))
            )
            await asyncio.wait([upload], timeout=0.01)
            upload.cancel()
            await asyncio.wait([upload])
            if not upload.cancelled() and isinstance(upload.exception(), ClientError):
                raise AssertionError(upload.exception())
    return count


async def test_beside_a_gateway_under_load_all_is_well(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data") as gateway:
        stop = asyncio.Event()
        loads = [asyncio.create_task(_load(gateway, stop)) for _ in range(3)]
        for _ in range(2):
            status, out, err = await asyncio.to_thread(as_process, gateway.data_dir)
            assert (0, "") == (status, err), out
        stop.set()
        counts = await asyncio.gather(*loads)

    assert all(count > 1 for count in counts)
    status, out, _ = await asyncio.to_thread(as_process, tmp_path / "data")
    assert 0 == status, out


async def test_an_empty_deployment_is_well(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        pass

    status, out, err = await asyncio.to_thread(as_process, gateway.data_dir, "--json")

    assert (0, "") == (status, err)
    assert [] == json.loads(out)["findings"]
