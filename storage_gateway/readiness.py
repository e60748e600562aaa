"""Whether requests can be served, and how the stores are: what is told to whoever asks.

Strangers may ask. They are told the names that stores are configured under, and kinds of faults:
not where a store is, nor anything that it said.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .backends import Member
from .backends.ipfs import IPFSStore
from .backends.ipfs_gateway import IPFSGateway, IPFSGatewayReport
from .backends.probe_report import ProbeFinding, StoreReport
from .backends.s3 import S3Store
from .catalog import Catalog
from .catalog.work import has_marker
from .errors import BackendUnavailable, GatewayError, KeyProviderUnavailable, StorageFull
from .keyring import KeysState

logger = logging.getLogger(__name__)

OK = "ok"
ANSWER_S_MAX = 3.0
"""How long a store is waited for: who balances load waits for few seconds, too."""
ASKED_SHARE = 0.8
"""Of that: so long a store behind a network has to answer."""
FRESH_S = 1.0
"""Such a store is not asked again within it, however many ask us: requests cost money."""
GATEWAY_FRESH_S = 60.0
"""Nor is a gateway of IPFS within this: it is a stranger, and nobody waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """How a store is."""

    name: str
    ready: bool
    """It answers, as this deployment's."""
    since: datetime
    """When that was seen first."""
    reads_rest: bool
    """It failed too often lately to be asked, unless no other is left; likewise below."""
    writes_rest: bool
    probed: datetime | None
    """When it was last looked at: only one behind a network is."""
    findings: tuple[ProbeFinding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """How a gateway of IPFS is. No request needs one."""

    name: str
    reads_rest: bool
    """It failed too often lately to be asked."""
    probed: datetime | None
    """When it was last tried."""
    findings: tuple[ProbeFinding, ...]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be served, and ``ok`` or an error code for each part that they need."""

    ready: bool
    checks: dict[str, str]
    stores: Sequence[StoreState] = ()
    gateways: Sequence[GatewayState] = ()
    """They count for nothing."""

    @property
    def well(self) -> bool:
        """Nothing is to be mended."""
        refused = any(finding.refuses for store in self.stores for finding in store.findings)
        return not refused and all(outcome == OK for outcome in self.checks.values())


class Watch:
    """Asks every part of a gateway, all at once; looks at its stores when it starts."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        members: Sequence[Member],
        marker: str,
        deployment_id: str,
        quorum: int,
        check_room: Callable[[], None],
        clock: Callable[[], datetime],
        gateways: Sequence[IPFSGateway] = (),
        keys: Callable[[], KeysState] | None = None,
    ) -> None:
        """``marker`` is the key of the stores' marker; ``check_room`` raises StorageFull, and may
        block; ``clock`` tells the time in UTC; ``keys`` is `Keyring.state`.
        """
        self._keys = keys
        self._gateways = [_Tried(gateway, clock) for gateway in gateways]
        self._catalog = catalog
        self._quorum = quorum
        self._deployment_id = deployment_id
        self._stores = [_Watched(member, marker, clock) for member in members]
        self._room = _Question(lambda: asyncio.to_thread(check_room), fresh_s=0.0)

    async def close(self) -> None:
        """Wait for no answer any more."""
        asked = [store.question for store in self._stores]
        asked += [gateway.question for gateway in self._gateways]
        for question in (self._room, *asked):
            await question.close()

    async def check(self, process: str = OK) -> Readiness:
        """Ask; ``process`` says how the process itself is."""
        catalog = f"catalog {self._catalog.kind}"
        catalog_outcome, room, *outcomes = await asyncio.gather(
            self._ask_catalog(),
            self._room.answer(),
            *(store.ask() for store in self._stores),
        )
        checks = {"process": process, catalog: catalog_outcome}
        reached = set()
        for store, outcome in zip(self._stores, outcomes, strict=True):
            checks[f"store {store.member.name}"] = room if outcome == OK else outcome
            if (outcome, room) == (OK, OK):
                reached.add(store.member.domain)
        if self._keys is not None:
            # Whoever has no keys still serves sealed downloads: it is degraded, not unavailable.
            keys = self._keys()
            checks[f"key provider {keys.provider}"] = OK if keys.up else KeyProviderUnavailable.code
        ready = (process, catalog_outcome) == (OK, OK) and len(reached) >= self._quorum
        return Readiness(
            ready,
            checks,
            [store.state() for store in self._stores],
            [gateway.state() for gateway in self._gateways],
        )

    async def _ask_catalog(self) -> str:
        try:
            await self._catalog.read(lambda c: has_marker(c, ""))
        except GatewayError as error:
            return error.code
        return OK

    async def see_all(self, interval_s: float) -> None:
        """Look at each store once it is within reach; write again to those that were not when the
        gateway started. Returns when all has been seen.
        """
        unseen = self._stores
        while True:
            seen = await asyncio.gather(
                *(store.see(self._deployment_id) for store in unseen), return_exceptions=True
            )
            for outcome in seen:
                if isinstance(outcome, Exception):
                    logger.error("store not looked at, unexpectedly", exc_info=outcome)
            unseen = [s for s, outcome in zip(unseen, seen, strict=True) if outcome is not True]
            if not unseen:
                return
            await asyncio.sleep(interval_s)


class _Watched:
    """A store, and what is known of it."""

    def __init__(self, member: Member, marker: str, clock: Callable[[], datetime]) -> None:
        store = member.bare
        is_remote = isinstance(store, S3Store | IPFSStore)

        async def ask() -> None:
            if not isinstance(store, S3Store | IPFSStore):
                # A disk that hangs keeps its thread, however long we wait: it is asked once.
                await store.stat(marker)
                return
            try:
                async with asyncio.timeout(ASKED_SHARE * ANSWER_S_MAX):
                    await store.stat(marker)
                    if isinstance(store, IPFSStore):
                        await store.require_room()
            except TimeoutError:
                # The question waits for a connection like any other: who is busy is not away.
                if not store.answered_within(ANSWER_S_MAX):
                    raise

        self.member = member
        self.question = _Question(ask, fresh_s=FRESH_S if is_remote else 0.0)
        self._clock = clock
        self._ready = member.ready
        self._since = clock()
        self._report: StoreReport | None = None
        self._probed: datetime | None = None
        self._told: set[str] = set()

    def state(self) -> StoreState:
        member, report = self.member, self._report
        return StoreState(
            name=member.name,
            ready=self._ready,
            since=self._since,
            reads_rest=not member.reads.is_closed,
            writes_rest=not member.writes.is_closed,
            probed=self._probed,
            findings=() if report is None else report.findings,
        )

    async def ask(self) -> str:
        """Return ``ok``, or why it cannot be used."""
        outcome = await self.question.answer()
        ready = outcome in (OK, StorageFull.code)  # what is full can be read
        if ready != self._ready:
            self._ready, self._since = ready, self._clock()
        if ready and not self.member.ready:
            self.member.ready = True
            logger.info("store within reach", extra={"store": self.member.name})
        return outcome

    async def see(self, deployment_id: str) -> bool:
        """Look at it; tell whether there is nothing left to be seen."""
        if not self.member.ready:
            await self.ask()
            if not self.member.ready:
                return False
        store = self.member.bare
        if not isinstance(store, S3Store | IPFSStore):
            return True
        if self._report is None:
            report = await store.look(deployment_id)
            self._tell(report)
            if not report.is_answered:
                return False
            self._report, self._probed = report, self._clock()
        return not isinstance(store, S3Store) or await store.clear_abandoned(deployment_id)

    def _tell(self, report: StoreReport) -> None:
        for finding in report.findings:
            if finding.kind not in self._told:
                self._told.add(finding.kind)
                told = {"store": report.store, "kind": finding.kind, "detail": finding.detail}
                logger.warning("found out about a store", extra=told)


class _Tried:
    """A gateway of IPFS, and what is known of it."""

    def __init__(self, gateway: IPFSGateway, clock: Callable[[], datetime]) -> None:
        self.question = _Question(self._probe, fresh_s=GATEWAY_FRESH_S)
        self._gateway = gateway
        self._clock = clock
        self._report: IPFSGatewayReport | None = None
        self._probed: datetime | None = None

    async def _probe(self) -> None:
        self._report = await self._gateway.probe()
        self._probed = self._clock()

    def state(self) -> GatewayState:
        """Return what is known now, and have it tried if that is long ago."""
        self.question.begin()
        return GatewayState(
            name=self._gateway.name,
            reads_rest=not self._gateway.reads.is_closed,
            probed=self._probed,
            findings=() if self._report is None else self._report.findings,
        )


class _Question:
    """Asked once at a time: who wants to know meanwhile waits for the same answer."""

    def __init__(self, ask: Callable[[], Awaitable[None]], *, fresh_s: float) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._asking: asyncio.Task[str] | None = None
        self._asked_s = 0.0

    def begin(self) -> "asyncio.Task[str]":
        """Ask, unless that is being done or was done a moment ago; return what tells the answer."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_s >= self._fresh_s):
            self._asked_s, self._asking = now, asyncio.create_task(self._outcome())
        return self._asking

    async def answer(self) -> str:
        """Return ``ok`` or an error code, in time."""
        asking = self.begin()
        await asyncio.wait([asking], timeout=ANSWER_S_MAX)
        return asking.result() if asking.done() else BackendUnavailable.code

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _outcome(self) -> str:
        try:
            await self._ask()
        except TimeoutError:
            return BackendUnavailable.code
        except GatewayError as error:
            return error.code
        return OK
