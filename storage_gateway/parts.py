"""What a gateway is put together over: catalog, store, identity, names; and opening a deployment's
own, which makes them at first start and refuses what does not belong together.
"""

import asyncio
import itertools
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from crypto import Identity

from .backends import KeyedStore, LocalStore, Member, Replicas
from .backends.contract import MARKER_CONTENT
from .backends.disk import LOST_AND_FOUND
from .backends.ipfs import IPFSStore
from .backends.ipfs_gateway import IPFSGateway
from .backends.metered import Observe
from .backends.s3 import S3Store
from .bad_copies import BadCopies
from .catalog import Catalog, PostgresCatalog, SQLiteCatalog
from .catalog.schema import is_new
from .catalog.sessions import (
    has_operator_token,
    register_router,
    router_recipient,
    set_operator_token,
)
from .catalog.work import has_marker, load_deployment, record_marker, stores_in_use
from .config import Config, ConfigError, LocalBackend
from .custody import (
    OPERATOR_TOKEN_FILE,
    load_identity,
    load_secret,
    make_data_dir,
    make_identity,
    read_secret,
    write_secret,
)
from .database_url import DatabaseURL
from .errors import BackendUnavailable, BlobMissing, TokenExpired
from .ids import new_random_id
from .pins import pins_in
from .records import TokenKind
from .stores import (
    STORE_FOLDER,
    OpenStore,
    backends_of,
    join_stores,
    members_of,
    open_gateways,
    open_stores,
)
from .tokens import TOKEN_LENGTH_MAX, TOKEN_LENGTH_MIN, new_token, token_digest

logger = logging.getLogger(__name__)

CATALOG_FILE = "catalog.sqlite3"
COPIED_FILE = f"{CATALOG_FILE}.copied"
"""What becomes of the file once `catalog copy` has moved it to PostgreSQL."""
START_S_MAX = 5.0
"""How long the start waits for one of several stores that is known: it can do without."""
ALONE_S_MAX = 10.0
"""How long for one that it cannot do without; longer is what requests may wait, not who starts."""
MAIN = "main"
"""The namespace of a deployment's own objects. No setting: with another value nothing that is
stored would be found."""
STRESS = "stress-"
"""What the namespaces of stress runs begin with."""


def stress_namespace(run_id: str) -> str:
    """Return the namespace of a stress run; `stress_runs` in the catalog names all there are."""
    return f"{STRESS}{run_id}"


def payloads_prefix(deployment_id: str, namespace: str = MAIN) -> str:
    """Return the key prefix of all payloads of a namespace."""
    return f"{deployment_id}/{namespace}/payloads/"


def marker_key(deployment_id: str) -> str:
    """Return the key of the object that marks a store as this deployment's."""
    return f"{deployment_id}/marker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one gateway works on. Who opened them closes them, after the gateway has stopped."""

    catalog: Catalog
    store: KeyedStore
    identity: Identity = field(repr=False)
    deployment_id: str
    namespace: str = MAIN
    members: tuple[Member, ...] = ()
    """The stores that ``store`` is made of; in a stress run it hides them, and there are none."""
    replicas: Replicas | None = None
    """What ``store`` is, or is over, if it is of several stores."""
    nodes: tuple[IPFSStore, ...] = ()
    """Those of them that are IPFS nodes."""
    gateways: tuple[IPFSGateway, ...] = ()
    """What sessions that name it may read from besides; no part of ``store``."""

    @property
    def payloads(self) -> str:
        """The key prefix of all payloads."""
        return payloads_prefix(self.deployment_id, self.namespace)

    @property
    def marker(self) -> str:
        """The key of the object that marks the store as this deployment's."""
        return marker_key(self.deployment_id)


async def open_parts(
    config: Config, opened: AsyncExitStack, observe: Observe | None = None
) -> Parts:
    """Open or create a deployment's own parts; ``opened`` is told how to close them.

    ``observe`` is told of what the stores are asked for.

    Raises:
        ConfigError: something is there that does not belong together; nothing of it was changed.
        GatewayError: catalog or store cannot be used.

    """
    # In threads throughout: the loop may be serving another gateway already.
    await asyncio.to_thread(make_data_dir, config.data_dir)
    catalog = await asyncio.to_thread(open_catalog, config)
    opened.push_async_callback(asyncio.to_thread, catalog.close)
    candidate = new_random_id()
    deployment_id = await catalog.run(lambda c: load_deployment(c, candidate))
    stores = await open_stores(config, marker_key(deployment_id), opened, pins_in(catalog))
    members = members_of(config, stores, observe)
    await _refuse_unknown(catalog, members)
    nodes = tuple(store for store in stores if isinstance(store, IPFSStore))
    await _refuse_one_node_twice(nodes)
    for member, store in zip(members, stores, strict=True):
        await _check_marker(catalog, member, store, deployment_id, alone=len(members) == 1)
    identity = await _load_identity(catalog, config.data_dir)
    await _provide_operator_token(catalog, config.data_dir / OPERATOR_TOKEN_FILE)
    bad_copies = BadCopies(catalog, payloads_prefix(deployment_id))
    opened.push_async_callback(bad_copies.close)
    joined = join_stores(config, members, opened, on_bad=bad_copies.note)
    return Parts(
        catalog=catalog,
        store=joined,
        replicas=joined if isinstance(joined, Replicas) and len(members) > 1 else None,
        members=members,
        nodes=nodes,
        gateways=await open_gateways(config, opened, observe),
        identity=identity,
        deployment_id=deployment_id,
    )


async def _refuse_unknown(catalog: Catalog, members: tuple[Member, ...]) -> None:
    """Nothing may look lost because the store that has it is not asked."""
    names = {member.name for member in members}
    for known in await catalog.read(stores_in_use):
        if known not in names:
            raise ConfigError(
                f"backend {known} holds payloads and is not configured: add it to the backends"
                " again, under that name"
            )


async def _refuse_one_node_twice(nodes: Sequence[IPFSStore]) -> None:
    """Two names for one node would be two failure domains that are lost at one blow."""
    if len(nodes) < 2:  # noqa: PLR2004
        return

    async def identify(node: IPFSStore) -> str | None:
        try:
            async with asyncio.timeout(START_S_MAX):
                return await node.identify()
        except (TimeoutError, BackendUnavailable):
            return None  # whether it can be done without is seen to below

    ids = dict(zip(nodes, await asyncio.gather(*map(identify, nodes)), strict=True))
    for one, other in itertools.combinations(nodes, 2):
        if ids[one] and ids[one] == ids[other]:
            raise ConfigError(
                f"backends {one.name} and {other.name} are one IPFS node: leave one of them out"
            )


async def _check_marker(
    catalog: Catalog, member: Member, store: OpenStore, deployment_id: str, *, alone: bool
) -> None:
    """Make sure that the store is this deployment's: never write into another one's.

    One of several that is known and cannot be reached now is not written to until it can be.
    """
    marker = marker_key(deployment_id)
    known = await catalog.read(lambda c: has_marker(c, store.name))
    spared = known and not alone
    within_s = START_S_MAX if spared else ALONE_S_MAX
    try:
        async with asyncio.timeout(within_s):
            await store.stat(marker)
    except TimeoutError:
        said = f"store {store.name} did not answer within {within_s:g} seconds"
        if not spared:  # whatever else is asked of it now would wait as long again, and longer
            why = "it is the only one" if known else "it was never looked at"
            raise BackendUnavailable(f"{said}, and {why}: start again when it does") from None
        _do_without(member, said)
        return
    except (BlobMissing, BackendUnavailable) as error:
        if spared and isinstance(error, BackendUnavailable):
            _do_without(member, str(error))
            return
        if known and not isinstance(store, LocalStore):
            raise  # it says whether it is another one or merely out of reach
        if known:
            raise ConfigError(
                f"store {store.name} lacks the marker {marker} of this deployment:"
                " it is another store, or not mounted. Nothing was changed"
            ) from error
        await _refuse_foreign_store(store, deployment_id)
        await _refuse_unfit(store, deployment_id)
        await make_marker(store, marker)
    if not known:
        await catalog.run(lambda c: record_marker(c, store.name))


def _do_without(member: Member, why: str) -> None:
    member.ready = False
    logger.warning("store out of reach at start", extra={"store": member.name, "why": why})


async def make_marker(store: KeyedStore, marker: str) -> None:
    """Mark a store as this deployment's.

    Raises:
        GatewayError: it does not have the marker now.

    """
    # Nothing is ever overwritten: another process that starts now may have been faster.
    with suppress(BackendUnavailable):
        await store.put(marker, MARKER_CONTENT)
    await store.stat(marker)


def _names_in(folder: Path) -> set[str]:
    """Return what is in a store's folder, if it is there, but for what its file system made."""
    if not folder.exists():
        return set()
    return {entry.name for entry in folder.iterdir()} - {LOST_AND_FOUND}


async def _refuse_foreign_store(store: OpenStore, deployment_id: str) -> None:
    if isinstance(store, IPFSStore):
        return  # a node has room for many: each has roots of its own
    if isinstance(store, S3Store):
        foreign = await store.holds_other(deployment_id)
        place = f"bucket {store.settings.bucket} at {store.settings.endpoint}"
    else:
        place = str(store.root)
        foreign = bool(await asyncio.to_thread(_names_in, store.root) - {deployment_id})
    if foreign:
        raise ConfigError(
            f"{place} holds the objects of another deployment, and the catalog beside it is"
            " new: restore that deployment's catalog, or use an empty one"
        )


async def _refuse_unfit(store: OpenStore, deployment_id: str) -> None:
    """A store that lacks what all rests on must not be found out by what it lost."""
    if isinstance(store, LocalStore):
        return
    report = await store.probe(deployment_id, everything=False)
    for finding in report.findings:
        told = {"store": store.name, "kind": finding.kind, "detail": finding.detail}
        logger.warning("found out about a store", extra=told)
    if report.refusals:
        whys = "; ".join(f"{finding.detail}: {finding.remedy}" for finding in report.refusals)
        raise ConfigError(f"store {store.name} cannot be used: {whys}")


async def _load_identity(catalog: Catalog, data_dir: Path) -> Identity:
    """Return the router's identity; a lost or exchanged one is a refusal, never a new one."""
    # In this order: another process that starts now makes the file first, then registers it.
    known = await catalog.read(router_recipient)
    identity = await asyncio.to_thread(load_identity, data_dir)
    if identity is None:
        if known is not None:
            raise ConfigError(
                f"the router's identity is missing from {data_dir}: restore it from a backup;"
                " without it the gateway can open nothing"
            )
        identity = await asyncio.to_thread(make_identity, data_dir)
    recipient = str(identity.recipient())
    stored = await catalog.run(lambda c: register_router(c, recipient, identity.key_class))
    if stored != recipient:
        raise ConfigError(
            f"the identity in {data_dir} is not the one that this deployment's objects are"
            f" sealed to ({stored}): restore that one"
        )
    return identity


async def _provide_operator_token(catalog: Catalog, path: Path) -> None:
    """Make the operator's token at first start; the file is durable before it counts."""
    if not await asyncio.to_thread(path.exists):
        if await catalog.read(has_operator_token):
            return  # taken away by the operator, who keeps it elsewhere
        with suppress(FileExistsError):  # another process made it meanwhile
            token = new_token(TokenKind.OPERATOR)
            await asyncio.to_thread(write_secret, path, f"{token}\n")
    token = (await asyncio.to_thread(load_secret, path)).strip()
    if not TOKEN_LENGTH_MIN <= len(token) <= TOKEN_LENGTH_MAX:
        raise ConfigError(
            f"{path} must hold {TOKEN_LENGTH_MIN} to {TOKEN_LENGTH_MAX} characters: a token"
            " must be too long to guess"
        )
    # Whoever replaces the file revokes what it held: there is no other way to take a leaked
    # operator's token back.
    digest = token_digest(token)
    try:
        await catalog.run(lambda c: set_operator_token(c, digest))
    except TokenExpired as error:
        raise ConfigError(f"{path} holds a token that was revoked: put a new one there") from error


def open_catalog(config: Config, *, as_it_is: bool = False) -> Catalog:
    """Open the deployment's catalog, or make it for a new deployment. Blocks.

    ``as_it_is``: makes and migrates nothing, and refuses what would need it.

    Raises:
        ConfigError: the catalog that the store belongs to is another one, or gone.
        CatalogUnavailable: the catalog cannot be used.

    """
    file = config.data_dir / CATALOG_FILE
    # Looked at first: another process that starts now makes the catalog first, then the store.
    folders = [b.path for b in backends_of(config) if isinstance(b, LocalBackend)]
    full = [folder for folder in folders if _names_in(folder)]
    store, holds_objects = next(iter(full), config.data_dir / STORE_FOLDER), bool(full)

    def check(connection: Connection) -> None:
        if holds_objects and is_new(connection):
            raise _lost_catalog(store, f"{config.catalog_url or file}, is empty")

    if config.catalog_url is None:
        copied = file.with_name(COPIED_FILE)
        if copied.exists() and not file.exists():
            raise ConfigError(
                f"the catalog of this folder was copied to PostgreSQL ({copied} is what it was):"
                " set catalog_url to that database"
            )
        if holds_objects and not file.exists():
            raise _lost_catalog(store, f"{file}, is gone")
        return SQLiteCatalog.open(file, as_it_is=as_it_is, check=check)
    if file.exists():
        raise ConfigError(
            f"catalog_url names {config.catalog_url}, but {file} is the catalog of this folder:"
            " move it with storage-gateway catalog copy, or leave catalog_url unset"
        )
    url = login_url(config, config.catalog_url)
    return PostgresCatalog.open(url, as_it_is=as_it_is, check=check)


def login_url(config: Config, url: DatabaseURL) -> DatabaseURL:
    """Return the catalog's URL with its password, read from its file if it has one. Blocks.

    Raises:
        ConfigError: the file cannot be read, or holds no password.

    """
    if config.catalog_password_file is None:
        return url
    password = read_secret(config.catalog_password_file).strip()
    try:
        return url.with_password(password)
    except ValueError as error:
        raise ConfigError(f"{config.catalog_password_file}: {error}") from None


def _lost_catalog(store: Path, what: str) -> ConfigError:
    """A store without a catalog is no new deployment: making one would hide what was lost."""
    return ConfigError(
        f"{store} holds the objects of a deployment whose catalog, {what}: restore it from a"
        " backup, set catalog_url if it is in PostgreSQL, or use an empty data folder"
    )
