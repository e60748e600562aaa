"""Goal: a gateway starts on what is its own and whole, and refuses everything else in one sentence
without changing anything.

Method: a healthy data folder is spoiled in one way at a time and a gateway is started on it, for a
few by the real command; then the folders that a crash at first start can leave behind, in which it
must start all the same.
"""

import asyncio
import hashlib
import io
import json
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from crypto import HybridIdentity, X25519Identity
from storage_gateway.cli import run
from storage_gateway.client import Client
from storage_gateway.config import ConfigError
from storage_gateway.errors import GatewayError
from tests.commands import Done, command
from tests.gateway import open_session, running_gateway

IDENTITY = "router-identity.txt"
COPIES = "copies-identity.txt"
TOKEN = "operator-token"
CATALOG = "catalog.sqlite3"


async def _make(tmp_path: Path) -> Path:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        async with Client(gateway.url, session.user_token) as client:
            await client.upload("101", "1", "input", io.BytesIO(b"content"))
        return gateway.data_dir


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asyncio.run(_make(tmp_path_factory.mktemp("healthy")))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asyncio.run(_make(tmp_path_factory.mktemp("another")))


@pytest.fixture
def data_dir(healthy: Path, tmp_path: Path) -> Path:
    shutil.copytree(healthy, tmp_path / "data")
    return tmp_path / "data"


def state(folder: Path) -> dict[str, str]:
    """What is in a folder: the digest of each file, and of what each table of a catalog holds."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.endswith(("-shm", "-wal")):
            found[name] = "not compared"
        else:
            found[name] = hashlib.sha256(_content(path)).hexdigest()
    return found


def _content(path: Path) -> bytes:
    if path.name != CATALOG:
        return path.read_bytes()
    try:
        with closing(sqlite3.connect(path)) as connection:
            return "\n".join(connection.iterdump()).encode()
    except sqlite3.DatabaseError:
        return path.read_bytes()


def serve(data_dir: Path, *options: str, environment: dict[str, str] | None = None) -> Done:
    return command("serve", "--data-dir", data_dir, *options, environment=environment)


def check_refusal(done: Done, status: int, *says: str) -> None:
    assert status == done.status, done.err
    assert b"" == done.out
    sentences = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert 1 == len(sentences), done.err
    assert sentences[0].startswith("storage-gateway serve: ")
    for words in says:
        assert words in sentences[0]


# A folder that is spoiled.


@dataclass(frozen=True, slots=True)
class Spoiled:
    """How a folder was spoiled, and what the refusal must say."""

    spoil: Callable[[Path, Path], object]
    says: tuple[str, ...]


def _exchange_identity(data_dir: Path, _another: Path) -> None:
    identity = X25519Identity.generate()
    (data_dir / IDENTITY).write_text(f"{identity.to_text()}\n")


def _exchange(name: str) -> Callable[[Path, Path], object]:
    def spoil(data_dir: Path, another: Path) -> None:
        path = data_dir / name
        if path.is_dir():
            shutil.rmtree(path)
            shutil.copytree(another / name, path)
        else:
            shutil.copy2(another / name, path)

    return spoil


def _sql(statement: str) -> Callable[[Path, Path], object]:
    def spoil(data_dir: Path, _another: Path) -> None:
        with closing(sqlite3.connect(data_dir / CATALOG)) as connection, connection:
            connection.execute(statement)

    return spoil


def _remove_marker(data_dir: Path, _another: Path) -> None:
    (marker,) = (data_dir / "store").glob("*/marker")
    marker.unlink()


def _unmount(data_dir: Path, _another: Path) -> None:
    shutil.rmtree(data_dir / "store")
    (data_dir / "store").mkdir()


SPOILED = {
    "the identity is gone": Spoiled(
        lambda d, _: (d / IDENTITY).unlink(), ("identity is missing", "restore it from a backup")
    ),
    "another identity": Spoiled(_exchange_identity, ("restore that one",)),
    "another deployment's identity": Spoiled(_exchange(IDENTITY), ("restore that one",)),
    "an identity that others may read": Spoiled(
        lambda d, _: (d / IDENTITY).chmod(0o640), (IDENTITY, "chmod 600")
    ),
    "an identity that is none": Spoiled(
        lambda d, _: (d / IDENTITY).write_text("AGE-SECRET-KEY-1BROKEN\n"), (IDENTITY, "line 1")
    ),
    "an empty identity file": Spoiled(
        lambda d, _: (d / IDENTITY).write_text(""), (IDENTITY, "no identity")
    ),
    "the copies' identity is gone": Spoiled(
        lambda d, _: (d / COPIES).unlink(), (COPIES, "restore it from a backup")
    ),
    "two identities for the copies": Spoiled(
        lambda d, a: (d / COPIES).write_text((d / COPIES).read_text() + (a / COPIES).read_text()),
        (COPIES, "exactly one"),
    ),
    "an identity of a class that sessions do not take": Spoiled(
        lambda d, _: (d / IDENTITY).write_text(f"{HybridIdentity.generate().to_text()}\n"),
        (IDENTITY, "must hold a classic identity"),
    ),
    "a token that was revoked": Spoiled(
        _sql("UPDATE tokens SET revoked_ms = 1 WHERE kind = 'operator'"), (TOKEN, "revoked")
    ),
    "a token that others may read": Spoiled(
        lambda d, _: (d / TOKEN).chmod(0o604), (TOKEN, "chmod 600")
    ),
    "a token that can be guessed": Spoiled(
        lambda d, _: (d / TOKEN).write_text("secret\n"), (TOKEN, "too long to guess")
    ),
    "the store is gone": Spoiled(
        lambda d, _: shutil.rmtree(d / "store"), ("lacks the marker", "not mounted")
    ),
    "an unmounted store": Spoiled(_unmount, ("lacks the marker",)),
    "a store without its marker": Spoiled(_remove_marker, ("lacks the marker",)),
    "another deployment's store": Spoiled(_exchange("store"), ("lacks the marker",)),
    "the catalog is gone": Spoiled(lambda d, _: (d / CATALOG).unlink(), ("is gone", "restore it")),
    "another deployment's catalog": Spoiled(_exchange(CATALOG), ("marker",)),
    "a catalog of a later version": Spoiled(_sql("PRAGMA user_version = 99"), ("version 99",)),
    "a catalog that is none": Spoiled(
        lambda d, _: (d / CATALOG).write_bytes(b"no database" * 500), ("not a database",)
    ),
    "a folder that others may write into": Spoiled(lambda d, _: d.chmod(0o777), ("chmod 700",)),
}


@pytest.mark.parametrize("name", SPOILED)
async def test_what_is_not_its_own_and_whole_is_refused(
    data_dir: Path, another: Path, name: str
) -> None:
    SPOILED[name].spoil(data_dir, another)
    before = state(data_dir)

    with pytest.raises((ConfigError, GatewayError)) as refused:
        async with running_gateway(data_dir.parent):
            pass

    assert all(words in str(refused.value) for words in SPOILED[name].says), refused.value
    assert 1 == len(str(refused.value).splitlines())
    assert before == state(data_dir)


async def test_a_new_catalog_beside_a_store_of_another_is_refused(data_dir: Path) -> None:
    with closing(sqlite3.connect(data_dir / CATALOG)) as connection, connection:
        connection.execute("UPDATE deployment SET deployment_id = 'begun elsewhere'")
        connection.execute("DELETE FROM markers")
    before = state(data_dir / "store")

    with pytest.raises(ConfigError, match="holds the objects of another deployment"):
        async with running_gateway(data_dir.parent):
            pass

    assert before == state(data_dir / "store")


async def test_a_disk_of_its_own_may_be_mounted_as_the_store(tmp_path: Path) -> None:
    """Its file system has made a folder there, which the gateway may not even look into."""
    found = tmp_path / "data" / "store" / "lost+found"
    found.mkdir(mode=0o700, parents=True)
    (found / "#12").touch()
    found.chmod(0)
    found.parent.chmod(0o700)
    found.parent.parent.chmod(0o700)

    for number in range(2):
        async with running_gateway(tmp_path) as gateway:
            session = await open_session(gateway, f"s{number}")
            async with Client(gateway.url, session.user_token) as client:
                await client.upload(f"s{number}", "1", "input", io.BytesIO(b"content"))
    assert 0 == await asyncio.to_thread(run, ["check", "--data-dir", str(tmp_path / "data")])
    found.chmod(0o700)
    assert [found / "#12"] == list(found.iterdir())


async def test_nothing_else_may_lie_in_a_new_store(tmp_path: Path) -> None:
    other = tmp_path / "data" / "store" / "lost+found2"
    other.mkdir(mode=0o700, parents=True)
    other.parent.parent.chmod(0o700)

    with pytest.raises(ConfigError, match="holds the objects"):
        async with running_gateway(tmp_path):
            pass


@pytest.mark.parametrize(
    "name", ["the identity is gone", "the store is gone", "a catalog that is none"]
)
def test_the_command_refuses_alike(data_dir: Path, another: Path, name: str) -> None:
    SPOILED[name].spoil(data_dir, another)
    before = state(data_dir)

    check_refusal(serve(data_dir), 1, *SPOILED[name].says)

    assert before == state(data_dir)


# Settings.


@pytest.mark.parametrize(
    ("options", "environment", "says"),
    [
        ([], {"GATEWAY_PROT": "1"}, ["GATEWAY_PROT"]),
        (["--port", "70000"], {}, ["port"]),
        (["--host", "192.0.2.1"], {}, ["not loopback", "tls_certificate"]),
        (["--config", "nowhere.toml"], {}, ["nowhere.toml"]),
    ],
)
def test_wrong_settings_are_wrong_usage(
    tmp_path: Path, options: list[str], environment: dict[str, str], says: list[str]
) -> None:
    done = serve(tmp_path / "data", *options, environment=environment)

    check_refusal(done, 2, *says)
    assert [] == list(tmp_path.iterdir())


def test_without_a_folder_nothing_is_guessed(tmp_path: Path) -> None:
    check_refusal(command("serve", cwd=tmp_path), 2, "data_dir")
    assert [] == list(tmp_path.iterdir())


def test_a_certificate_that_is_not_there(data_dir: Path) -> None:
    before = state(data_dir)

    done = serve(data_dir, "--tls-certificate", "/nowhere/cert.pem", "--tls-key", "/nowhere/key")

    check_refusal(done, 1, "/nowhere/cert.pem")
    assert before == state(data_dir)


def test_a_port_that_is_taken(data_dir: Path) -> None:
    before = state(data_dir)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        done = serve(data_dir, "--port", str(port))

    check_refusal(done, 1, "cannot listen", str(port))
    assert before == state(data_dir)


def test_a_setting_that_cannot_be_meant_is_warned_of(tmp_path: Path) -> None:
    """Before anything is done with it: here it cannot even start."""
    (tmp_path / "file").touch()
    bucket = {
        "kind": "s3",
        "name": "bucket",
        "endpoint": "https://s3.example",
        "bucket": "payloads",
    }
    keys = {"access_key": "AK", "secret_key": "secret", "deadline_s": 5}
    disk = {"kind": "local", "name": "disk", "path": str(tmp_path / "disk")}
    backends = {"GATEWAY_BACKENDS": json.dumps([bucket | keys, disk])}

    done = command("serve", "--data-dir", tmp_path / "file", environment=backends)

    assert 1 == done.status
    (line,) = [line for line in done.err.splitlines() if line.startswith("{")]
    assert "backend bucket: deadline_s (5) is not above answer_within_s (30)" in line
    assert "warning" == json.loads(line)["level"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    check_refusal(serve(tmp_path / "file"), 1, "file")
    check_refusal(serve(tmp_path / "file" / "data"), 1, "file")
    assert "in the way" == (tmp_path / "file").read_text()


# A first start that was cut short.


def _no_catalog_yet(data_dir: Path) -> None:
    for path in data_dir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _empty_catalog_file(data_dir: Path) -> None:
    _no_catalog_yet(data_dir)
    (data_dir / CATALOG).touch(mode=0o600)


def _delete(data_dir: Path, *tables: str) -> None:
    with closing(sqlite3.connect(data_dir / CATALOG)) as connection, connection:
        for table in ("objects", "segments", "placements", "slots", "parties", "sessions", *tables):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours


def _tables_only(data_dir: Path) -> None:
    _store_not_begun(data_dir)
    _delete(data_dir, "deployment", "markers", "key_versions", "tokens")
    (data_dir / IDENTITY).unlink()


def _store_not_begun(data_dir: Path) -> None:
    shutil.rmtree(data_dir / "store")
    _delete(data_dir, "markers", "key_versions", "tokens")
    (data_dir / TOKEN).unlink()


def _deployment_folder_without_marker(data_dir: Path) -> None:
    (marker,) = (data_dir / "store").glob("*/marker")
    _store_not_begun(data_dir)
    (data_dir / IDENTITY).unlink()
    marker.parent.mkdir(parents=True)


def _marker_not_recorded(data_dir: Path) -> None:
    (marker,) = (data_dir / "store").glob("*/marker")
    _deployment_folder_without_marker(data_dir)
    marker.write_bytes(b"")  # created, and not yet written


def _identity_not_registered(data_dir: Path) -> None:
    _delete(data_dir, "key_versions", "tokens")
    shutil.rmtree(next((data_dir / "store").glob("*/main")))
    (data_dir / TOKEN).unlink()


def _identity_half_written(data_dir: Path) -> None:
    _identity_not_registered(data_dir)
    (data_dir / IDENTITY).rename(data_dir / f"{IDENTITY}.4711.tmp")


def _identity_linked_twice(data_dir: Path) -> None:
    _identity_not_registered(data_dir)
    (data_dir / f"{IDENTITY}.4711.tmp").hardlink_to(data_dir / IDENTITY)


def _token_not_recorded(data_dir: Path) -> None:
    _delete(data_dir, "tokens")
    shutil.rmtree(next((data_dir / "store").glob("*/main")))


def _token_linked_twice(data_dir: Path) -> None:
    _token_not_recorded(data_dir)
    (data_dir / f"{TOKEN}.4711.tmp").hardlink_to(data_dir / TOKEN)


CUT_SHORT = [
    _no_catalog_yet,
    _empty_catalog_file,
    _tables_only,
    _store_not_begun,
    _deployment_folder_without_marker,
    _marker_not_recorded,
    _identity_not_registered,
    _identity_half_written,
    _identity_linked_twice,
    _token_not_recorded,
    _token_linked_twice,
]


@pytest.mark.parametrize("cut_short", CUT_SHORT)
async def test_a_first_start_that_was_cut_short_is_done_by_the_next(
    data_dir: Path, cut_short: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(cut_short, data_dir)

    manifests = []
    for number in range(2):
        async with running_gateway(data_dir.parent) as gateway:
            session = await open_session(gateway, f"s{number}")
            async with Client(gateway.url, session.user_token) as client:
                answer = await client.upload(f"s{number}", "1", "input", io.BytesIO(b"content"))
                manifests.append(await client.manifest(answer["urn"]))

    routers = [
        party["recipient"]
        for manifest in manifests
        for party in manifest["wrapped_for"]
        if party["role"] == "router"
    ]
    assert routers[0] == routers[1]
    assert 0 == await asyncio.to_thread(run, ["check", "--data-dir", str(data_dir)])
    assert "2 objects" in capsys.readouterr().out
    for name in (IDENTITY, TOKEN):
        secret = (data_dir / name).read_text()
        assert [] == [path for path in data_dir.glob(f"{name}.*") if path.read_text() == secret]


async def test_the_operator_may_take_the_token_file_away(data_dir: Path) -> None:
    token = (data_dir / TOKEN).read_text()
    (data_dir / TOKEN).rename(data_dir.parent / TOKEN)
    with pytest.raises(FileNotFoundError):
        async with running_gateway(data_dir.parent):
            pass
    assert not (data_dir / TOKEN).exists()
    (data_dir.parent / TOKEN).rename(data_dir / TOKEN)
    async with running_gateway(data_dir.parent) as gateway:
        assert token.strip() == gateway.operator_token
        await open_session(gateway, "102")
