"""What a caller is sent: JSON forms of sessions and objects, names, content negotiation."""

import base64
from collections.abc import Iterable

from aiohttp import web

from retention import Claims, Policy, Verdict
from storage_gateway.blind import Pending
from storage_gateway.catalog.blind import Reservation
from storage_gateway.errors import Erased, Expired, ForeignName, InvalidURN, NotAcceptable
from storage_gateway.records import MINER, ROUTER, USER, Manifest, ObjectState, Session
from storage_gateway.times import timestamp, timestamp_or_none
from urn import ForeignName as ForeignURN
from urn import ObjectName, URNError, mint, parse_name

SEALED_TYPE = "application/age"
PLAINTEXT_TYPE = "application/octet-stream"


def session_json(session: Session, intake: str | None) -> dict[str, object]:
    """Return a session with its parties, without any token.

    ``intake`` is what the router's party is shown with: the recipient for sealed uploads; None: its
    own, as the session has it. What the session leaves to the deployment is null.
    """
    by_role = {p.role: p for p in session.parties if p.role != MINER}
    return {
        "session_id": session.session_id,
        "custody": session.custody,
        "key_class": session.key_class,
        "created": timestamp(session.created_ms),
        "backends": session.wanted.backends,
        "write_quorum": session.wanted.write_quorum,
        "retention": policy_json(session.policy),
        "held": session.held,
        "parties": {
            "user": {"recipient": by_role[USER].recipient, "version": by_role[USER].version},
            "router": {
                "recipient": intake or by_role[ROUTER].recipient,
                "version": by_role[ROUTER].version,
            },
            "miners": [
                {"id": p.miner, "recipient": p.recipient, "version": p.version}
                for p in session.parties
                if p.role == MINER
            ],
        },
    }


def policy_json(policy: Policy) -> dict[str, object]:
    """Return the terms of a policy; null is for ever."""
    return {
        "policy": policy.name,
        "mode": policy.mode.value,
        "default_s": policy.default_s,
        "longest_s": policy.longest_s,
        "grace_s": policy.grace_s,
    }


def object_json(manifest: Manifest) -> dict[str, object]:
    """Return what an upload answers and a list shows."""
    name = mint(manifest.object_id, manifest.cid)
    return {
        "urn": name.urn,
        "urn_pinned": name.urn_pinned,
        "cid": manifest.cid,
        "size": manifest.size,
        "sealed_size": manifest.sealed_size,
        "session_id": manifest.slot.session_id,
        "task_id": manifest.slot.task_id,
        "direction": manifest.slot.direction,
        "miner": manifest.slot.miner,
        "state": manifest.state.value,
        "created": timestamp(manifest.created_ms),
        "expires": timestamp_or_none(manifest.expires_ms),
    }


def manifest_json(manifest: Manifest) -> dict[str, object]:
    """Return the whole manifest as parties may see it: no head, no payload, no key material."""
    return object_json(manifest) | {
        "generation": manifest.generation,
        "key_class": manifest.key_class,
        "payload_id": manifest.payload_id,
        "payload_size": manifest.payload_size,
        "wrapped_for": [party.as_json() for party in manifest.wrapped_for],
        "expired": timestamp_or_none(manifest.expired_ms),
    }


def retention_json(manifest: Manifest, claims: Claims, verdict: Verdict) -> dict[str, object]:
    """Return what is claimed of an object, and what a sweep would do with it; null is for ever."""
    return {
        "urn": mint(manifest.object_id).urn,
        "session_id": manifest.slot.session_id,
        "policy": claims.policy.name,
        "mode": claims.policy.mode.value,
        "committed": timestamp(claims.committed_ms),
        "keep_until": timestamp_or_none(claims.keep_until_ms),
        "expires": timestamp_or_none(claims.expires_ms),
        "leases": [
            {"holder": lease.holder, "until": timestamp(lease.until_ms)} for lease in claims.leases
        ],
        "held": claims.holds > 0,
        "expired": timestamp_or_none(claims.expired_ms),
        "erase_after": timestamp_or_none(claims.erase_after_ms),
        "verdict": {
            "action": verdict.action.value,
            "reason": verdict.reason.value,
            "until": timestamp_or_none(verdict.until_ms),
        },
    }


def check_readable(manifest: Manifest) -> None:
    """Refuse to read what is gone, or on its way.

    Raises:
        Erased: it was erased.
        Expired: it expired; the text says until when it can be had back.

    """
    if manifest.state is not ObjectState.COMMITTED:
        raise Erased("the object was erased")
    if manifest.expired_ms is not None:
        until = timestamp(manifest.erase_after_ms or manifest.expired_ms)
        raise Expired(
            f"the object expired; a lease or a longer lifetime has it back, at least until {until}"
        )


def pending_json(pending: Pending) -> dict[str, object]:
    """Return the whole manifest, and whom its head would be wrapped for now.

    ``parties_id`` stands for that set: who sends a new head names it.
    """
    return manifest_json(pending.manifest) | {
        "rewrap_pending": pending.is_pending,
        "rewrap_for": [party.as_json() for party in pending.parties],
        "parties_id": pending.wrap_id,
    }


def reservation_json(reservation: Reservation) -> dict[str, object]:
    """Return all that is needed to seal an upload: names, the context's bytes, whom for."""
    context = reservation.context().canonical()
    return {
        "urn": mint(reservation.object_id).urn,
        "payload_id": reservation.payload_id,
        "session_id": reservation.slot.session_id,
        "context": base64.b64encode(context).decode("ascii"),
        "key_class": reservation.key_class,
        "recipients": [{"miner": None} | party.as_json() for party in reservation.parties],
        "expires": timestamp(reservation.expires_ms),
    }


def name_of(request: web.Request) -> ObjectName:
    """Return the object's name in the path, with its pin.

    The pin's ``?=cid=`` arrives as a query that starts with ``=`` when it was not escaped, and an
    r-component, which no name of ours has, as one that starts with ``+``.

    Raises:
        InvalidURN: it is no name.
        ForeignName: it is one of the network's that has no alias here.

    """
    text = request.match_info["urn"]
    query = request.rel_url.raw_query_string
    if query.startswith(("=", "+")):
        text = f"{text}?{query}"
    try:
        name = parse_name(text)
    except URNError as error:
        raise InvalidURN(str(error), position=error.position) from None
    if isinstance(name, ForeignURN):
        raise ForeignName("no alias for this name")
    return name


def preferred(accept: str | None, offered: Iterable[str]) -> str:
    """Return the offered media type that Accept prefers; the first offered one wins ties.

    Source: RFC 9110, section 12.5.1.

    Raises:
        NotAcceptable: none is acceptable.

    """
    if not accept:
        return next(iter(offered))
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    best, best_quality = None, 0.0
    for kind in offered:
        patterns = (kind, f"{kind.partition('/')[0]}/*", "*/*")
        # The most specific range that matches decides, whatever its place.
        matches = [[q for pattern, q in ranges if pattern == wanted] for wanted in patterns]
        quality = next((max(found) for found in matches if found), 0.0)
        # An exact name beats a wildcard of the same quality.
        if matches[0]:
            quality += 0.0001 if quality else 0.0
        if quality > best_quality:
            best, best_quality = kind, quality
    if best is None:
        raise NotAcceptable(f"'{accept[:100]}' matches no representation")
    return best


def _media_range(part: str) -> tuple[str, float]:
    pattern, *parameters = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return pattern.lower(), quality
