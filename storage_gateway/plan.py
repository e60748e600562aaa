"""What to do next with work that may have been interrupted. Pure; uploads and recovery share it.

An upload holds an *intent* from before its first stored byte until its commit. Whoever finds an
intent, the request that made it or a recovery pass, asks `next_intent_step` and does that one
step, each of them idempotent, until nothing is left to do. A payload that was given up then lies
in a *grave*, whose end is decided in `retention.erasure`.
"""

import enum
from dataclasses import dataclass


class IntentState(enum.StrEnum):
    """An intent's life; commit and burial both remove the row."""

    OPEN = "open"
    ABORTING = "aborting"


class IntentStep(enum.StrEnum):
    """One step towards an intent's end."""

    WAIT = "wait"
    CLAIM = "claim"
    ABORT = "abort"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class IntentView:
    """What the decision rests on."""

    state: IntentState
    mine: bool
    """This process owns the intent."""
    working: bool
    """A request of this process is still at work on it."""
    owner_alive: bool
    """The owner's lease has not expired, by the database's clock."""


def next_intent_step(view: IntentView) -> IntentStep:
    """Decide the next step for one intent.

    WAIT: leave it to its owner. CLAIM: take it over from a dead owner, which also aborts it.
    ABORT: end it, so that it can no longer commit. DELETE: remove its blobs and bury it.
    """
    if view.mine:
        if view.working:
            return IntentStep.WAIT
        return IntentStep.ABORT if view.state is IntentState.OPEN else IntentStep.DELETE
    return IntentStep.WAIT if view.owner_alive else IntentStep.CLAIM
