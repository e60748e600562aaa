"""The stores that a configuration names, and the one that they make together."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from crypto import Secret

from .backend_settings import (
    Backend,
    ConfigError,
    IPFSBackend,
    IPFSGatewayBackend,
    LocalBackend,
    S3Backend,
)
from .backends import KeyedStore, LocalStore, Member, OnBad, Replicas
from .backends.ipfs import IPFSStore
from .backends.ipfs_gateway import IPFSGateway, IPFSGatewaySettings
from .backends.kubo import KuboClient, KuboSettings
from .backends.metered import Observe
from .backends.s3 import S3Store
from .backends.s3_client import Proxy, S3Settings
from .backends.s3_signature import Credentials
from .config import Config
from .custody import read_secret
from .pins import PinsOf

STORE_FOLDER = "store"
"""Where payloads lie in the data folder, unless backends are configured."""

OpenStore = LocalStore | S3Store | IPFSStore


def now_utc() -> datetime:
    """Return the time, as signatures bear it."""
    return datetime.now(UTC)


def backends_of(config: Config) -> tuple[Backend, ...]:
    """Return where payloads lie, with the default."""
    return config.stores or (LocalBackend(name="local", path=config.data_dir / STORE_FOLDER),)


async def open_stores(
    config: Config, marker: str, opened: AsyncExitStack, pins_of: PinsOf
) -> tuple[OpenStore, ...]:
    """Open each by itself; ``opened`` is told how to close them. ``marker`` is the deployment's.

    ``pins_of`` returns where a store without names has written down what is in it.

    Raises:
        ConfigError: a file that a setting names cannot be used.

    """
    return tuple(
        [await _open_store(config, b, marker, opened, pins_of) for b in backends_of(config)]
    )


async def _open_store(
    config: Config, backend: Backend, marker: str, opened: AsyncExitStack, pins_of: PinsOf
) -> OpenStore:
    if isinstance(backend, LocalBackend):
        local = LocalStore(backend.path, name=backend.name)
        opened.push_async_callback(asyncio.to_thread, local.close)
        return local
    tls = await asyncio.to_thread(tls_of, backend)
    if isinstance(backend, IPFSBackend):
        client = KuboClient(await asyncio.to_thread(kubo_settings_of, backend), tls=tls)
        pins = pins_of(backend.name)
        node = IPFSStore(client, pins, marker=marker, spool=config.data_dir)
        opened.push_async_callback(node.close)
        return node
    settings = await asyncio.to_thread(s3_settings_of, backend)
    store = S3Store(
        settings,
        marker=marker,
        spool=config.data_dir,
        clock=now_utc,
        tls=tls,
    )
    opened.push_async_callback(store.close)
    return store


async def open_gateways(
    config: Config, opened: AsyncExitStack, observe: Observe | None = None
) -> tuple[IPFSGateway, ...]:
    """Make a client of each; none is asked anything. ``opened`` is told how to close them.

    Raises:
        ConfigError: a file that a setting names cannot be used.

    """
    gateways = []
    for backend in config.gateways:
        tls = await asyncio.to_thread(tls_of, backend)
        gateways.append(IPFSGateway(gateway_settings_of(backend), tls=tls, observe=observe))
        opened.push_async_callback(gateways[-1].close)
    return tuple(gateways)


def gateway_settings_of(backend: IPFSGatewayBackend) -> IPFSGatewaySettings:
    """Return what a client of the gateway needs."""
    return IPFSGatewaySettings(
        name=backend.name,
        url=backend.url.rstrip("/"),
        connect_s=backend.connect_s,
        idle_s=backend.idle_s,
        deadline_s=backend.deadline_s,
        connections_max=backend.connections_max,
    )


def s3_settings_of(backend: S3Backend) -> S3Settings:
    """Return what a client of the bucket needs; secrets are read from their files. Blocks.

    Raises:
        ConfigError: a file cannot be read, may be read by others, or does not hold what it must.

    """
    secret_key = backend.secret_key
    if backend.secret_key_file is not None:
        secret_key = Secret(read_secret(backend.secret_key_file).strip().encode())
    if not secret_key:
        raise ConfigError(f"backend {backend.name}: {backend.secret_key_file} is empty")
    token = None
    if backend.session_token_file is not None:
        token = Secret(read_secret(backend.session_token_file).strip().encode())
    return S3Settings(
        name=backend.name,
        endpoint=backend.endpoint,
        region=backend.region,
        bucket=backend.bucket,
        credentials=Credentials(
            access_key=backend.access_key, secret_key=secret_key, session_token=token
        ),
        path_style=backend.path_style,
        proxy=_proxy_of(backend),
        connect_s=backend.connect_s,
        idle_s=backend.idle_s,
        attempt_s=backend.attempt_s,
        deadline_s=backend.deadline_s,
        connections_max=backend.connections_max,
    )


def kubo_settings_of(backend: IPFSBackend) -> KuboSettings:
    """Return what a client of the node needs; secrets are read from their files. Blocks.

    Raises:
        ConfigError: a file cannot be read, may be read by others, or does not hold what it must.

    """
    authorization = None
    if backend.authorization_file is not None:
        said = read_secret(backend.authorization_file).strip()
        if not said or not said.isascii() or not said.isprintable():
            raise ConfigError(
                f"backend {backend.name}: {backend.authorization_file} must hold the value of the"
                " Authorization header, as: Basic dXNlcjpwYXNzd29yZA=="
            )
        authorization = Secret(said.encode())
    return KuboSettings(
        name=backend.name,
        api=backend.api.rstrip("/"),
        authorization=authorization,
        connect_s=backend.connect_s,
        idle_s=backend.idle_s,
        deadline_s=backend.deadline_s,
        connections_max=backend.connections_max,
        fill_max=backend.fill_max,
    )


def _proxy_of(backend: S3Backend) -> Proxy | None:
    if backend.proxy is None:
        return None
    file = backend.proxy_credentials_file
    if file is None:
        return Proxy(backend.proxy)
    said = read_secret(file).strip()
    if not said.partition(":")[0] or ":" not in said:
        raise ConfigError(f"backend {backend.name}: {file} must hold USER:PASSWORD of the proxy")
    return Proxy(backend.proxy, Secret(said.encode()))


def tls_of(backend: S3Backend | IPFSBackend | IPFSGatewayBackend) -> ssl.SSLContext | None:
    """Return whom to trust, if not the usual ones. Blocks.

    Raises:
        ConfigError: the file cannot be used.

    """
    if backend.ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=backend.ca_file)
    except OSError as error:
        raise ConfigError(
            f"backend {backend.name}: ca_file {backend.ca_file} holds no certificates that can be"
            f" used ({type(error).__name__})"
        ) from None


def members_of(
    config: Config, stores: Sequence[KeyedStore], observe: Observe | None = None
) -> tuple[Member, ...]:
    """Return the stores with the failure domains that they stand in."""
    return tuple(
        Member(store, domain=backend.domain, observe=observe)
        for store, backend in zip(stores, backends_of(config), strict=True)
    )


def join_stores(
    config: Config,
    members: Sequence[Member],
    opened: AsyncExitStack,
    *,
    on_bad: OnBad = lambda _key, _name, _kind: None,
) -> KeyedStore:
    """Return the one store that they make together; ``on_bad`` is told of bad replicas."""
    # Where there are gateways it must be known, of one store too, whether it is well.
    if len(members) == 1 and not config.gateways:
        return members[0].store
    replicas = Replicas(members, write_quorum=config.quorum, on_bad=on_bad)
    opened.push_async_callback(replicas.close)
    return replicas
