"""Handlers: how long an object lives, and the leases on it."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web
from sqlalchemy import Connection

from retention import LIFETIME_S_MAX, Claims, RetentionError, verdict_on
from storage_gateway.catalog import now_ms
from storage_gateway.catalog.claiming import change_lifetime, let_go, renew_lease
from storage_gateway.catalog.claims import load_claims
from storage_gateway.errors import Erased
from storage_gateway.records import Caller, Manifest, ObjectState
from storage_gateway.refusals import refused_wish

from .body import read_json
from .object_handlers import manifest_for
from .pace import pace_of
from .representations import retention_json
from .services import SERVICES

T = TypeVar("T")
Change = Callable[[Connection, str], Claims]
"""A unit of an object's id."""


class _Lifetime(msgspec.Struct, forbid_unknown_fields=True):
    lifetime_s: int | None


class _Lease(msgspec.Struct, forbid_unknown_fields=True):
    for_s: Annotated[int, msgspec.Meta(ge=1, le=LIFETIME_S_MAX)]


async def show_retention(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/objects/{urn}/retention``: what is claimed, and what a sweep would do now."""
    manifest = await manifest_for(request, caller)
    if manifest.state is not ObjectState.COMMITTED:
        raise Erased("the object was erased")
    return await _answered(request, manifest)


async def change_object_lifetime(request: web.Request, caller: Caller) -> web.Response:
    """``PUT /v1/objects/{urn}/retention``: another lifetime, from the commit; null is for ever."""
    manifest = await manifest_for(request, caller)
    wish = await _read(request, _Lifetime)
    return await _changed(
        request,
        manifest,
        lambda c, object_id: change_lifetime(c, object_id, wish.lifetime_s),
        field="lifetime_s",
    )


async def renew_object_lease(request: web.Request, caller: Caller) -> web.Response:
    """``PUT /v1/objects/{urn}/lease``: the caller wants it to stay so long from now."""
    manifest = await manifest_for(request, caller)
    wish = await _read(request, _Lease)
    return await _changed(
        request,
        manifest,
        lambda c, object_id: renew_lease(c, object_id, caller.kind.value, wish.for_s),
        field="for_s",
    )


async def let_go_object(request: web.Request, caller: Caller) -> web.Response:
    """``DELETE /v1/objects/{urn}/lease``: the caller's own is given up."""
    manifest = await manifest_for(request, caller)
    return await _changed(
        request,
        manifest,
        lambda c, object_id: let_go(c, object_id, caller.kind.value),
        field="lease",
    )


async def _read(request: web.Request, kind: type[T]) -> T:
    config = request.app[SERVICES].config
    return await read_json(request, kind, bytes_max=config.json_bytes_max, pace=pace_of(config))


async def _changed(
    request: web.Request, manifest: Manifest, change: Change, *, field: str
) -> web.Response:
    object_id = manifest.object_id
    try:
        await request.app[SERVICES].catalog.run(lambda c: change(c, object_id))
    except RetentionError as error:
        raise refused_wish(error, field) from None
    await request.app[SERVICES].bringing.of_claims(manifest.slot.session_id, object_id)
    return await _answered(request, manifest)


async def _answered(request: web.Request, manifest: Manifest) -> web.Response:
    def look(connection: Connection) -> tuple[Claims, int]:
        return load_claims(connection, manifest.object_id), now_ms(connection)

    claims, now = await request.app[SERVICES].catalog.read(look)
    return web.json_response(
        retention_json(manifest, claims, verdict_on(claims, now)),
        headers={"Cache-Control": "private, no-cache"},
    )
