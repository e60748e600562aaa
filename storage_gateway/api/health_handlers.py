"""Handlers: is the process alive, is it ready."""

from collections.abc import Iterable, Mapping

from aiohttp import web

from storage_gateway.backends.probe_report import ProbeFinding
from storage_gateway.readiness import GatewayState, StoreState
from storage_gateway.times import timestamp

from .services import SERVICES


async def healthz(_request: web.Request) -> web.Response:
    """``GET /healthz``: the process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """``GET /readyz``: every part that a request needs works; 503 otherwise.

    ``degraded``: a store is out of reach, and those that must have a payload are not; or one is in
    a state in which it would not be taken into use; or the router's keys are out of reach.
    """
    readiness = await request.app[SERVICES].check_ready()
    status = ("ok" if readiness.well else "degraded") if readiness.ready else "unavailable"
    document = {
        "status": status,
        "checks": readiness.checks,
        "stores": [_shown(store) for store in readiness.stores],
    }
    if readiness.gateways:
        document["gateways"] = [_gateway_shown(gateway) for gateway in readiness.gateways]
    return web.json_response(document, status=200 if readiness.ready else 503)


def _shown(store: StoreState) -> Mapping[str, object]:
    """Return what anybody may see: a finding's detail says things of the store's own."""
    resting = {"reads": store.reads_rest, "writes": store.writes_rest}
    return {
        "name": store.name,
        "ready": store.ready,
        "since": timestamp(store.since),
        "resting": [operation for operation, rests in resting.items() if rests],
        "probed": None if store.probed is None else timestamp(store.probed),
        "findings": _findings_shown(store.findings),
    }


def _gateway_shown(gateway: GatewayState) -> Mapping[str, object]:
    return {
        "name": gateway.name,
        "resting": ["reads"] if gateway.reads_rest else [],
        "probed": None if gateway.probed is None else timestamp(gateway.probed),
        "findings": _findings_shown(gateway.findings),
    }


def _findings_shown(findings: Iterable[ProbeFinding]) -> list[Mapping[str, object]]:
    return [
        {"kind": finding.kind, "remedy": finding.remedy, "refuses": finding.refuses}
        for finding in findings
    ]
