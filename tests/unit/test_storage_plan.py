"""Goal: interrupted work always ends, and is never taken from who still works on it.

Method: the whole table of states (there are 16), and a walk that does each step on a model of the
catalog until nothing is left to do.
"""

from dataclasses import replace
from itertools import product

import pytest

from storage_gateway.plan import IntentState, IntentStep, IntentView, next_intent_step

STEPS_MAX = 4

ALL_VIEWS = [
    IntentView(state=state, mine=mine, working=working, owner_alive=alive)
    for state in IntentState
    for mine, working, alive in product((False, True), repeat=3)
]


def expected(view: IntentView) -> IntentStep:
    """The rule in words, read from the top."""
    if not view.mine and view.owner_alive:
        return IntentStep.WAIT  # its owner does it
    if not view.mine:
        return IntentStep.CLAIM  # nobody else will
    if view.working:
        return IntentStep.WAIT  # the request ends it
    return IntentStep.ABORT if view.state is IntentState.OPEN else IntentStep.DELETE


@pytest.mark.parametrize("view", ALL_VIEWS, ids=str)
def test_the_table_is_the_rule(view: IntentView) -> None:
    assert expected(view) == next_intent_step(view)


@pytest.mark.parametrize("view", ALL_VIEWS, ids=str)
def test_a_payload_is_deleted_only_after_its_intent_can_no_longer_commit(view: IntentView) -> None:
    if next_intent_step(view) is IntentStep.DELETE:
        assert IntentState.ABORTING is view.state
        assert view.mine


@pytest.mark.parametrize("view", [v for v in ALL_VIEWS if not v.working], ids=str)
def test_doing_each_step_ends(view: IntentView) -> None:
    """What nobody is at work on waits for a living owner, or is deleted after a few steps."""
    for _ in range(STEPS_MAX):
        match next_intent_step(view):
            case IntentStep.WAIT:
                assert not view.mine
                assert view.owner_alive
                return
            case IntentStep.DELETE:
                return
            case IntentStep.CLAIM:
                view = replace(view, mine=True, state=IntentState.ABORTING)
            case IntentStep.ABORT:
                view = replace(view, state=IntentState.ABORTING)
    pytest.fail(f"no end after {STEPS_MAX} steps: {view}")
