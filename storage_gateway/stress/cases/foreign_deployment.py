"""``foreign-deployment``: a gateway is pointed at stores that belong to another deployment."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from storage_gateway.backend_settings import Backend, IPFSBackend, LocalBackend
from storage_gateway.backends import KeyedStore, LocalStore
from storage_gateway.backends.contract import MARKER_CONTENT
from storage_gateway.config import Config, ConfigError
from storage_gateway.errors import GatewayError
from storage_gateway.markers import marker_key
from storage_gateway.parts import open_parts
from storage_gateway.sessions import Sessions
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.damage import require_right, store_objects
from storage_gateway.stress.load import Member, open_member
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import RunStore
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

THEIRS = "theirs"
"""What the other deployment calls its store, its folder and its session."""


class ForeignDeployment(Parameters, kw_only=True, frozen=True):
    """Parameters of ``foreign-deployment``."""

    sizes: Sizes = (4096, 1_000_000)


@dataclass(frozen=True, slots=True)
class _Other:
    """Another deployment, with a store and an object of its own."""

    config: Config
    deployment_id: str
    member: Member
    urn: str
    body: Body

    @property
    def store(self) -> Path:
        """The folder of its store."""
        return self.config.data_dir / "store"

    @property
    def backend(self) -> LocalBackend:
        """Its store, as it is configured."""
        return LocalBackend(name=THEIRS, path=self.store)


Attempt = tuple[str, Config]
"""What is tried, in words, and the settings of the gateway that must refuse to start."""


async def run(trial: Trial, _parameters: ForeignDeployment) -> None:
    """Point new gateways, and those of another deployment, at stores that are not theirs."""
    member = await trial.member("stress")
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        stored = await store_objects(trial, customer)
        other = await _make_other(trial)
        # A node has room for many deployments: each has roots of its own.
        ours = [s for s in trial.world.stores if not isinstance(s.backend, IPFSBackend)]
        trial.begin_faults()
        async with _unchanged(trial, ours, other):
            tried, started = 0, list[str]()
            for attempts in (_at_our_stores(trial, ours, other), _without_marker(trial, other)):
                async for what, config in attempts:
                    tried += 1
                    if await _starts(trial, config):
                        started.append(what)
        trial.require_all("a gateway refuses to start on what is not its own", started)
        trial.verdict.require(
            "gateways were pointed at stores that are not theirs",
            met=len(ours) > 0,
            evidence=f"{tried} times, at {[s.name for s in ours]} and at {THEIRS}",
        )
        await require_right(trial, customer, stored, "the objects in the stores are read as before")
    await _require_theirs(trial, other)


def _other_config(trial: Trial) -> Config:
    folder = trial.world.folder / THEIRS
    backend = LocalBackend(name=THEIRS, path=folder / "store")
    return msgspec.structs.replace(
        trial.world.config, data_dir=folder, backends=(backend,), write_quorum=None
    )


async def _make_other(trial: Trial) -> _Other:
    """Make another deployment, store an object there, and stop it."""
    config, body = _other_config(trial), trial.body()
    async with AsyncExitStack() as opened:
        parts = await open_parts(config, opened)
        sessions = Sessions(
            parts.catalog,
            keyring=parts.keyring,
            miners_max=config.miners_max,
            token_lifetime_s=config.token_lifetime_s,
        )
        member = await open_member(sessions, THEIRS)
        async with _running(trial.world.make_gateway(config, parts)) as gateway:
            answer = await trial.customer(gateway, member).upload("t0", body)
    trial.require_all("the other deployment stores an object", [] if answer.urn else [str(answer)])
    return _Other(config, parts.deployment_id, member, answer.urn, body)


@asynccontextmanager
async def _running(gateway: GatewayLike) -> AsyncIterator[GatewayLike]:
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


async def _starts(trial: Trial, config: Config) -> bool:
    """Tell whether a gateway with its own catalog starts, which it should not."""
    try:
        async with _running(trial.world.make_gateway(config, None)):
            return True
    except (ConfigError, GatewayError):
        return False


async def _at_our_stores(
    trial: Trial, ours: list[RunStore], other: _Other
) -> AsyncIterator[Attempt]:
    """Yield what points at the run's stores, in which the serving deployment's objects lie."""
    for number, each in enumerate(ours):
        theirs = other.backend
        for what, data_dir, backends in _pointed_at(trial, each.backend, theirs, number):
            config = msgspec.structs.replace(other.config, data_dir=data_dir, backends=backends)
            yield f"{what}, at {each.name}", config


def _pointed_at(
    trial: Trial, backend: Backend, theirs: LocalBackend, number: int
) -> Iterator[tuple[str, Path, tuple[Backend, ...]]]:
    other = trial.world.folder / THEIRS
    yield "with a new catalog", trial.world.folder / f"new-{number}", (backend,)
    yield "with another catalog, beside its own store", other, (theirs, backend)
    in_its_place = msgspec.structs.replace(backend, name=THEIRS)
    yield "with another catalog, in the place of its own store", other, (in_its_place,)


async def _without_marker(trial: Trial, other: _Other) -> AsyncIterator[Attempt]:
    """Yield what points at the other deployment's store while its marker is not there."""
    marker = marker_key(other.deployment_id)
    store = LocalStore(other.store, name=THEIRS)
    try:
        await store.delete(marker)
        yield "with its own catalog, at its store without the marker", other.config
        new = trial.world.folder / "new-at-theirs"
        config = msgspec.structs.replace(other.config, data_dir=new)
        yield "with a new catalog, at another's store without the marker", config
        await store.put(marker, MARKER_CONTENT)
    finally:
        await asyncio.to_thread(store.close)


@asynccontextmanager
async def _unchanged(trial: Trial, ours: list[RunStore], other: _Other) -> AsyncIterator[None]:
    """Require that in the block nothing is changed, removed or added that is not its maker's."""
    store = LocalStore(other.store, name=THEIRS)
    prefix = trial.world.prefix
    looked = [(each.name, each.store, prefix) for each in ours] + [(THEIRS, store, "")]
    try:
        before = {name: await _contents(s, below) for name, s, below in looked}
        names = {each.name: await _names_in(each) for each in ours}
        yield
        changed = [
            f"{name}: {key}"
            for name, s, below in looked
            for key in _differing(before[name], await _contents(s, below))
        ]
        strange = [
            f"{each.name}: {found}"
            for each in ours
            for found in await _remove_strange(each, names[each.name], other)
        ]
    finally:
        await asyncio.to_thread(store.close)
    trial.require_all("nothing that is stored is changed or removed", changed)
    trial.require_all("nothing is put where another deployment's objects are", strange)
    trial.verdict.require(
        "there was something to change", met=all(before.values()), evidence=f"in {list(before)}"
    )


async def _contents(store: KeyedStore, prefix: str) -> Mapping[str, bytes]:
    """Return the digest of each blob."""
    found = [blob async for blob in store.list(prefix)]
    return {
        blob.key: hashlib.sha256(await store.get(blob.key, 0, blob.size)).digest() for blob in found
    }


def _differing(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    return [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]


async def _names_in(store: RunStore) -> set[str]:
    """Return what is in a folder; a bucket may be large."""
    backend = store.backend
    if not isinstance(backend, LocalBackend):
        return set()
    return await asyncio.to_thread(lambda: {entry.name for entry in backend.path.iterdir()})


async def _remove_strange(store: RunStore, before: set[str], other: _Other) -> list[str]:
    """Return what deployments left that had no business there, and remove it."""
    strange = (await _names_in(store) - before) | {other.deployment_id}
    found = [blob.key for name in strange async for blob in store.store.list(f"{name}/")]
    for key in found:
        await store.store.delete(key)
    if isinstance(store.store, LocalStore):
        for name in strange:
            await store.store.drop_folders(f"{name}/")
    return found


async def _require_theirs(trial: Trial, other: _Other) -> None:
    """Require that the other deployment starts again, and reads what it has."""
    async with _running(trial.world.make_gateway(other.config, None)) as gateway:
        customer = trial.customer(gateway, other.member)
        answer = await customer.fetch(other.urn, size=other.body.size)
    trial.verdict.require(
        "the other deployment reads its object as before",
        met=answer.outcome == OK and answer.digest == other.body.digest,
        evidence=f"with its marker back, reading came to {answer.outcome}",
    )


CASE = Case(
    name="foreign-deployment",
    edge_case="A gateway is pointed at a store that belongs to another deployment, or whose marker"
    " is gone.",
    fault="Gateways with a new catalog, and with one of another deployment that has objects, are"
    " started on the run's stores, beside their own or in its place; then on a store of which the"
    " marker was removed.",
    load="Objects are stored in both deployments before, and read afterwards.",
    passes_when="Each of these gateways refuses to start, no stored byte is changed, removed or"
    " added, and both deployments read what they have.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ForeignDeployment,
    expected_s=10.0,
    stores=2,
    quorum=2,
    run=run,
)
