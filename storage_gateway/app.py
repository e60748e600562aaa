"""Putting a gateway together, starting and stopping it. The only place that knows every part."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from .api import (
    ADMIN_HOST,
    GatewayRunner,
    HandedSite,
    Services,
    make_admin_application,
    make_application,
)
from .backends import Member
from .blind import BlindCustody
from .blocks import Blocks
from .bringing import Bringing
from .catalog.blocks import record_blocks, record_none
from .config import Config, ConfigError, cannot_listen, url_of
from .custody import tls_context
from .erase import Erasure
from .errors import BackendUnavailable, CatalogBehind
from .holds import Holds
from .ids import new_random_id
from .indexing import Indexing
from .instance import Instance
from .key_services import make_jobs, make_registry
from .late import late_uploads
from .line import Report, WorkerEnd
from .memory import Budget
from .metrics import Metrics
from .observed import observe_gateway
from .parts import Parts, open_parts
from .read import Reads
from .readiness import OK, Readiness, Watch
from .records import ALL_OPEN, Wanted
from .room import require_room
from .sessions import Sessions
from .settle import Settler
from .stores import backends_of, now_utc
from .stress import Stress
from .upkeep import make_upkeep, old_copies_of
from .wanted import WantedStores
from .write import Uploads

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """How a worker process gets its connections."""

    line: WorkerEnd
    url: str
    """What the parent listens on."""
    on_end: Callable[[], None] = lambda: None
    """Called when the parent is gone."""
    number: int = 0
    """The worker's, from 0 on."""
    replaces: bool = False
    """Whether it is in the place of one that served, and has ended."""


class Gateway:
    """One running gateway process. `start` it, ask for its `url`, `stop` it."""

    def __init__(
        self, config: Config, parts: Parts | None = None, *, handed: Handed | None = None
    ) -> None:
        """Nothing is touched before `start`.

        Without ``parts`` it works on the data folder's own, and opens and closes them. With
        ``handed`` it does not listen: a parent process does.
        """
        self._config = config
        self._given_parts = parts
        self._handed = handed
        self._threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="seal")
        self._opened = AsyncExitStack()
        self.url = ""
        self.admin_url: str | None = None
        self.metrics = Metrics()

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
        self._opened.push_async_callback(asyncio.to_thread, self._threads.shutdown)
        self.parts = self._given_parts or await open_parts(
            config, self._opened, self.metrics.observe_store
        )
        self._instance = Instance(
            self.parts.catalog,
            new_random_id(),
            lease_s=config.instance_lease_s,
            renew_s=config.instance_renew_s,
        )
        await self._instance.start()
        self._opened.push_async_callback(self._instance.stop)
        self._assemble(self.parts)
        # It says so, and serves what it knows; stores that are away may be back later.
        with suppress(CatalogBehind, BackendUnavailable):
            await self.upkeep.high_water.check()
        listening = asyncio.Event()
        for loop in self.upkeep.loops(config):
            task = asyncio.create_task(_once(listening, loop))
            self._opened.push_async_callback(_cancel, task)
        self._opened.push_async_callback(self.upkeep.outbox.close)
        self._opened.push_async_callback(self._watch.close)
        seeing = asyncio.create_task(self._watch.see_all(config.recovery_interval_s))
        self._opened.push_async_callback(_cancel, seeing)
        self._opened.push_async_callback(self._uploads.wait_settled)
        self._opened.push_async_callback(self.services.late.close)
        taking_up = self.services.jobs.recover_forever(config.recovery_interval_s)
        self._opened.push_async_callback(self.services.jobs.close)
        self._opened.push_async_callback(_cancel, asyncio.create_task(taking_up))
        if self._given_parts is None:
            await self._listen_for_admin()  # before it is told that this process is there
        await self._listen()
        listening.set()
        self._index_blocks()
        if self._given_parts is None:
            self._recover_stress()

    def _index_blocks(self) -> None:
        """Enter what was committed while blocks were not served; of several workers one does."""
        if not self._config.serve_ipfs or (self._handed is not None and self._handed.number > 0):
            return
        indexing = Indexing(self.parts.catalog)
        running = asyncio.create_task(indexing.run_until_done(self._config.recovery_interval_s))
        self._opened.push_async_callback(_cancel, running)

    def _recover_stress(self) -> None:
        """Look for what runs of dead processes left, also where new runs are not enabled."""
        stress = self.services.stress = Stress(
            config=self._config,
            catalog=self.parts.catalog,
            deployment_id=self.parts.deployment_id,
            instance_id=self._instance.instance_id,
            sessions=self.services.sessions,
            erasure=self.services.erasure,
            serving_url=lambda: self.url,
            make_gateway=Gateway,
        )
        passes = asyncio.create_task(stress.recover_forever(self._config.recovery_interval_s))
        self._opened.push_async_callback(_cancel, passes)
        self._opened.push_async_callback(stress.close)

    def _assemble(self, parts: Parts) -> None:
        config, catalog = self._config, parts.catalog
        settler = Settler(
            catalog,
            parts.store,
            instance_id=self._instance.instance_id,
            payloads=parts.payloads,
            copies=old_copies_of(parts),
        )
        stores = _wanted_stores(config, parts)
        memory = self._budgets()
        bringing = self._bringing = Bringing(lambda: self.upkeep.outbox)
        erasure = Erasure(catalog=catalog, settler=settler, bring_copy=bringing.of_object)
        self.upkeep = make_upkeep(
            config,
            parts,
            settler,
            erase_expired=erasure.erase_expired,
            threads=self._threads,
            check_room=self._check_room,
            hold_lease=self._instance.hold,
        )
        self.recovery = self.upkeep.recovery
        self._uploads = self._make_uploads(parts, stores, settler, memory["write"])
        self._watch = self._watch_over(parts)
        reads = self._make_reads(parts, stores, memory["read"])
        self.services = Services(
            config=config,
            catalog=catalog,
            sessions=self._make_sessions(parts, stores),
            registry=make_registry(config, parts, bring_copy=bringing.of_session),
            jobs=make_jobs(
                config,
                parts,
                self._instance,
                reads,
                self._uploads,
                threads=self._threads,
                store_of=stores.for_writes,
            ),
            uploads=self._uploads,
            blind=BlindCustody(
                config,
                catalog,
                self._uploads,
                memory=memory["write"],
                store_of=stores.for_writes,
                bring_copy=partial(bringing.of_object, again=True),
            ),
            late=late_uploads(config, catalog),
            reads=reads,
            erasure=erasure,
            holds=Holds(catalog, bringing),
            bringing=bringing,
            upkeep=self.upkeep,
            check_ready=self._check_ready,
            metrics=self.metrics,
            blocks=self._make_blocks(parts, stores, memory.get("ipfs")),
        )
        observe_gateway(
            self.metrics,
            members=parts.members,
            gateways=parts.gateways,
            memory=memory,
            upkeep=self.upkeep,
            keys=parts.keyring.state,
            log_kept_by=lambda: parts.catalog.log_kept_by,
        )

    def _make_sessions(self, parts: Parts, stores: WantedStores) -> Sessions:
        return Sessions(
            parts.catalog,
            keyring=parts.keyring,
            miners_max=self._config.miners_max,
            token_lifetime_s=self._config.token_lifetime_s,
            check_wanted=stores.check,
            bring_copy=self._bringing.of_session,
            policies=self._config.policies,
            policy=self._config.retention_policy,
        )

    def _make_reads(self, parts: Parts, stores: WantedStores, memory: Budget) -> Reads:
        return Reads(
            catalog=parts.catalog,
            store=parts.store,
            threads=self._threads,
            keyring=parts.keyring,
            memory=memory,
            payloads=parts.payloads,
            store_of=stores.for_parties,
        )

    def _make_uploads(
        self, parts: Parts, stores: WantedStores, settler: Settler, memory: Budget
    ) -> Uploads:
        return Uploads(
            catalog=parts.catalog,
            store=parts.store,
            threads=self._threads,
            memory=memory,
            settler=settler,
            keyring=parts.keyring,
            instance_id=self._instance.instance_id,
            payloads=parts.payloads,
            roots=self.upkeep.roots,
            store_of=stores.for_writes,
            check_room=self._check_room,
            hold_lease=self._instance.hold,
            record_blocks=record_blocks if self._config.serve_ipfs else record_none,
            bring_copy=self._bringing.of_object,
            stale_grace_s=self._config.key_retiring_s,
        )

    def _watch_over(self, parts: Parts) -> Watch:
        return Watch(
            catalog=parts.catalog,
            members=parts.members or (Member(parts.store, domain=parts.store.name),),
            marker=parts.marker,
            deployment_id=parts.deployment_id,
            quorum=self._config.quorum,
            check_room=self._check_room,
            clock=now_utc,
            gateways=parts.gateways,
            keys=parts.keyring.state,
        )

    def _budgets(self) -> dict[str, Budget]:
        config = self._config
        sizes = {"write": config.write_memory_bytes, "read": config.read_memory_bytes}
        if config.serve_ipfs:
            sizes["ipfs"] = config.ipfs_memory_bytes
        return {name: Budget(size, wait_s=config.memory_wait_s) for name, size in sizes.items()}

    def _make_blocks(
        self, parts: Parts, stores: WantedStores, memory: Budget | None
    ) -> Blocks | None:
        if memory is None:
            return None
        return Blocks(
            catalog=parts.catalog,
            threads=self._threads,
            memory=memory,
            payloads=parts.payloads,
            store_of=stores.for_reads,
        )

    async def _listen(self) -> None:
        config, handed = self._config, self._handed
        line = None if handed is None else handed.line
        self._runner = GatewayRunner(
            make_application(self.services),
            on_lost=(lambda: None) if line is None else (lambda: line.report(Report.CLOSED)),
        )
        await self._runner.setup()
        self._opened.push_async_callback(self._runner.cleanup)
        context = await asyncio.to_thread(tls_context, config)
        if handed is not None:
            self.url = handed.url
            await HandedSite(
                self._runner, handed.line, ssl_context=context, on_end=handed.on_end
            ).start()
            return
        site = web.TCPSite(self._runner, config.host, config.port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            raise cannot_listen(config, error) from error
        self.url = url_of(config, self._runner.addresses[0])

    async def _listen_for_admin(self) -> None:
        number = 0 if self._handed is None else self._handed.number
        port = self._config.admin_port_of(number)
        if port is None:
            return
        runner = web.AppRunner(make_admin_application(self.services), access_log=None)
        await runner.setup()
        self._opened.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, ADMIN_HOST, port).start()
        except OSError as error:
            if self._handed is not None and self._handed.replaces:
                # Somebody took the port meanwhile: what is served is worth more than its metrics.
                told = {"admin_port": port, "reason": error.strerror}
                logger.error("metrics are not told: cannot listen", extra=told)  # noqa: TRY400 - known
                return
            raise ConfigError(f"cannot listen on admin_port {port}: {error.strerror}") from error
        host, port = runner.addresses[0][:2]
        self.admin_url = f"http://{host}:{port}"
        logger.info("metrics are told", extra={"url": f"{self.admin_url}/metrics"})

    def _check_room(self, wanted: Wanted = ALL_OPEN) -> None:
        full = {node.name for node in self.parts.nodes if node.is_full}
        require_room(self._config, wanted, full)

    async def _check_ready(self) -> Readiness:
        return await self._watch.check("draining" if self.services.draining else OK)


def _wanted_stores(config: Config, parts: Parts) -> WantedStores:
    return WantedStores(
        parts.store,
        {backend.name: backend.domain for backend in backends_of(config)},
        write_quorum=config.quorum,
        gateways=parts.gateways,
        nodes=[node.name for node in parts.nodes],
    )


async def _once(event: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Begin once it was told: a start that fails changes nothing."""
    try:
        await event.wait()
    except asyncio.CancelledError:
        work.close()
        raise
    await work


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
