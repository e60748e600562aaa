"""The header by which an upload says how long its object is to live."""

import re

from aiohttp import web

from retention import RetentionError
from storage_gateway.errors import InvalidField
from storage_gateway.records import Session
from storage_gateway.refusals import refused_wish

LIFETIME = "Object-Lifetime"
"""Whole seconds, from the commit."""
_SECONDS = re.compile(r"[0-9]{1,18}", re.ASCII)


def lifetime_of(request: web.Request) -> int | None:
    """Return what the request asks for, None where it leaves that to the terms.

    Raises:
        InvalidField: it is no number.

    """
    values = request.headers.getall(LIFETIME, [])
    if not values:
        return None
    if len(values) > 1 or _SECONDS.fullmatch(values[0]) is None:
        raise InvalidField(f"{LIFETIME} must be one whole number of seconds", field=LIFETIME)
    return int(values[0])


def check_lifetime(lifetime_s: int | None, session: Session) -> None:
    """Refuse what the session's terms do not allow.

    Raises:
        InvalidField: it is no lifetime.
        LifetimeTooLong, LifetimeTooShort: the session's terms do not allow it.

    """
    try:
        session.policy.lifetime(lifetime_s)
    except RetentionError as error:
        raise refused_wish(error, LIFETIME) from None
