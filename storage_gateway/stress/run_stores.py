"""The stores of a run: the deployment's, more where a case needs them, each with its own faults.

A fault comes from the network where a proxy can stand before a store (a bucket or a node that is
asked without TLS on this machine), and from `FaultyStore` else, which does what the store's client
would see.
"""

import collections
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from storage_gateway.backend_settings import (
    Backend,
    IPFSBackend,
    LocalBackend,
    RemoteBackend,
)
from storage_gateway.backends.faulty import OPERATIONS, FaultyStore, StoreFaults
from storage_gateway.stores import OpenStore

from .tcp_faults import HOST, FaultKind, ProxyFault
from .tcp_proxy import TCPProxy, tcp_proxy

CONNECT_S, IDLE_S, ATTEMPT_S, DEADLINE_S = 1.0, 1.5, 3.0, 5.0
"""How long a run waits for a bucket at most: what takes minutes in earnest takes seconds here."""
HORIZON_S = 0.5
OWN = "run-"
"""What the names of a run's own stores begin with."""
OWN_FOLDER = "stores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """What a store suffers."""

    calls: StoreFaults
    """Where no proxy stands before it, or ``wire`` is None."""
    wire: ProxyFault | None = None


GONE = Ailment(
    calls=StoreFaults(refused=dict.fromkeys(OPERATIONS, 1.0)),
    wire=ProxyFault(kind=FaultKind.REFUSE),
)
"""It is out of reach."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a case needs among the deployment's backends: no folder of a run can stand in for it."""

    text: str
    takes: Callable[[Backend], bool]

    def is_met(self, backends: tuple[Backend, ...]) -> bool:
        """Tell whether one of the backends is such."""
        return any(map(self.takes, backends))


@dataclass(frozen=True, slots=True)
class RunStore:
    """One store of a run."""

    store: OpenStore
    """Without faults of its calls; those of the network are below it."""
    faulty: FaultyStore
    """What the run's gateways use."""
    backend: Backend
    """As it is asked without a proxy."""
    proxy: TCPProxy | None

    @property
    def name(self) -> str:
        """The store's name."""
        return self.store.name

    @property
    def domain(self) -> str:
        """The failure domain that it stands in."""
        return self.backend.domain

    async def suffer(self, ailment: Ailment) -> None:
        """Let this happen from now on, instead of what was before."""
        await self.heal()
        if self.proxy is None or ailment.wire is None:
            self.faulty.faults = ailment.calls
        else:
            await self.proxy.inject(ailment.wire)

    async def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.faulty.heal()
        if self.proxy is not None:
            await self.proxy.heal()

    def injected(self) -> "collections.Counter[str]":
        """Return how many faults there were, by what they were."""
        counted = collections.Counter(
            {f"{self.name}: {what}": count for what, count in self.faulty.injected.items()}
        )
        if self.proxy is not None and self.proxy.happened:
            counted[f"{self.name}: on connections"] = self.proxy.happened
        return counted


def run_backends(backends: tuple[Backend, ...], folder: Path, stores: int) -> tuple[Backend, ...]:
    """Return where a run's payloads lie: the deployment's backends, asked with short patience, and
    folders below ``folder`` until there are ``stores`` failure domains.
    """
    found = [_impatient(backend) for backend in backends]
    taken = {name for backend in found for name in (backend.name, backend.domain)}
    names = (f"{OWN}{number}" for number in range(1, len(taken) + stores + 1))
    for name in names:
        if len({backend.domain for backend in found}) >= stores:
            break
        if name not in taken:
            found.append(LocalBackend(name=name, path=folder / OWN_FOLDER / name))
    return tuple(found)


def is_own(backend: Backend, folder: Path) -> bool:
    """Tell whether a backend is one of the run with that folder."""
    return isinstance(backend, LocalBackend) and backend.path.is_relative_to(folder)


def horizon_of(backends: tuple[Backend, ...]) -> float:
    """Return when no write of a run can come late any more."""
    deadlines = [b.deadline_s for b in backends if isinstance(b, RemoteBackend)]
    return HORIZON_S + max(deadlines, default=0.0)


def _impatient(backend: Backend) -> Backend:
    if isinstance(backend, LocalBackend):
        return backend
    # A node answers an import once it is pinned, and is asked but once.
    idle_s = DEADLINE_S if isinstance(backend, IPFSBackend) else IDLE_S
    impatient = msgspec.structs.replace(
        backend,
        connect_s=min(backend.connect_s, CONNECT_S),
        idle_s=min(backend.idle_s, idle_s),
        deadline_s=min(backend.deadline_s, DEADLINE_S),
    )
    if isinstance(impatient, IPFSBackend):
        return impatient
    return msgspec.structs.replace(impatient, attempt_s=min(impatient.attempt_s, ATTEMPT_S))


async def behind_proxies(
    backends: tuple[Backend, ...], opened: AsyncExitStack, *, seed: int
) -> tuple[tuple[Backend, ...], Mapping[str, TCPProxy]]:
    """Return backends that are asked through proxies, where that can be, and these by name."""
    found: list[Backend] = []
    proxies: dict[str, TCPProxy] = {}
    for backend in backends:
        port = _port_of(backend)
        if port is None:
            found.append(backend)
            continue
        proxy = await opened.enter_async_context(tcp_proxy(port, seed=seed))
        proxies[backend.name] = proxy
        setting = "api" if isinstance(backend, IPFSBackend) else "endpoint"
        url = f"http://{HOST}:{proxy.port}"
        found.append(msgspec.structs.replace(backend, **{setting: url}))
    return tuple(found), proxies


def _is_node(backend: Backend) -> bool:
    return isinstance(backend, IPFSBackend)


def _is_near_node(backend: Backend) -> bool:
    return _is_node(backend) and _port_of(backend) is not None


NODE = Need("a backend of kind ipfs", _is_node)
NEAR_NODE = Need("a backend of kind ipfs whose api is http:// on this machine", _is_near_node)
"""Before which a proxy can stand."""


def _port_of(backend: Backend) -> int | None:
    """Return the port of a server if a proxy can stand before it, and see what passes."""
    if isinstance(backend, LocalBackend):
        return None
    if isinstance(backend, IPFSBackend):
        url = urlsplit(backend.api)
    elif backend.path_style:
        url = urlsplit(backend.endpoint)
    else:
        return None
    if url.scheme != "http" or url.hostname not in (HOST, "localhost"):
        return None
    return url.port or 80
