"""What the cases of lost answers have in common: who sends again finds its object, once."""

import collections
from collections.abc import Mapping

from sqlalchemy import Connection

from storage_gateway.catalog.objects import list_objects
from storage_gateway.errors import SlotTaken
from storage_gateway.records import ObjectState

from .bodies import Body
from .load import Customer
from .trial import Trial

PAGE = 1000


async def require_once(
    trial: Trial, customer: Customer, sent: Mapping[str, Body], urns: Mapping[str, str]
) -> None:
    """Require that the catalog has one object for each task; send the body of each once more, and
    require that it is refused with the URN that was answered before.
    """
    counted = await _objects_of(trial, customer.member.session_id)
    wrong = [f"{task_id} has {n} objects" for task_id in urns if (n := counted[task_id]) != 1]
    for task_id, urn in urns.items():
        again = await customer.upload(task_id, sent[task_id])
        if (again.outcome, again.urn) != (SlotTaken.code, urn):
            wrong.append(f"{task_id} has {urn}; sent again: {again.outcome} {again.urn}")
    trial.require_all("what is sent again is there once, under one URN", wrong)


async def _objects_of(trial: Trial, session_id: str) -> "collections.Counter[str]":
    """Count the session's objects by task, without the catalog's faults."""

    def unit(connection: Connection) -> "collections.Counter[str]":
        counted: collections.Counter[str] = collections.Counter()
        after = None
        while page := list_objects(connection, session_id, after=after, limit=PAGE):
            counted.update(m.slot.task_id for m in page if m.state is ObjectState.COMMITTED)
            after = (session_id, page[-1].sequence)
        return counted

    return await trial.world.catalog.inner.read(unit)
