"""Handlers: is the process alive, is it ready."""

from aiohttp import web

from .services import SERVICES


async def healthz(_request: web.Request) -> web.Response:
    """``GET /healthz``: the process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """``GET /readyz``: every part that a request needs works; 503 otherwise."""
    checks = await request.app[SERVICES].check_ready()
    ready = all(outcome == "ok" for outcome in checks.values())
    return web.json_response(
        {"status": "ok" if ready else "unavailable", "checks": checks},
        status=200 if ready else 503,
    )
