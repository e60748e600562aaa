"""The stress endpoints' use case: starting, watching, stopping and recovering runs.

All that is asked about a run is answered from the catalog, so that any process of a deployment can
answer; the process that carries it out writes there how far it is, and looks for the wish to stop.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.stress_runs import (
    RunRow,
    RunState,
    ask_to_stop,
    begin_run,
    claim_run,
    end_run,
    find_run,
    find_running,
    record_children,
    tell_progress,
)
from storage_gateway.config import Config
from storage_gateway.database_url import DatabaseURL
from storage_gateway.erase import Erasure
from storage_gateway.errors import (
    GatewayError,
    InvalidField,
    NotFound,
)
from storage_gateway.ids import new_random_id
from storage_gateway.sessions import Sessions
from storage_gateway.stores import backends_of

from .cases import CASES
from .catalogs import check_rights, make_schema
from .clearing import Cleared, clear_run, drop_remains
from .contract import Case
from .errors import BackendNeeded, StressBusy, StressDisabled
from .parameters import SEED_MAX, Parameters
from .runner import Run, Runner
from .verdict import FAIL
from .world import MakeGateway, bytes_max

logger = logging.getLogger(__name__)

PROGRESS_S = 0.25
CLEAR_AGAIN_S = 1.0
CLEARINGS_MAX = 5


class Stress:
    """Stress runs of one serving process."""

    def __init__(
        self,
        *,
        config: Config,
        catalog: Catalog,
        deployment_id: str,
        instance_id: str,
        sessions: Sessions,
        erasure: Erasure,
        serving_url: Callable[[], str],
        make_gateway: MakeGateway,
    ) -> None:
        """All are the serving gateway's; ``make_gateway`` makes the runs' own."""
        self._config = config
        self._catalog = catalog
        self._deployment_id = deployment_id
        self._instance_id = instance_id
        self._erasure = erasure
        self._runner = Runner(
            config=config,
            deployment_id=deployment_id,
            sessions=sessions,
            serving_url=serving_url,
            make_gateway=make_gateway,
            record_children=self._record_children,
            make_schema=self._make_schema,
        )
        self._task: asyncio.Task[None] | None = None
        self._at_work: set[str] = set()
        """Runs that this process is beginning, carrying out or clearing away."""

    async def _record_children(self, run_id: str, children: list[list[int]]) -> None:
        await self._catalog.run(lambda c: record_children(c, run_id, children))

    async def _make_schema(self, run_id: str) -> DatabaseURL | None:
        return await make_schema(self._config, self._catalog, run_id, self._instance_id)

    def cases(self) -> list[dict[str, Any]]:
        """Return all cases with the schemas of their parameters.

        Raises:
            StressDisabled: they are not enabled.

        """
        self._check_enabled()
        return [case.as_json(backends_of(self._config)) for case in CASES.values()]

    async def start(self, case: Case[Any], parameters: Parameters) -> RunRow:
        """Begin a run.

        Raises:
            StressDisabled: they are not enabled.
            BackendNeeded: it is about a kind of backend that the deployment has not.
            InvalidField: a parameter is over a limit of the configuration.
            StressBusy: another run is not over; its id is in the extensions.
            SchemaRefused: the catalog is in a database in which no schema can be made.

        """
        self._check_enabled()
        if case.needs is not None and not case.runs_on(backends_of(self._config)):
            raise BackendNeeded(f"{case.name} needs {case.needs.text} among the `backends`")
        await self._check_limits(case, parameters)
        await check_rights(self._config, self._catalog)
        seed = secrets.randbelow(SEED_MAX) if parameters.seed is None else parameters.seed
        run = Run(new_random_id(), case, parameters, seed)
        # From before it is in the catalog: a pass of recovery may look there at any time.
        self._at_work.add(run.run_id)
        try:
            await self._begin(run)
        except BaseException:
            self._at_work.discard(run.run_id)
            raise
        logger.info("stress run begins", extra={"run_id": run.run_id, "case": case.name})
        self._task = asyncio.create_task(self._carry_out(run))
        return await self.get(run.run_id)

    async def _begin(self, run: Run) -> None:
        busy = await self._catalog.run(
            lambda c: begin_run(
                c,
                run_id=run.run_id,
                case_name=run.case.name,
                seed=run.seed,
                parameters=msgspec.to_builtins(run.parameters) | {"seed": run.seed},
                instance_id=self._instance_id,
            )
        )
        if busy is not None:
            raise StressBusy("another run is under way", run_id=busy)

    def case(self, name: str) -> Case[Any]:
        """Return a case.

        Raises:
            StressDisabled, NotFound: not enabled; no such case.

        """
        self._check_enabled()
        if name not in CASES:
            raise NotFound("no such case")
        return CASES[name]

    def _check_enabled(self) -> None:
        if not self._config.enable_stress:
            raise StressDisabled("stress runs are not enabled in this gateway")

    async def _check_limits(self, case: Case[Any], parameters: Parameters) -> None:
        config = self._config
        limits = (
            ("duration_s", parameters.duration_s, config.stress_duration_s_max),
            ("clients", parameters.clients, config.stress_clients_max),
            ("sizes", max(parameters.sizes), config.stress_body_bytes_max),
        )
        for name, asked, limit in limits:
            if asked > limit:
                raise InvalidField(f"{name}: at most {limit:g}, by configuration", field=name)
        needed = case.bytes_min(parameters)
        allowed = await asyncio.to_thread(bytes_max, config, stores=case.stores)
        if needed > allowed:
            raise InvalidField(
                f"sizes: the least that {case.name} sends and reads back is {needed} bytes with so"
                f" many clients; a run may move {allowed}, by configuration and free space",
                field="sizes",
            )

    async def get(self, run_id: str) -> RunRow:
        """Return a run as it is now.

        Raises:
            StressDisabled, NotFound: not enabled; no such run.

        """
        self._check_enabled()
        # PostgreSQL would refuse to compare a text with a zero byte in it.
        asked = run_id if run_id.isalnum() else ""
        row = await self._catalog.read(lambda c: find_run(c, asked))
        if row is None:
            raise NotFound("no such run")
        return row

    async def watch(self, run_id: str) -> AsyncGenerator[RunRow]:
        """Yield the run whenever it has changed, until it has ended.

        Raises:
            StressDisabled, NotFound: not enabled; no such run.

        """
        last = None
        while last is None or last.state is RunState.RUNNING:
            row = await self.get(run_id)
            if row != last:
                yield row
            last = row
            if row.state is RunState.RUNNING:
                await asyncio.sleep(PROGRESS_S)

    async def stop(self, run_id: str) -> RunRow:
        """Ask a run to stop; one that has ended stays as it is.

        Raises:
            StressDisabled, NotFound: not enabled; no such run.

        """
        await self.get(run_id)
        await self._catalog.run(lambda c: ask_to_stop(c, run_id))
        return await self.get(run_id)

    async def close(self) -> None:
        """Stop what this process runs, and clear it away."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def recover_forever(self, interval_s: float) -> None:
        """Clear away what dead processes ran, until cancelled."""
        while True:
            try:
                await self.recover()
            except GatewayError as error:
                logger.warning("stress run not recovered", extra={"code": error.code})
            except Exception:
                logger.exception("stress run not recovered")
            await asyncio.sleep(interval_s)

    async def recover(self) -> bool:
        """Clear away the run of a dead process, if there is one; True when that was done.

        What ended runs left in the catalog is dropped as soon as it may be.
        """
        recovered = await self._recover_dead()
        await drop_remains(self._catalog)
        return recovered

    async def _recover_dead(self) -> bool:
        run = await self._catalog.read(find_running)
        if run is None or run.run_id in self._at_work:
            return False
        if run.instance_id != self._instance_id:
            claimed = await self._catalog.run(lambda c: claim_run(c, run, self._instance_id))
            if not claimed:
                return False
        cleared = await self._clear(run)
        report: dict[str, Any] = {"verdict": FAIL, "recovered": True}
        report["leftovers"] = _leftovers(report, cleared)
        logger.warning("stress run of a dead process cleared away", extra={"run_id": run.run_id})
        return await self._end(run.run_id, RunState.STOPPED, report)

    async def _carry_out(self, run: Run) -> None:
        try:
            await self._to_its_end(run)
        finally:
            self._at_work.discard(run.run_id)

    async def _to_its_end(self, run: Run) -> None:
        work = asyncio.create_task(self._runner.carry_out(run))
        try:
            await self._follow(run, work)
        except asyncio.CancelledError:
            work.cancel()  # the process stops: what must be cleared away is cleared all the same
        await asyncio.wait([work])
        if work.cancelled():
            state, report = RunState.STOPPED, self._runner.report(run)
        else:
            state, report = RunState.DONE, work.result() if not work.exception() else {}
        if state is RunState.DONE and work.exception():
            logger.error("stress run broke off", exc_info=work.exception())
            report = self._runner.report(run) | {"verdict": FAIL}
        run.phase = "clearing"
        for _ in range(CLEARINGS_MAX):
            try:
                row = await self._catalog.read(lambda c: find_run(c, run.run_id))
                if row is None:
                    return
                cleared = await self._clear(row)
                await self._end(
                    run.run_id, state, report | {"leftovers": _leftovers(report, cleared)}
                )
                return
            except (GatewayError, OSError):
                logger.exception("stress run not cleared away yet", extra={"run_id": run.run_id})
                await asyncio.sleep(CLEAR_AGAIN_S)

    async def _follow(self, run: Run, work: "asyncio.Task[dict[str, Any]]") -> None:
        """Tell the catalog how far the run is until it ends or is to be stopped."""
        told = None
        while not work.done():
            progress = run.progress()
            if progress != told:
                told = progress
                try:
                    stop = await self._catalog.run(
                        partial(
                            tell_progress,
                            run_id=run.run_id,
                            instance_id=self._instance_id,
                            progress=progress,
                        )
                    )
                except GatewayError:
                    continue  # the catalog has its own troubles; the next one tells
                if stop:
                    work.cancel()
                    return
            await asyncio.wait([work], timeout=PROGRESS_S)

    async def _clear(self, run: RunRow) -> Cleared:
        return await clear_run(self._config, self._catalog, self._erasure, self._deployment_id, run)

    async def _end(self, run_id: str, state: RunState, report: dict[str, Any]) -> bool:
        ended = await self._catalog.run(
            lambda c: end_run(c, run_id, self._instance_id, state, report)
        )
        logger.info("stress run ended", extra={"run_id": run_id, "verdict": report.get("verdict")})
        return ended


def _leftovers(report: dict[str, Any], cleared: Cleared) -> dict[str, Any]:
    """Return how many blobs nothing named, and all that was removed at the end."""
    found = report.get("notes", {}).get("leftovers_found")
    return {"found": found, "removed": asdict(cleared)}
