"""Carrying out one run: world, control group, case, judgement, report."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import msgspec

from storage_gateway import __version__
from storage_gateway.catalog.stress_runs import control_session
from storage_gateway.config import Config
from storage_gateway.database_url import DatabaseURL
from storage_gateway.sessions import Sessions

from .children import Children
from .contract import Case
from .control import ControlGroup
from .judge import judge
from .load import open_member
from .parameters import Parameters
from .record import Record
from .trial import Trial
from .verdict import Verdict
from .world import MakeGateway, World, bytes_max, open_world

logger = logging.getLogger(__name__)

CONNECT_S_MAX = 10.0
CONTROL_END_S = 15.0
"""What the control group gets for the requests that are under way at the end."""
OVERTIME_S = 60.0
"""After its load's time a case has so long to end, beside what it is expected to take."""


@dataclass(slots=True)
class Run:
    """A run in this process."""

    run_id: str
    case: Case[Any]
    parameters: Parameters
    seed: int
    phase: str = "starting"
    trial: Trial | None = None
    control: ControlGroup | None = None
    began: float = field(default_factory=time.monotonic)

    def progress(self) -> dict[str, Any]:
        """Return how far it is."""
        document: dict[str, Any] = {
            "phase": self.phase,
            "elapsed_s": round(time.monotonic() - self.began, 1),
        }
        if self.trial is not None:
            document["requests"] = self.trial.record.total()
            document["acknowledged"] = len(self.trial.ledger.acknowledged)
        return document


class Runner:
    """Carries out runs for one serving process, one at a time."""

    def __init__(
        self,
        *,
        config: Config,
        deployment_id: str,
        sessions: Sessions,
        serving_url: Callable[[], str],
        make_gateway: MakeGateway,
        record_children: Callable[[str, list[list[int]]], Awaitable[None]],
        make_schema: Callable[[str], Awaitable[DatabaseURL | None]],
    ) -> None:
        """``sessions`` and ``serving_url`` are those of the serving gateway; ``make_schema`` is
        given a run's id and returns the database where its catalog is a schema in one.
        """
        self._config = config
        self._deployment_id = deployment_id
        self._sessions = sessions
        self._serving_url = serving_url
        self._make_gateway = make_gateway
        self._record_children = record_children
        self._make_schema = make_schema

    async def carry_out(self, run: Run) -> dict[str, Any]:
        """Return the report; nothing is cleared away yet. What goes wrong is a failed verdict."""
        verdict = Verdict(run.case.invariants)
        parameters, seed = run.parameters, run.seed
        database = await self._make_schema(run.run_id)
        async with (
            open_world(
                self._config,
                self._deployment_id,
                run.run_id,
                database=database,
                seed=seed,
                stores=run.case.stores,
                quorum=run.case.quorum,
                make_gateway=self._make_gateway,
            ) as world,
            _clients() as http,
        ):
            member = await open_member(self._sessions, control_session(run.run_id))
            run.control = ControlGroup(http, self._serving_url, member, seed=seed)
            allowed = await asyncio.to_thread(bytes_max, self._config, stores=run.case.stores)
            run.trial = Trial(
                world=world,
                parameters=parameters,
                verdict=verdict,
                http=http,
                bytes_left=allowed,
                children=Children(
                    world, run.run_id, seed, partial(self._record_children, run.run_id)
                ),
                seed=seed,
            )
            load = run.control.run(parameters.sizes, parameters.clients, parameters.duration_s)
            control = asyncio.create_task(load)
            try:
                await self._guarded(run, run.trial, world)
            finally:
                run.control.end()
                await asyncio.wait([control], timeout=CONTROL_END_S)
                control.cancel()
                await asyncio.gather(control, return_exceptions=True)
            run.control.judge(verdict)
        return self.report(run)

    async def _guarded(self, run: Run, trial: Trial, world: World) -> None:
        limit_s = trial.parameters.duration_s + run.case.expected_s + OVERTIME_S
        run.phase = "load"
        time_limit = asyncio.timeout(limit_s)
        try:
            async with time_limit:
                await run.case.run(trial, trial.parameters)
                await world.heal()
                await world.wait_late()  # else it could land when all is cleared away
                trial.end_faults()
                run.phase = "judgement"
                async with world.gateway() as gateway:
                    await judge(trial, gateway)
        except Exception as error:
            if time_limit.expired():
                evidence = f"it was cut off after {limit_s:.0f} s in its {run.phase}"
                trial.verdict.require("the run ends in time", met=False, evidence=evidence)
                if isinstance(error, TimeoutError):
                    return
            # Also what took too long within it: that is no word on the time of the run.
            logger.exception("stress run failed", extra={"run_id": run.run_id})
            evidence = f"{_kinds_of(error)} in its {run.phase}; the log has the trace under its id"
            trial.verdict.require("the run could be carried out", met=False, evidence=evidence)

    def report(self, run: Run) -> dict[str, Any]:
        """Return what is known of a run so far."""
        trial = run.trial
        record = trial.record if trial else Record()
        verdict = trial.verdict if trial else Verdict(run.case.invariants)
        return {
            **verdict.as_json(),
            **record.as_json(),
            "time_to_detect_s": _first_failure(trial),
            "time_to_recover_s": _recovered(trial),
            "acknowledged": len(trial.ledger.acknowledged) if trial else 0,
            "faults": _faults(trial),
            "notes": trial.notes if trial else {},
            "control": run.control.as_json() if run.control else None,
            "overhead": run.control.overhead(record) if run.control else None,
            "elapsed_s": round(time.monotonic() - run.began, 3),
            "version": __version__,
            "config_digest": config_digest(self._config),
        }


def _clients() -> aiohttp.ClientSession:
    # The certificate of our own listener is not checked: it is asked at its own address, and sent
    # nothing but made-up content.
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX),
        connector=aiohttp.TCPConnector(limit=0, ssl=False),
        auto_decompress=False,
    )


def _first_failure(trial: Trial | None) -> float | None:
    if trial is None or trial.fault_began is None or trial.record.first_failure is None:
        return None
    return round(max(0.0, trial.record.first_failure - trial.fault_began), 4)


def _recovered(trial: Trial | None) -> float | None:
    """Return the longest way back from a crash, else how long recovery had to do at the end."""
    if trial is None:
        return None
    found: float | None = trial.notes.get("recovered_s", trial.notes.get("drained_s"))
    return found


def _faults(trial: Trial | None) -> dict[str, int]:
    if trial is None:
        return {}
    return dict(trial.world.injected())


def _kinds_of(error: BaseException) -> str:
    """Name the types of an error: its text could quote what must not be shown."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(sorted({_kinds_of(inner) for inner in error.exceptions}))
    return type(error).__name__


def config_digest(config: Config) -> str:
    """Return a digest by which to tell whether two runs had the same settings.

    Paths are left out, and the catalog's URL, which may hold a password.
    """
    settings = {
        name: value
        for name, value in msgspec.structs.asdict(config).items()
        if isinstance(value, bool | int | float | str) or value is None
    }
    return hashlib.sha256(msgspec.json.encode(settings, order="deterministic")).hexdigest()
