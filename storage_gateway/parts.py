"""What a gateway is put together over: catalog, store, identity, names; and opening a deployment's
own, which makes them at first start and refuses what does not belong together.
"""

import asyncio
import itertools
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from crypto import CLASSIC, X25519Identity

from .backends import KeyedStore, Member, Replicas
from .backends.ipfs import IPFSStore
from .backends.ipfs_gateway import IPFSGateway
from .backends.metered import Observe
from .bad_copies import BadCopies
from .catalog import Catalog, PostgresCatalog, SQLiteCatalog
from .catalog.schema import is_new
from .catalog.sessions import (
    has_operator_token,
    register_router,
    router_recipient,
    set_operator_token,
)
from .catalog.work import forget_markers, load_deployment, stores_in_use
from .config import Config, ConfigError, LocalBackend
from .configured_keys import keyring_of, passphrase_of
from .custody import (
    OPERATOR_TOKEN_FILE,
    copies_missing,
    load_copies_identity,
    load_secret,
    make_copies_identity,
    make_data_dir,
    read_secret,
    write_secret,
)
from .database_url import DatabaseURL
from .errors import BackendUnavailable, KeyProviderUnavailable, TokenExpired
from .ids import new_random_id
from .key_provider import identity_file
from .keyring import Keyring
from .markers import START_S_MAX, check_marker, marker_key, names_in
from .pins import pins_in
from .records import TokenKind
from .stores import (
    STORE_FOLDER,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one gateway works on. Who opened them closes them, after the gateway has stopped."""

    catalog: Catalog
    store: KeyedStore
    keyring: Keyring = field(repr=False)
    """The router's identities."""
    copies_identity: X25519Identity = field(repr=False)
    """What signs the manifest copies."""
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
    def prefix(self) -> str:
        """The key prefix of the namespace."""
        return f"{self.deployment_id}/{self.namespace}/"

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
        await check_marker(catalog, member, store, deployment_id, alone=len(members) == 1)
    copies_identity = await _provide_copies_identity(catalog, config)
    keyring = await asyncio.to_thread(keyring_of, config)
    opened.push_async_callback(keyring.close)
    await _provide_router(catalog, keyring, config.data_dir)
    keyring.start()
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
        keyring=keyring,
        copies_identity=copies_identity,
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
    # What comes back later has missed copies of manifests, and tombstones.
    await catalog.run(partial(forget_markers, names=names))


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


async def _provide_copies_identity(catalog: Catalog, config: Config) -> X25519Identity:
    """Return the identity of the manifest copies; a lost one is a refusal, never a new one."""
    known = await catalog.read(router_recipient)
    found = await find_copies_identity(config)
    if found is not None:
        return found
    if known is not None:
        raise copies_missing(config)
    return await asyncio.to_thread(make_copies_identity, config.data_dir)


async def find_copies_identity(config: Config) -> X25519Identity | None:
    """Return the identity that signs the manifest copies, if there is one.

    An older gateway made copies with the router's only identity: that is kept for them then.

    Raises:
        ConfigError: it is not usable, or gone.

    """
    found = await asyncio.to_thread(load_copies_identity, config.data_dir)
    if found is not None:
        return found
    older = identity_file(config.data_dir, await asyncio.to_thread(passphrase_of, config))
    try:
        held, is_older = await older.load(), not await older.has_copies_note()
    finally:
        await older.close()
    # Another process that starts for the first time makes both, this one first.
    found = await asyncio.to_thread(load_copies_identity, config.data_dir)
    if found is not None or not held:
        return found
    if not is_older:
        raise copies_missing(config)
    return await asyncio.to_thread(make_copies_identity, config.data_dir, held[0])


async def _provide_router(catalog: Catalog, keyring: Keyring, data_dir: Path) -> None:
    """Make sure that the keyring holds what the deployment seals to: a lost or exchanged identity
    is a refusal, never a new one. A provider that is away is waited for later on.
    """
    # In this order: another process that starts now makes the identity first, then registers it.
    known = await catalog.read(router_recipient)
    try:
        await keyring.refresh()
        if not keyring.opening():
            if known is not None:
                raise ConfigError(
                    f"the router's identity is missing from {data_dir}: restore it from a backup;"
                    " without it the gateway can open nothing"
                )
            await keyring.make(CLASSIC, first=True)
    except KeyProviderUnavailable as error:
        if known is None:
            raise ConfigError(
                f"the first start needs the key provider, to make the router's identity: {error}"
            ) from error
        told = {"provider": keyring.state().provider, "reason": str(error)}
        logger.error("key provider away", extra=told)  # noqa: TRY400 - known
        return
    registered = await _register(catalog, keyring)
    if keyring.identity_for(registered) is None:
        await keyring.refresh()  # another process may have made and activated it meanwhile
    if keyring.identity_for(registered) is None:
        raise ConfigError(
            f"the identity in {data_dir / keyring.place} is not the one that this deployment's"
            f" objects are sealed to ({registered}): restore that one"
        )


async def _register(catalog: Catalog, keyring: Keyring) -> str:
    """Return the recipient that the deployment seals to; the newest one is it from the first start
    on.
    """
    held = [one for one in keyring.opening() if one.key_class == CLASSIC]
    if not held:
        raise ConfigError(
            f"{keyring.place} must hold a {CLASSIC} identity, whatever class the sessions are of"
        )
    newest = str(held[-1].recipient())
    return await catalog.run(lambda c: register_router(c, newest, CLASSIC))


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


def open_catalog(config: Config, *, as_it_is: bool = False, rebuilding: bool = False) -> Catalog:
    """Open the deployment's catalog, or make it for a new deployment. Blocks.

    ``as_it_is``: makes and migrates nothing, and refuses what would need it. ``rebuilding``: makes
    it also beside stores that hold objects.

    Raises:
        ConfigError: the catalog that the store belongs to is another one, or gone.
        CatalogUnavailable: the catalog cannot be used.

    """
    file = config.data_dir / CATALOG_FILE
    # Looked at first: another process that starts now makes the catalog first, then the store.
    folders = [b.path for b in backends_of(config) if isinstance(b, LocalBackend)]
    full = [folder for folder in folders if names_in(folder)]
    store, holds_objects = next(iter(full), config.data_dir / STORE_FOLDER), bool(full)
    holds_objects = holds_objects and not rebuilding

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
        " backup, make it again with storage-gateway catalog rebuild, set catalog_url if it is in"
        " PostgreSQL, or use an empty data folder"
    )
