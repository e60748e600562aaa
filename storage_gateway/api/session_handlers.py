"""Handlers: sessions, their tokens, their objects."""

import re
from typing import Annotated

import msgspec
from aiohttp import web
from sqlalchemy import Connection

from storage_gateway.addresses import AddressError, parse_address
from storage_gateway.blind import is_pending
from storage_gateway.catalog.objects import list_objects
from storage_gateway.catalog.pending import awaiting_rewrap
from storage_gateway.catalog.stress_runs import CONTROL_SESSIONS
from storage_gateway.errors import InvalidField
from storage_gateway.records import BLIND, Caller, Manifest, Session, TokenKind, Wanted
from storage_gateway.sessions import MinerEntry

from .body import read_json
from .pace import pace_of
from .representations import object_json, pending_json, session_json
from .services import SERVICES, Services

PAGE_DEFAULT = 100
_SEQUENCE = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)

Text = Annotated[str, msgspec.Meta(max_length=2048)]


class _Party(msgspec.Struct, forbid_unknown_fields=True):
    recipient: Text


class _Miner(msgspec.Struct, forbid_unknown_fields=True):
    id: Text
    recipient: Text


class _Parties(msgspec.Struct, forbid_unknown_fields=True):
    user: _Party
    router: _Party | None = None
    miners: list[_Miner] = []


class _NewSession(msgspec.Struct, forbid_unknown_fields=True):
    parties: _Parties
    session_id: Text | None = None
    custody: Text = "router"
    backends: list[Text] | None = None
    write_quorum: int | None = None
    retention: Text | None = None


class _Policy(msgspec.Struct, forbid_unknown_fields=True):
    policy: Text


class _NewToken(msgspec.Struct, forbid_unknown_fields=True):
    party: Text
    miner: Text | None = None


async def create_session(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/sessions``: open a session; its tokens are shown this once."""
    services = request.app[SERVICES]
    body = await read_json(
        request,
        _NewSession,
        bytes_max=services.config.json_bytes_max,
        pace=pace_of(services.config),
    )
    if (body.session_id or "").startswith(CONTROL_SESSIONS):
        raise InvalidField(
            f"session_id must not begin with '{CONTROL_SESSIONS}': such sessions are dropped with"
            " the stress runs that they belong to",
            field="session_id",
        )
    opened = await services.sessions.open(
        session_id=body.session_id,
        custody=body.custody,
        user_recipient=body.parties.user.recipient,
        miners=[MinerEntry(m.id, m.recipient) for m in body.parties.miners],
        wanted=Wanted(None if body.backends is None else tuple(body.backends), body.write_quorum),
        router_recipient=None if body.parties.router is None else body.parties.router.recipient,
        retention=body.retention,
    )
    document = await _session_json(services, opened.session)
    tokens: dict[str, object] = {"user": opened.user_token, "miners": opened.miner_tokens}
    if opened.router_token is not None:
        tokens["router"] = opened.router_token
    document["tokens"] = tokens
    return web.json_response(
        document,
        status=201,
        headers={
            "Location": f"/v1/sessions/{opened.session.session_id}",
            "Cache-Control": "no-store",
        },
    )


async def show_session(request: web.Request, _caller: Caller) -> web.Response:
    """``GET /v1/sessions/{session}``."""
    services = request.app[SERVICES]
    session = await services.sessions.get(request.match_info["session"])
    return web.json_response(await _session_json(services, session))


async def change_retention(request: web.Request, _caller: Caller) -> web.Response:
    """``PUT /v1/sessions/{session}/retention``: the policy of what is committed later."""
    services = request.app[SERVICES]
    config = services.config
    body = await read_json(request, _Policy, bytes_max=config.json_bytes_max, pace=pace_of(config))
    session = await services.sessions.retain(request.match_info["session"], body.policy)
    return web.json_response(await _session_json(services, session))


async def _session_json(services: Services, session: Session) -> dict[str, object]:
    is_ours = session.custody != BLIND
    intake = await services.sessions.intake_recipient(session) if is_ours else None
    return session_json(session, intake)


async def reissue_token(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/tokens``: a party's new token; its old ones are revoked."""
    services = request.app[SERVICES]
    body = await read_json(
        request,
        _NewToken,
        bytes_max=services.config.json_bytes_max,
        pace=pace_of(services.config),
    )
    miner = None
    if body.party == TokenKind.MINER:
        miner = address_of(body.miner or "", "miner")
    elif body.party not in {TokenKind.USER, TokenKind.ROUTER} or body.miner is not None:
        raise InvalidField(
            "party must be 'user', 'router' (of blind custody), or 'miner' with 'miner'",
            field="party",
        )
    session_id, router = request.match_info["session"], body.party == TokenKind.ROUTER
    if router and (await services.sessions.get(session_id)).custody != BLIND:
        raise InvalidField("the gateway is this session's router", field="party")
    token = await services.sessions.reissue(session_id, miner, router=router)
    return web.json_response(
        {"party": body.party, "miner": miner, "token": token},
        status=201,
        headers={"Cache-Control": "no-store"},
    )


async def list_session_objects(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/sessions/{session}/objects``: a page, oldest first; ``next`` is the next cursor.

    With ``pending=true`` those whose head is not wrapped for the current keys.
    """
    services = request.app[SERVICES]
    session = await services.sessions.get(request.match_info["session"])
    limit = limit_of(request, services.config.page_max)
    cursor = request.query.get("cursor")
    after = None if cursor is None else _position_of(cursor, session.session_id)
    output_of = caller.miner if caller.kind is TokenKind.MINER else None
    pending = _pending_of(request)

    def look(connection: Connection) -> list[Manifest]:
        return list_objects(
            connection,
            session.session_id,
            after=after,
            limit=limit + 1,
            output_of=output_of,
            only=awaiting_rewrap(connection, session) if pending else None,
        )

    manifests = await services.catalog.read(look)
    more = len(manifests) > limit
    page = manifests[:limit]
    return web.json_response(
        {
            "objects": [
                pending_json(is_pending(session, manifest)) if pending else object_json(manifest)
                for manifest in page
            ],
            "next": _cursor_of(page[-1]) if more else None,
        }
    )


def address_of(text: str, field: str) -> str:
    """Return a miner's address in its one inner form.

    Raises:
        InvalidField: it is no address.

    """
    try:
        return parse_address(text)
    except AddressError as error:
        raise InvalidField(str(error), field=field) from None


def limit_of(request: web.Request, page_max: int) -> int:
    """Return how much of a list is asked for.

    Raises:
        InvalidField: no number, or too much.

    """
    text = request.query.get("limit")
    if text is None:
        return min(PAGE_DEFAULT, page_max)
    digits = len(str(page_max))
    well_formed = text.isascii() and text.isdigit() and len(text) <= digits
    if not (well_formed and 1 <= int(text) <= page_max):
        raise InvalidField(f"limit must be a number from 1 to {page_max}", field="limit")
    return int(text)


def _pending_of(request: web.Request) -> bool:
    text = request.query.get("pending", "false")
    if text not in {"true", "false"}:
        raise InvalidField("pending must be 'true' or 'false'", field="pending")
    return text == "true"


def _cursor_of(manifest: Manifest) -> str:
    return f"{manifest.slot.session_id}~{manifest.sequence}"


def _position_of(cursor: str, session_id: str) -> tuple[str, int]:
    session, _, sequence = cursor.rpartition("~")
    if session != session_id or _SEQUENCE.fullmatch(sequence) is None:
        raise InvalidField("the cursor is not one that was answered here", field="cursor")
    return session, int(sequence)
