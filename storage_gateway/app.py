"""Putting a gateway together, starting and stopping it. The only place that knows every part."""

import asyncio
import logging
import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from aiohttp import web

from crypto import Identity

from .api import GatewayRunner, Services, make_application
from .backends import LocalStore
from .catalog import SQLiteCatalog
from .catalog.sessions import (
    has_operator_token,
    register_router,
    router_recipient,
    set_operator_token,
)
from .catalog.work import has_marker, load_deployment, record_marker
from .config import Config, ConfigError
from .custody import (
    OPERATOR_TOKEN_FILE,
    load_identity,
    make_data_dir,
    make_identity,
    read_secret,
    write_secret,
)
from .erase import Erasure
from .errors import BackendUnavailable, BlobMissing, GatewayError, StorageFull, TokenExpired
from .ids import new_random_id
from .instance import Instance
from .read import Reads
from .records import TokenKind
from .recovery import Recovery
from .sessions import Sessions
from .settle import Settler
from .tokens import TOKEN_LENGTH_MAX, TOKEN_LENGTH_MIN, new_token, token_digest
from .write import Uploads

logger = logging.getLogger(__name__)

CATALOG_FILE = "catalog.sqlite3"
STORE_FOLDER = "store"
NAMESPACE = "main"
"""Where payloads lie below the deployment's prefix; stress runs will have others. No setting: with
another value nothing that is stored would be found."""


def payloads_prefix(deployment_id: str) -> str:
    """Return the key prefix of all payloads."""
    return f"{deployment_id}/{NAMESPACE}/payloads/"


def marker_key(deployment_id: str) -> str:
    """Return the key of the object that marks a store as this deployment's."""
    return f"{deployment_id}/marker"


class Gateway:
    """One running gateway process. `start` it, ask for its `url`, `stop` it."""

    def __init__(self, config: Config) -> None:
        """Nothing is touched before `start`."""
        self._config = config
        self._threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="seal")
        self._opened = AsyncExitStack()
        self.url = ""

    async def start(self) -> None:
        """Open or create everything, then listen; on any failure, close what was opened.

        Raises:
            ConfigError: something is there that does not belong together; nothing was changed.
            GatewayError: catalog or store cannot be used.

        """
        try:
            await self._start()
        except OSError as error:
            await self._opened.aclose()
            raise ConfigError(f"{error.filename or 'start'}: {error.strerror}") from error
        except BaseException:
            await self._opened.aclose()
            raise

    async def stop(self) -> None:
        """Refuse new work, let what is under way finish (at most ``drain_s``), then close."""
        self.services.draining = True
        await self._opened.aclose()

    async def _start(self) -> None:
        config = self._config
        # In threads throughout: the loop may be serving another gateway already.
        self._opened.push_async_callback(asyncio.to_thread, self._threads.shutdown)
        await asyncio.to_thread(make_data_dir, config.data_dir)
        await asyncio.to_thread(_refuse_lost_catalog, config.data_dir)
        self._catalog = await asyncio.to_thread(SQLiteCatalog.open, config.data_dir / CATALOG_FILE)
        self._opened.push_async_callback(asyncio.to_thread, self._catalog.close)
        self._store = LocalStore(config.data_dir / STORE_FOLDER)
        self._opened.push_async_callback(asyncio.to_thread, self._store.close)
        candidate = new_random_id()
        deployment_id = await self._catalog.run(lambda c: load_deployment(c, candidate))
        self._marker = marker_key(deployment_id)
        await self._check_marker(deployment_id)
        identity = await self._load_identity()
        await self._provide_operator_token()
        self._instance = Instance(
            self._catalog,
            new_random_id(),
            lease_s=config.instance_lease_s,
            renew_s=config.instance_renew_s,
        )
        await self._instance.start()
        self._opened.push_async_callback(self._instance.stop)
        self._assemble(identity, payloads_prefix(deployment_id))
        passes = asyncio.create_task(self.recovery.run_forever(config.recovery_interval_s))
        self._opened.push_async_callback(_cancel, passes)
        self._opened.push_async_callback(self._uploads.wait_settled)
        await self._listen()

    def _assemble(self, identity: Identity, payloads: str) -> None:
        config, catalog, store = self._config, self._catalog, self._store
        instance_id = self._instance.instance_id
        settler = Settler(catalog, store, instance_id=instance_id, payloads=payloads)
        self._uploads = Uploads(
            catalog=catalog,
            store=store,
            threads=self._threads,
            settler=settler,
            identity=identity,
            instance_id=instance_id,
            payloads=payloads,
            check_room=self._check_room,
        )
        self.recovery = Recovery(
            catalog=catalog,
            store=store,
            settler=settler,
            payloads=payloads,
            horizon_s=config.late_write_horizon_s,
        )
        self.services = Services(
            config=config,
            catalog=catalog,
            sessions=Sessions(
                catalog,
                identity=identity,
                miners_max=config.miners_max,
                token_lifetime_s=config.token_lifetime_s,
            ),
            uploads=self._uploads,
            reads=Reads(
                catalog=catalog,
                store=store,
                threads=self._threads,
                identity=identity,
                payloads=payloads,
            ),
            erasure=Erasure(catalog=catalog, settler=settler),
            check_ready=self._check_ready,
        )

    async def _listen(self) -> None:
        config = self._config
        self._runner = GatewayRunner(
            make_application(self.services),
            drain_s=config.drain_s,
            connections_max=config.connections_max,
        )
        await self._runner.setup()
        self._opened.push_async_callback(self._runner.cleanup)
        context = await asyncio.to_thread(_tls_context, config)
        site = web.TCPSite(self._runner, config.host, config.port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {config.host} port {config.port}: {error.strerror}"
            ) from error
        host, port = self._runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'http' if context is None else 'https'}://{shown}:{port}"

    async def _check_marker(self, deployment_id: str) -> None:
        """Make sure that the store is this deployment's: never write into another one's."""
        known = await self._catalog.read(lambda c: has_marker(c, self._store.name))
        try:
            await self._store.stat(self._marker)
        except (BlobMissing, BackendUnavailable) as error:
            if known:
                raise ConfigError(
                    f"store {self._store.name} lacks the marker {self._marker} of this deployment:"
                    " it is another store, or not mounted. Nothing was changed"
                ) from error
            await asyncio.to_thread(self._refuse_foreign_store, deployment_id)
            await self._store.put(self._marker, b"storage-gateway deployment marker v1\n")
        if not known:
            await self._catalog.run(lambda c: record_marker(c, self._store.name))

    def _refuse_foreign_store(self, deployment_id: str) -> None:
        folder = self._config.data_dir / STORE_FOLDER
        if folder.exists() and any(entry.name != deployment_id for entry in folder.iterdir()):
            raise ConfigError(
                f"{folder} holds the objects of another deployment, and the catalog beside it is"
                " new: restore that deployment's catalog, or use an empty data folder"
            )

    async def _load_identity(self) -> Identity:
        """Return the router's identity; a lost or exchanged one is a refusal, never a new one."""
        data_dir = self._config.data_dir
        identity = await asyncio.to_thread(load_identity, data_dir)
        known = await self._catalog.read(router_recipient)
        if identity is None:
            if known is not None:
                raise ConfigError(
                    f"the router's identity is missing from {data_dir}: restore it from a backup;"
                    " without it the gateway can open nothing"
                )
            identity = await asyncio.to_thread(make_identity, data_dir)
        recipient = str(identity.recipient())
        stored = await self._catalog.run(
            lambda c: register_router(c, recipient, identity.key_class)
        )
        if stored != recipient:
            raise ConfigError(
                f"the identity in {data_dir} is not the one that this deployment's objects are"
                f" sealed to ({stored}): restore that one"
            )
        return identity

    async def _provide_operator_token(self) -> None:
        """Make the operator's token at first start; the file is durable before it counts."""
        path: Path = self._config.data_dir / OPERATOR_TOKEN_FILE
        if not await asyncio.to_thread(path.exists):
            if await self._catalog.read(has_operator_token):
                return  # taken away by the operator, who keeps it elsewhere
            with suppress(FileExistsError):  # another process made it meanwhile
                token = new_token(TokenKind.OPERATOR)
                await asyncio.to_thread(write_secret, path, f"{token}\n")
        token = (await asyncio.to_thread(read_secret, path)).strip()
        if not TOKEN_LENGTH_MIN <= len(token) <= TOKEN_LENGTH_MAX:
            raise ConfigError(
                f"{path} must hold {TOKEN_LENGTH_MIN} to {TOKEN_LENGTH_MAX} characters: a token"
                " must be too long to guess"
            )
        # Whoever replaces the file revokes what it held: there is no other way to take a leaked
        # operator's token back.
        digest = token_digest(token)
        try:
            await self._catalog.run(lambda c: set_operator_token(c, digest))
        except TokenExpired as error:
            raise ConfigError(
                f"{path} holds a token that was revoked: put a new one there"
            ) from error

    def _check_room(self) -> None:
        """Keep the reserve: a full disk would leave no way to erase what fills it."""
        found = os.statvfs(self._config.data_dir)
        if found.f_bavail * found.f_frsize < self._config.reserve_bytes:
            raise StorageFull("less than the reserve is free under the data folder")

    async def _check_ready(self) -> dict[str, str]:
        checks = {"process": "draining" if self.services.draining else "ok"}
        try:
            await self._catalog.read(lambda c: has_marker(c, self._store.name))
            checks["catalog"] = "ok"
        except GatewayError as error:
            checks["catalog"] = error.code
        try:
            await self._store.stat(self._marker)
            await asyncio.to_thread(self._check_room)
            checks[f"store {self._store.name}"] = "ok"
        except GatewayError as error:
            checks[f"store {self._store.name}"] = error.code
        return checks


def _refuse_lost_catalog(data_dir: Path) -> None:
    """A store without a catalog is no new deployment: making one would hide what was lost."""
    store = data_dir / STORE_FOLDER
    if not (data_dir / CATALOG_FILE).exists() and store.exists() and any(store.iterdir()):
        raise ConfigError(
            f"{store} holds the objects of a deployment whose catalog, {data_dir / CATALOG_FILE},"
            " is gone: restore it from a backup, or use an empty data folder"
        )


def _tls_context(config: Config) -> ssl.SSLContext | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except OSError as error:  # a key that does not fit is one, too
        raise ConfigError(
            f"{config.tls_certificate} and {config.tls_key} cannot be used: {error.strerror}"
        ) from error
    return context


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
