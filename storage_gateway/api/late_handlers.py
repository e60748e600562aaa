"""Handlers: uploads that were answered with 202, and what is told of their objects meanwhile."""

import math
from typing import TypeVar, cast

from aiohttp import web
from sqlalchemy import Connection

from storage_gateway.catalog import Unit
from storage_gateway.catalog.outcomes import Outcome, OutcomeState, load_outcome
from storage_gateway.errors import FileKeyReused, NotFound, SlotBusy
from storage_gateway.ids import check_scope_id
from storage_gateway.late import CommitPending
from storage_gateway.records import Caller
from storage_gateway.times import timestamp
from urn import mint

from .access import LOOK, check_known
from .representations import object_json
from .services import SERVICES

T = TypeVar("T")

SEND_AGAIN = "Send the upload again: nothing of this attempt was kept, and its slot is free."
_REMEDIES = {FileKeyReused.code: FileKeyReused.remedy}
"""What is to be done where sending the same again cannot help."""


def look_at_upload(request: web.Request, caller: Caller) -> Unit[Outcome]:
    """Look at the upload that the path names."""
    session_id = request.match_info["session"]
    object_id = check_scope_id(request.match_info["upload"], "upload")

    def unit(connection: Connection) -> Outcome:
        outcome = load_outcome(connection, object_id)
        if outcome.slot.session_id != session_id:
            raise NotFound("no such object")
        check_known(outcome.slot, caller)
        return outcome

    return unit


async def show_upload(request: web.Request, _caller: Caller) -> web.Response:
    """``GET /v1/sessions/{session}/uploads/{upload}``: what became of one answered with 202."""
    outcome = await request.app[SERVICES].late.decided(cast("Outcome", request[LOOK]))
    if outcome.state is OutcomeState.PENDING:
        return pending_response(outcome, status=200)
    document = _outcome_json(outcome)
    if outcome.manifest is not None:
        # Erased since or not: of the upload this remains true.
        document = object_json(outcome.manifest) | document
    else:
        remedy = _REMEDIES.get(outcome.code, SEND_AGAIN)
        document |= {"code": outcome.code, "remedy": remedy}
    return web.json_response(document, headers={"Cache-Control": "private, no-store"})


def pending_response(outcome: Outcome, *, status: int = 202) -> web.Response:
    """Return what is told of an upload that is not decided yet."""
    headers = {
        "Location": _status_url(outcome),
        "Retry-After": str(CommitPending.retry_after_s),
        "Cache-Control": "private, no-store",
    }
    return web.json_response(_outcome_json(outcome), status=status, headers=headers)


def or_pending(look: Unit[T], object_id: str, caller: Caller) -> Unit[T]:
    """Return a look at an object that tells those who may know of it when it is pending.

    It raises:
        CommitPending: it may be there soon.
        NotFound: it is not, or the caller may not know of it.

    """

    def unit(connection: Connection) -> T:
        try:
            return look(connection)
        except NotFound:
            outcome = load_outcome(connection, object_id)
            check_known(outcome.slot, caller)
            if outcome.state is not OutcomeState.PENDING:
                raise
            raise CommitPending(
                "the upload is not committed yet", status_url=_status_url(outcome)
            ) from None

    return unit


def told_where(busy: SlotBusy, caller: Caller) -> Unit[SlotBusy]:
    """Return the unit that makes of an error one for the caller: with the status URL of the upload
    that holds the slot, if that was answered with 202. Who lost the answer finds it again so.
    """

    def unit(connection: Connection) -> SlotBusy:
        try:
            outcome = load_outcome(connection, str(busy.extensions.get("object_id", "")))
            check_known(outcome.slot, caller)
        except NotFound:
            return SlotBusy(busy.detail)
        if outcome.state is not OutcomeState.PENDING:
            return SlotBusy(busy.detail)
        return SlotBusy(busy.detail, status_url=_status_url(outcome))

    return unit


def _outcome_json(outcome: Outcome) -> dict[str, object]:
    slot = outcome.slot
    return {
        "status_url": _status_url(outcome),
        "urn": mint(outcome.object_id).urn,
        "session_id": slot.session_id,
        "task_id": slot.task_id,
        "direction": slot.direction,
        "miner": slot.miner,
        "state": outcome.state.value,
        "decided_by": timestamp(outcome.decide_by_ms),
        "decided_within_s": max(0, math.ceil(outcome.left_ms / 1000)),
    }


def _status_url(outcome: Outcome) -> str:
    return f"/v1/sessions/{outcome.slot.session_id}/uploads/{outcome.object_id}"
