"""Goal: manifest copies outlast every version of the router's key, and a deployment that an older
gateway made goes on with the copies that it has.

Method: a data folder as an older gateway left it, with one identity for all; versions that are made
and dropped; files that go missing.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crypto import (
    CLASSIC,
    CopySealer,
    Identity,
    Secret,
    X25519Identity,
    format_identity_file,
    parse_identities,
    recovery_identity,
    seal_with_passphrase,
)
from storage_gateway.config import ConfigError
from storage_gateway.custody import COPIES_FILE, IDENTITY_FILE
from storage_gateway.key_provider import identity_file
from tests.gateway import RunningGateway, open_session, running_gateway
from tests.http.steps import PLAINTEXT, fetch, uploaded
from tests.http.test_rebuild import lose_catalog, new_token, rebuilt

PASSPHRASE = "of an older deployment"


def older(data_dir: Path) -> X25519Identity:
    """Make the one identity of a deployment as an older gateway did."""
    data_dir.mkdir(0o700)
    identity = X25519Identity.generate()
    write(data_dir / IDENTITY_FILE, format_identity_file(identity, datetime.now(UTC)).encode())
    return identity


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def kept(path: Path) -> list[Identity]:
    return parse_identities(path.read_text())


async def stored(gateway: RunningGateway, session_id: str = "101") -> str:
    """Store an object whose copy is there with the answer; return its URN."""
    session = await open_session(gateway, session_id)
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    return str(document["urn"])


async def readable(gateway: RunningGateway, urn: str, session_id: str = "101") -> bool:
    token = await new_token(gateway, session_id)
    answer = await fetch(gateway, urn, token, headers=[PLAINTEXT])
    return (200, b"content") == (answer.status, answer.body)


def opens(data_dir: Path, sealer: CopySealer) -> int:
    """Return how many copies of objects the identity of a sealer opens and signed."""
    store = data_dir / "store"
    copies = [path for path in store.glob("*/main/*/**/*") if path.is_file()]
    copies = [path for path in copies if "payloads" not in path.parts]
    recovery = recovery_identity(sealer.identity)
    for path in copies:
        sealer.open(str(path.relative_to(store)), path.read_bytes(), recovery)
    return len(copies)


@pytest.mark.parametrize("sealed", [False, True])
async def test_an_older_deployment_keeps_its_copies(tmp_path: Path, sealed: bool) -> None:
    data_dir = tmp_path / "data"
    identity = older(data_dir)
    settings: dict[str, object] = {"header_copies": 2}
    if sealed:
        write(tmp_path / "passphrase", PASSPHRASE.encode())
        settings["key_passphrase_file"] = tmp_path / "passphrase"
        text = (data_dir / IDENTITY_FILE).read_bytes()
        secret = Secret(PASSPHRASE.encode())
        write(data_dir / IDENTITY_FILE, seal_with_passphrase(text, secret, work_factor=4))
    before = (data_dir / IDENTITY_FILE).read_bytes()
    async with running_gateway(tmp_path, **settings) as gateway:
        await stored(gateway)
        deployment = gateway.gateway.parts.deployment_id

    assert [identity] == kept(data_dir / COPIES_FILE)
    assert 2 <= opens(data_dir, CopySealer(identity, deployment))
    assert before == (data_dir / IDENTITY_FILE).read_bytes()


async def test_the_file_of_an_older_deployment_is_enough_for_a_rebuild(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    identity = older(data_dir)
    async with running_gateway(tmp_path, header_copies=2) as gateway:
        urn = await stored(gateway)
    (data_dir / COPIES_FILE).unlink()  # an older gateway made none
    await asyncio.to_thread(lose_catalog, data_dir)
    done = await rebuilt(data_dir)

    assert 0 == done.status, done
    assert [identity] == kept(data_dir / COPIES_FILE)
    async with running_gateway(tmp_path) as gateway:
        assert await readable(gateway, urn)


async def test_copies_outlast_the_versions_of_the_router(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    identity = older(data_dir)
    async with running_gateway(tmp_path, header_copies=2) as gateway:
        urn = await stored(gateway)
    keys = identity_file(data_dir)
    await keys.make(CLASSIC)
    async with running_gateway(tmp_path, header_copies=2) as gateway:
        later = await stored(gateway, "102")
        assert [identity] == [gateway.gateway.parts.copies_identity]
    await asyncio.to_thread(lose_catalog, data_dir)
    done = await rebuilt(data_dir)
    assert 0 == done.status, done
    async with running_gateway(tmp_path) as gateway:
        assert await readable(gateway, urn)
        assert await readable(gateway, later, "102")

    await keys.drop(str(identity.recipient()))
    await asyncio.to_thread(lose_catalog, data_dir)
    done = await rebuilt(data_dir)
    await keys.close()
    assert 1 == done.status, done
    assert re.search(rb"objects are sealed to age1\w+, and its identity is not held", done.out)
    assert b"2 objects" in done.out


async def test_a_new_deployment_has_two_identities(tmp_path: Path) -> None:
    async with running_gateway(tmp_path):
        pass
    copies, router = (kept(tmp_path / "data" / name) for name in (COPIES_FILE, IDENTITY_FILE))

    assert (1, 1) == (len(copies), len(router))
    assert copies != router


async def _renew(data_dir: Path) -> None:
    keys = identity_file(data_dir)
    await keys.make(CLASSIC)
    await keys.close()


@pytest.mark.parametrize("is_older", [True, False])
async def test_a_lost_one_is_never_made_anew(tmp_path: Path, is_older: bool) -> None:
    """A fresh one, or one of another version, would take all copies for forged."""
    data_dir = tmp_path / "data"
    if is_older:
        older(data_dir)
    async with running_gateway(tmp_path, header_copies=2) as gateway:
        await stored(gateway)
    await _renew(data_dir)
    (data_dir / COPIES_FILE).unlink()
    before = (data_dir / IDENTITY_FILE).read_bytes()

    with pytest.raises(ConfigError, match=rf"{COPIES_FILE}, is missing .*restore it"):
        async with running_gateway(tmp_path):
            pass
    lose: tuple[Callable[[Path], None], ...] = (lambda _: None, lose_catalog)
    for then in lose:
        await asyncio.to_thread(then, data_dir)
        done = await rebuilt(data_dir)
        assert (1, True) == (done.status, COPIES_FILE in done.err), done
    assert not (data_dir / COPIES_FILE).exists()
    assert before == (data_dir / IDENTITY_FILE).read_bytes()


async def test_first_starts_at_once_keep_one(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    identity = older(data_dir)

    async def run() -> Identity:
        async with running_gateway(tmp_path) as gateway:
            return gateway.gateway.parts.copies_identity

    assert [identity] * 3 == list(await asyncio.gather(*(run() for _ in range(3))))
