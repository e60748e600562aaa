"""What is told on the admin port: metrics, and whether the process is alive and ready.

It listens on this machine only and asks for no token: whoever has an account here may look. Nothing
in it names an object, a session or a party.
"""

from aiohttp import web

from storage_gateway.metrics import CONTENT_TYPE

from .health_handlers import healthz, readyz
from .services import SERVICES, Services

ADMIN_HOST = "127.0.0.1"


def make_admin_application(services: Services) -> web.Application:
    """Return the application; nothing is started by it."""
    app = web.Application()
    app[SERVICES] = services
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


async def metrics(request: web.Request) -> web.Response:
    """``GET /metrics``: in the text format of Prometheus."""
    body = request.app[SERVICES].metrics.text()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
