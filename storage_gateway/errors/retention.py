"""Errors of retention: what may not go yet."""

from .base import RequestError
from .request import NotFound


class Held(RequestError):
    """A hold keeps the object, whoever wants it gone."""

    code = "held"
    status = 409
    title = "Held"
    remedy = "Ask the operator: GET …/holds tells who holds it and why, and only they release it."


class Retained(RequestError):
    """Its policy keeps its promises, and the object's time is not over."""

    code = "retained"
    status = 409
    title = "Retained"
    remedy = "Wait until 'retained_until', where there is one: nobody may erase it before."


class Expired(RequestError):
    """Nobody claims the object any more; it is not read, and is erased when its grace is over."""

    code = "expired"
    status = 410
    title = "Expired"
    remedy = (
        "While it is not erased it can be had back: PUT /v1/objects/{urn}/lease, or a longer"
        " lifetime: PUT /v1/objects/{urn}/retention."
    )


class LifetimeTooLong(RequestError):
    """Longer than the policy allows."""

    code = "lifetime_too_long"
    status = 422
    title = "Lifetime too long"
    remedy = "Ask for no more than the detail says, or use a session of another policy."


class LifetimeTooShort(RequestError):
    """Shorter than what was promised, under a policy that keeps its promises."""

    code = "lifetime_too_short"
    status = 422
    title = "Lifetime too short"
    remedy = "Ask for no less than what was promised: under compliance nobody can shorten it."


class NoSuchHold(NotFound):
    """No hold of that id is, or was, on this object or session."""

    code = "no_such_hold"
    title = "No such hold"
    remedy = "Look at the holds of the object, and at those of its session: GET …/holds."
