"""Handlers: is the process alive, is it ready."""

from aiohttp import web

from .services import SERVICES


async def healthz(_request: web.Request) -> web.Response:
    """``GET /healthz``: the process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """``GET /readyz``: every part that a request needs works; 503 otherwise.

    ``degraded``: a store is out of reach, and those that must have a payload are not.
    """
    readiness = await request.app[SERVICES].check_ready()
    well = all(outcome == "ok" for outcome in readiness.checks.values())
    status = ("ok" if well else "degraded") if readiness.ready else "unavailable"
    return web.json_response(
        {"status": status, "checks": readiness.checks}, status=200 if readiness.ready else 503
    )
