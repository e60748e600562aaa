"""Handlers: stress cases and their runs. All are the operator's."""

from typing import Any

from aiohttp import web

from storage_gateway.catalog.stress_runs import RunRow, RunState
from storage_gateway.records import Caller
from storage_gateway.stress import Stress
from storage_gateway.stress.errors import StressDisabled
from storage_gateway.times import timestamp

from .body import read_json
from .events import send_events
from .pace import pace_of
from .services import SERVICES, Services

RUNS = "/v1/stress/runs"
NO_STORE = {"Cache-Control": "no-store"}


async def list_cases(request: web.Request, _caller: Caller) -> web.Response:
    """``GET /v1/stress``: every case, with the JSON Schema of its parameters."""
    cases = _stress_of(request.app[SERVICES]).cases()
    return web.json_response({"cases": cases}, headers=NO_STORE)


async def start_run(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/stress/{case}``: begin a run; 202 with its id."""
    services = request.app[SERVICES]
    stress = _stress_of(services)
    case = stress.case(request.match_info["case"])
    config = services.config
    parameters = case.parameters()
    if request.body_exists:
        parameters = await read_json(
            request,
            case.parameters,
            bytes_max=config.json_bytes_max,
            pace=pace_of(config),
        )
    run = await stress.start(case, parameters)
    location = f"{RUNS}/{run.run_id}"
    return web.json_response(
        run_json(run) | {"events": f"{location}/events"},
        status=202,
        headers={"Location": location} | NO_STORE,
    )


async def show_run(request: web.Request, _caller: Caller) -> web.Response:
    """``GET /v1/stress/runs/{run}``: the run as it is now, with its report once it has ended."""
    run = await _stress_of(request.app[SERVICES]).get(request.match_info["run"])
    return web.json_response(run_json(run), headers=NO_STORE)


async def stop_run(request: web.Request, _caller: Caller) -> web.Response:
    """``DELETE /v1/stress/runs/{run}``: stop it; 202 until everything of it is cleared away."""
    run = await _stress_of(request.app[SERVICES]).stop(request.match_info["run"])
    status = 202 if run.state is RunState.RUNNING else 200
    return web.json_response(run_json(run), status=status, headers=NO_STORE)


async def show_events(request: web.Request, _caller: Caller) -> web.StreamResponse:
    """``GET …/events``: server-sent events, ``progress`` until ``end`` brings the report."""
    stress = _stress_of(request.app[SERVICES])
    run_id = request.match_info["run"]
    await stress.get(run_id)
    return await send_events(
        request,
        stress.watch(run_id),
        document_of=run_json,
        has_ended=lambda run: run.state is not RunState.RUNNING,
    )


def run_json(run: RunRow) -> dict[str, Any]:
    """Return a run as it is answered; its report's members are its own once it has ended."""
    document: dict[str, Any] = {
        "id": run.run_id,
        "case": run.case_name,
        "state": run.state.value,
        "seed": run.seed,
        "parameters": run.parameters,
        "created": timestamp(run.created_ms),
        "progress": run.progress,
    }
    if run.ended_ms is not None:
        document["ended"] = timestamp(run.ended_ms)
    return document | (run.report or {})


def _stress_of(services: Services) -> Stress:
    if services.stress is None:
        raise StressDisabled("the gateway of a stress run has none of its own")
    return services.stress
