"""Handlers: passes that an operator runs by hand."""

from dataclasses import asdict
from typing import Annotated

import msgspec
from aiohttp import web

from storage_gateway.records import Caller

from .body import read_json
from .pace import pace_of
from .services import SERVICES

SECONDS_MAX = 60.0
CONFIRM_MAX = 10**12


class PassWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be said of a pass."""

    seconds: Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)] = 10.0
    """How long it goes on; what it has begun then it ends."""
    confirm: Annotated[int, msgspec.Meta(ge=0, le=CONFIRM_MAX)] = 0
    """So much may go, though it is suspiciously much: payloads of a store by gc, objects by
    sweep."""


async def run_pass(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/admin/passes/{name}``: run one now, from where the one before stopped.

    Answers what it did. ``ended`` says that it came to the end of all there is; where it did not,
    and did nothing, another process has its turn.
    """
    services = request.app[SERVICES]
    wish = PassWish()
    if request.body_exists:
        config = services.config
        wish = await read_json(
            request, PassWish, bytes_max=config.json_bytes_max, pace=pace_of(config)
        )
    name = request.match_info["pass"]
    report = await services.upkeep.run_pass(name, wish.seconds, wish.confirm)
    document = {"pass": name, "ended": True} | asdict(report)
    return web.json_response(document, headers={"Cache-Control": "no-store"})
