"""Errors of retention: what may not go yet."""

from .base import RequestError


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
