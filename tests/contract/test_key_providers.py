"""Goal: every place that may keep the router's identities keeps the same promises: many versions,
durable before they are told, none lost, none left in clear where it says so, no secret in an error.

Method: one suite over all of them, the transit engine on a real OpenBao; then what is peculiar to
each, and a server that answers rubbish.
"""

import asyncio
import hmac
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from crypto import (
    CLASSIC,
    HYBRID,
    HybridIdentity,
    Identity,
    IdentityError,
    Secret,
    X25519Identity,
    open_with_passphrase,
    seeded_identity,
)
from storage_gateway import configured_keys, key_passphrase
from storage_gateway.config import Config, ConfigError, load_config
from storage_gateway.configured_keys import provider_of
from storage_gateway.errors import KeyProviderUnavailable
from storage_gateway.key_passphrase import Passphrase
from storage_gateway.key_provider import KeyProvider
from storage_gateway.key_seed import SeedKeys
from tests.gateway import REPOSITORY
from tests.servers.openbao import OpenBao

PASSPHRASE, SEED = "a passphrase of the tests", "5eed" * 16
FILES = {
    "file": "router-identity.txt",
    "passphrase": "router-identity.txt",
    "seed": "router-salts.txt",
    "transit": "router-identity.transit",
}


def text(identity: Identity) -> str:
    return str(identity.recipient())


def secret_file(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


@dataclass
class Place:
    """A provider's kind, and all that makes one."""

    kind: str
    folder: Path
    config: Config
    made: list[KeyProvider] = field(default_factory=list)

    async def open(self, **settings: object) -> KeyProvider:
        """Return the provider as a process that starts now has it."""
        config = msgspec.structs.replace(self.config, **settings)
        provider = await asyncio.to_thread(provider_of, config)
        self.made.append(provider)
        return provider

    @property
    def file(self) -> Path:
        return self.folder / FILES[self.kind]

    async def close(self) -> None:
        for provider in self.made:
            await provider.close()


def config_of(kind: str, folder: Path, secrets: Path, bao: OpenBao | None) -> Config:
    options: dict[str, object] = {"data_dir": folder, "key_timeout_s": 20, "key_fresh_s": 100}
    if kind == "passphrase":
        options["key_passphrase_file"] = secret_file(secrets / "passphrase", f"{PASSPHRASE}\n")
    elif kind == "seed":
        options |= {"key_provider": "seed", "key_seed": SEED}
    elif bao is not None:
        key, token = bao.new_key()
        options |= {
            "key_provider": "transit",
            "key_transit_url": bao.url,
            "key_transit_key": key,
            "key_transit_token_file": secret_file(secrets / "token", f"{token}\n"),
        }
    return load_config(file=None, environment={}, options=options)


@pytest.fixture(params=FILES)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    kind = request.param
    bao = request.getfixturevalue("bao") if kind == "transit" else None
    quick = lambda path, passphrase: Passphrase(path, passphrase, work_factor=4)  # noqa: E731
    monkeypatch.setattr(configured_keys, "Passphrase", quick)
    folder = tmp_path / "data"
    folder.mkdir(0o700)
    made = Place(kind, folder, await asyncio.to_thread(config_of, kind, folder, tmp_path, bao))
    yield made
    await made.close()


@pytest.fixture
async def on_transit(bao: OpenBao, tmp_path: Path) -> AsyncIterator[Place]:
    folder = tmp_path / "data"
    folder.mkdir(0o700)
    config = await asyncio.to_thread(config_of, "transit", folder, tmp_path, bao)
    made = Place("transit", folder, config)
    yield made
    await made.close()


async def test_what_was_made_is_there_for_the_next_process(place: Place) -> None:
    provider = await place.open()
    assert () == await provider.load()
    made = [await provider.make(each) for each in (CLASSIC, HYBRID, CLASSIC)]
    other = await place.open()

    assert made == list(await provider.load()) == list(await other.load())
    assert made[0] == await other.make(CLASSIC, first=True)
    assert [CLASSIC, HYBRID, CLASSIC] == [one.key_class for one in made]
    assert 0o600 == place.file.stat().st_mode & 0o777
    assert provider.place == place.file.name


async def test_what_was_dropped_is_gone_and_the_only_one_stays(place: Place) -> None:
    provider = await place.open()
    made = [await provider.make(CLASSIC) for _ in range(3)]
    copy = place.file.read_bytes()
    await provider.drop(text(made[1]))
    await provider.drop(text(made[1]))
    assert [made[0], made[2]] == list(await (await place.open()).load())
    await provider.drop(text(made[2]))
    with pytest.raises(ConfigError, match="only identity is not erased"):
        await provider.drop(text(made[0]))

    assert [made[0]] == list(await (await place.open()).load())
    assert copy != place.file.read_bytes()
    later = await provider.make(CLASSIC)
    assert [made[0], later] == list(await (await place.open()).load())


async def test_versions_that_are_made_at_once_are_all_kept(place: Place) -> None:
    first = await (await place.open()).make(CLASSIC)
    several = [(await place.open()) for _ in range(3)]
    made = await asyncio.gather(*(one.make(CLASSIC) for one in several for _ in range(2)))

    assert {text(first), *map(text, made)} == {
        text(one) for one in await (await place.open()).load()
    }


async def test_first_starts_at_once_make_one(place: Place) -> None:
    several = [(await place.open()) for _ in range(4)]
    made = await asyncio.gather(*(one.make(CLASSIC, first=True) for one in several))

    assert 1 == len({text(one) for one in made}) == len(await (await place.open()).load())


DYING = """
import asyncio, os, sys
from pathlib import Path
from storage_gateway.config import load_config
from storage_gateway.configured_keys import provider_of

dies_at, steps = int(sys.argv[1]), 0

def step(event, args):
    global steps
    named = [a for a in args if isinstance(a, (str, bytes, os.PathLike))]
    if event in {"open", "os.rename", "os.remove", "os.link"} and any(
        "router-" in os.fsdecode(a) for a in named
    ):
        steps += 1
        if steps == dies_at:
            os.kill(os.getpid(), 9)

async def main():
    config = load_config(file=None, environment=os.environ, options={})
    provider = provider_of(config)
    made = await provider.make("classic")
    print("made", made.recipient(), flush=True)
    await provider.drop(sys.argv[2])
    print("dropped", sys.argv[2], flush=True)
    await provider.close()

sys.addaudithook(step)
asyncio.run(main())
"""


def died(place: Place, step: int, drop: str) -> tuple[int, str]:
    """Make a version and drop one in a process that dies at a step; return status and output."""
    config = place.config
    environment = {
        f"GATEWAY_{name.upper()}": str(value)
        for name in config.__struct_fields__
        if name.startswith("key_") and (value := getattr(config, name)) is not None
    }
    environment |= {"GATEWAY_DATA_DIR": str(place.folder), "PATH": os.environ["PATH"]}
    if config.key_seed is not None:
        environment["GATEWAY_KEY_SEED"] = config.key_seed.expose().decode()
    run = subprocess.run(
        [sys.executable, "-c", DYING, str(step), drop],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=environment,
        timeout=60,
    )
    assert run.returncode in (0, -9), run.stderr
    return run.returncode, run.stdout


@pytest.mark.parametrize("place", ["file", "seed", "transit"], indirect=True)
async def test_a_process_that_dies_at_any_step_loses_none(place: Place) -> None:
    """And what it leaves behind does not keep what is dropped later."""
    provider = await place.open()
    old = await provider.make(CLASSIC)
    deaths = 0
    for step in range(1, 60):
        gone = await provider.make(CLASSIC)
        at_most = place.file.read_bytes()
        status, out = await asyncio.to_thread(died, place, step, text(gone))
        held = {text(one) for one in await provider.load()}
        made = {line.split()[1] for line in out.splitlines() if line.startswith("made")}

        assert {text(old), *made} <= held, step
        assert not ("dropped" in out and text(gone) in held), step
        for each in held - {text(old)}:
            await provider.drop(each)
        if place.kind == "seed":
            salts = {line.split()[1].encode() for line in at_most.decode().splitlines()[2:]}
            left = b"".join(path.read_bytes() for path in place.folder.iterdir())
            assert 1 == sum(salt in left for salt in salts), step
        assert [] == list(place.folder.glob("*.tmp"))
        if status == 0:
            break
        deaths += 1
    else:
        pytest.fail("it never came to its end")

    assert deaths >= 8, deaths


async def test_only_a_plain_file_has_the_identities_in_clear(place: Place) -> None:
    made = await (await place.open()).make(CLASSIC)
    stored = b"".join(path.read_bytes() for path in place.folder.iterdir())

    assert (place.kind == "file") == (made.to_text().encode() in stored)


async def test_a_file_that_was_spoilt_is_refused_and_left(place: Place) -> None:
    made = await (await place.open()).make(CLASSIC)
    for spoilt in (b"", b"\xff\xfe\n", place.file.read_bytes()[:40], b"# nothing\n"):
        place.file.write_bytes(spoilt)
        provider = await place.open()
        for asked in (
            provider.load(),
            provider.make(CLASSIC),
            provider.make(CLASSIC, first=True),
        ):
            with pytest.raises((ConfigError, KeyProviderUnavailable)) as refused:
                await asked
            for secret in (PASSPHRASE, SEED, made.to_text()):
                assert secret not in str(refused.value)
        assert spoilt == place.file.read_bytes()


WRONG: dict[str, tuple[Callable[[Place], dict[str, object]], str]] = {
    "passphrase": (
        lambda p: {"key_passphrase_file": secret_file(p.folder.parent / "other", "wrong")},
        "the passphrase does not open",
    ),
    "no passphrase": (lambda _: {"key_passphrase_file": None}, "set key_passphrase_file"),
    "seed": (lambda _: {"key_seed": Secret(b"x" * 32)}, "the seed is not the one"),
}


@pytest.mark.parametrize(
    ("place", "wrong"),
    [("passphrase", "passphrase"), ("passphrase", "no passphrase"), ("seed", "seed")],
    indirect=["place"],
)
async def test_another_secret_is_refused_and_writes_nothing(place: Place, wrong: str) -> None:
    await (await place.open()).make(CLASSIC)
    before = place.file.read_bytes()
    settings, said = WRONG[wrong]
    other = await place.open(**settings(place))

    for asked in (other.load(), other.make(CLASSIC)):
        with pytest.raises(ConfigError, match=said):
            await asked
    assert before == place.file.read_bytes()


@pytest.mark.parametrize("place", ["file"], indirect=True)
async def test_a_passphrase_for_a_file_that_is_not_sealed_says_how_to_seal_it(place: Place) -> None:
    await (await place.open()).make(CLASSIC)
    passphrase = secret_file(place.folder.parent / "passphrase", PASSPHRASE)

    with pytest.raises(ConfigError, match="age -p -o sealed"):
        await (await place.open(key_passphrase_file=passphrase)).load()
    passphrase.write_text("\n")
    with pytest.raises(ConfigError, match="holds no passphrase"):
        await place.open(key_passphrase_file=passphrase)


@pytest.mark.parametrize("place", ["passphrase"], indirect=True)
async def test_the_sealed_file_is_a_stock_one_and_is_opened_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await place.open()
    made = await provider.make(CLASSIC)
    data = place.file.read_bytes()
    assert made.to_text() in open_with_passphrase(data, Secret(PASSPHRASE.encode())).decode()

    opened: list[bytes] = []
    own = Passphrase._open

    def counted(self: Passphrase, data: bytes) -> bytes:
        opened.append(data)
        return own(self, data)

    monkeypatch.setattr(Passphrase, "_open", counted)
    other = await place.open()
    for _ in range(5):
        assert (made,) == await other.load()
    assert [data] == opened


@pytest.mark.parametrize("place", ["passphrase"], indirect=True)
async def test_what_took_too_long_to_open_is_there_for_the_next_who_asks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a slow machine would never come to an answer."""
    made = await (await place.open()).make(CLASSIC)
    slow, began = threading.Event(), threading.Event()
    own = open_with_passphrase

    def open_slowly(data: bytes, passphrase: Secret) -> bytes:
        began.set()
        assert slow.wait(20)
        return own(data, passphrase)

    monkeypatch.setattr(key_passphrase, "open_with_passphrase", open_slowly)
    other = await place.open()
    first = asyncio.create_task(other.load())
    await asyncio.to_thread(began.wait, 20)
    first.cancel()
    second = asyncio.create_task(other.load())
    await asyncio.sleep(0)
    slow.set()
    assert (made,) == await second
    monkeypatch.setattr(key_passphrase, "open_with_passphrase", None)  # not computed once more
    assert (made,) == await other.load()


@pytest.mark.parametrize("place", ["seed"], indirect=True)
async def test_without_its_salt_a_version_is_lost_though_the_seed_stays(place: Place) -> None:
    provider = await place.open()
    first, second = await provider.make(CLASSIC), await provider.make(HYBRID)
    salts = place.file.read_text()
    lines = salts.splitlines()
    place.file.unlink()
    again = await place.open()
    assert () == await again.load()
    assert await again.make(CLASSIC) not in (first, second)

    place.file.write_text(salts)
    assert (first, second) == await (await place.open()).load()
    place.file.write_text("\n".join(line for line in lines if text(first) not in line))
    assert (second,) == await (await place.open()).load()
    for line in ("classic AAAA 2026 age1", "classic", f"other {lines[-1].split(' ', 1)[1]}"):
        place.file.write_text(f"{salts}{line}\n")
        with pytest.raises(ConfigError, match=f"line {len(lines) + 1} is not"):
            await (await place.open()).load()


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ({}, {}, "needs either"),
        ({}, {"ENCRYPTION_SEED": "guessed"}, "at least 32 bytes"),
        ({"key_seed_file": "short"}, {}, "at least 32 bytes"),
        ({"key_seed_file": "long"}, {"ENCRYPTION_SEED": "guessed"}, None),
        ({}, {"ENCRYPTION_SEED": SEED}, None),
    ],
)
async def test_a_seed_comes_from_a_file_or_the_environment(
    tmp_path: Path, options: dict[str, object], environment: dict[str, str], said: str | None
) -> None:
    secret_file(tmp_path / "short", "guessed")
    secret_file(tmp_path / "long", f"{SEED}\n")
    settings: dict[str, object] = {"data_dir": tmp_path, "key_provider": "seed"}
    settings |= {name: tmp_path / str(value) for name, value in options.items()}

    async def opened() -> KeyProvider:
        config = load_config(file=None, environment=environment, options=settings)
        return await asyncio.to_thread(provider_of, config)

    if said is not None:
        with pytest.raises(ConfigError, match=said) as refused:
            await opened()
        assert "guessed" not in str(refused.value)
        return
    provider, direct = (
        await opened(),
        SeedKeys(tmp_path / "router-salts.txt", Secret(SEED.encode())),
    )
    made = await provider.make(CLASSIC)
    assert (made,) == await direct.load()
    assert SEED not in repr(load_config(file=None, environment=environment, options=settings))
    for each in (provider, direct):
        await each.close()


def hkdf(seed: bytes, salt: bytes, label: bytes) -> Secret:
    """Return 32 bytes as RFC 5869 says, by the standard library."""
    key = hmac.digest(salt, seed, "sha256")
    return Secret(hmac.digest(key, label + b"\x01", "sha256"))


def test_what_the_seed_makes_is_fixed() -> None:
    """Another derivation would lose every version that there is."""
    seed, salt = bytes(range(32)), bytes(range(32, 64))
    label = b"storage-gateway/router-seed-v1"

    classic = X25519Identity(hkdf(seed, salt, label + b"/classic"))
    assert "age1hy8f72f9yecyt9nx8afencznhprhntdhvm5szwv4f9t4hx8xspuq26hh98" == text(classic)
    assert classic == seeded_identity(Secret(seed), salt, CLASSIC)
    hybrid = HybridIdentity(hkdf(seed, salt, label + b"/hybrid"))
    assert hybrid == seeded_identity(Secret(seed), salt, HYBRID)
    for wrong in ((seed[:31], salt, CLASSIC), (seed, salt[:31], CLASSIC), (seed, salt, "other")):
        with pytest.raises(IdentityError):
            seeded_identity(Secret(wrong[0]), wrong[1], wrong[2])


async def test_a_rotated_transit_key_opens_what_it_wrapped_before(
    on_transit: Place, bao: OpenBao
) -> None:
    provider = await on_transit.open()
    first = await provider.make(CLASSIC)
    assert on_transit.file.read_text().startswith("vault:v1:")
    await asyncio.to_thread(bao.rotate, on_transit.config.key_transit_key)
    assert (first,) == await (await on_transit.open()).load()
    second = await provider.make(CLASSIC)

    assert on_transit.file.read_text().startswith("vault:v2:")
    assert (first, second) == await (await on_transit.open()).load()


async def _revoke(place: Place, bao: OpenBao) -> None:
    token = place.config.key_transit_token_file
    assert token is not None
    await asyncio.to_thread(bao.revoke, token.read_text().strip())


async def _stop(_place: Place, bao: OpenBao) -> None:
    await asyncio.to_thread(bao.stop)


async def _kill(_place: Place, bao: OpenBao) -> None:
    await asyncio.to_thread(bao.kill)


async def _seal(_place: Place, bao: OpenBao) -> None:
    await asyncio.to_thread(bao.kill)
    await asyncio.to_thread(bao.start_sealed)


TROUBLES: dict[str, Callable[[Place, OpenBao], Awaitable[None]]] = {
    "the token is revoked": _revoke,
    "the server hangs": _stop,
    "the server is gone": _kill,
    "the server is sealed": _seal,
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_server_in_trouble_is_told_and_changes_nothing(
    on_transit: Place, bao: OpenBao, trouble: str
) -> None:
    made = await (await on_transit.open()).make(CLASSIC)
    before = on_transit.file.read_bytes()
    await TROUBLES[trouble](on_transit, bao)
    provider = await on_transit.open(key_timeout_s=0.5)

    for asked in (provider.load(), provider.make(CLASSIC), provider.drop(text(made))):
        with pytest.raises(KeyProviderUnavailable) as told:
            await asyncio.wait_for(asked, 20)
        for hidden in (bao.url, "vault:", before.decode().strip()):
            assert hidden not in str(told.value)
    assert before == on_transit.file.read_bytes()


async def test_after_a_crash_of_the_server_all_is_there(on_transit: Place, bao: OpenBao) -> None:
    made = await (await on_transit.open()).make(CLASSIC)
    await asyncio.to_thread(bao.kill)
    await asyncio.to_thread(bao.start)

    assert (made,) == await (await on_transit.open()).load()


async def test_a_token_that_was_replaced_counts_at_once(on_transit: Place, bao: OpenBao) -> None:
    provider = await on_transit.open()
    made = await provider.make(CLASSIC)
    file = on_transit.config.key_transit_token_file
    assert file is not None
    good = file.read_text()
    file.write_text("s.none")
    with pytest.raises(KeyProviderUnavailable, match="answered 403"):
        await provider.load()
    file.write_text("")
    with pytest.raises(ConfigError, match="holds no token"):
        await provider.load()
    file.write_text(good)

    assert (made,) == await provider.load()
