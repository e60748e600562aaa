"""``concurrent-same-session``: answers never cross."""

from storage_gateway.records import INPUT, OUTPUT
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import MINER, Answer
from storage_gateway.stress.parameters import Clients, Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial


class ConcurrentSameSession(Parameters, kw_only=True, frozen=True):
    """Parameters of ``concurrent-same-session``."""

    clients: Clients = 16
    sizes: Sizes = (
        1000,
        65_536,
        70_000,
    )


async def run(trial: Trial, _parameters: ConcurrentSameSession) -> None:
    """Send inputs and outputs of many tasks of one session at one time."""
    member = await trial.member("stress")
    refused: list[str] = []
    seen: dict[str, tuple[str, str]] = {}
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def client(_number: int) -> None:
            task_id = trial.next_task()
            for direction in (INPUT, OUTPUT):
                body = trial.body()
                answer = await trial.deliver(customer, task_id, body, direction=direction)
                if answer.outcome != OK:
                    refused.append(f"{task_id} {direction} came to {answer.outcome}")
                    continue
                wrong = _crossed(answer, member.session_id, task_id, direction, body.size)
                if wrong or seen.setdefault(answer.urn, (task_id, direction)) != (
                    task_id,
                    direction,
                ):
                    trial.verdict.broken(
                        8,
                        f"{task_id} {direction} was answered {answer.urn} of another one: {wrong}",
                    )
                await trial.read_back(customer, answer.urn, body)

        await trial.crowd(client)
    trial.require_all("every upload is taken", refused)
    trial.verdict.require("objects were stored", met=bool(seen), evidence=f"{len(seen)} objects")


def _crossed(answer: Answer, session_id: str, task_id: str, direction: str, size: int) -> list[str]:
    """Return the members of an answer that are not those of the request."""
    expected = {
        "session_id": session_id,
        "task_id": task_id,
        "direction": direction,
        "miner": MINER if direction == OUTPUT else None,
        "size": size,
    }
    return [name for name, value in expected.items() if answer.document.get(name) != value]


CASE = Case(
    name="concurrent-same-session",
    edge_case="Many tasks of one session are answered at one time, and each must get its own"
    " answer.",
    fault="None: the number of requests under way in one session.",
    load="Inputs and outputs of many tasks at one time; each is read back at once.",
    passes_when="Each answer names the session, task, direction and size of its own request, no"
    " URN is answered twice, and each holds its own bytes.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ConcurrentSameSession,
    expected_s=7.0,
    run=run,
)
