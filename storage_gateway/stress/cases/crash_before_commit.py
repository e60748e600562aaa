"""``crash-before-commit``: the process dies when the commit is decided and not yet durable."""

from storage_gateway.catalog.faulty import COMMIT_DECIDED
from storage_gateway.stress.contract import Case
from storage_gateway.stress.crashing import crash_rounds
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.trial import Trial


class CrashBeforeCommit(Parameters, kw_only=True, frozen=True):
    """Parameters of ``crash-before-commit``."""

    sizes: Sizes = (0, 4096, 70_000)


async def run(trial: Trial, _parameters: CrashBeforeCommit) -> None:
    """Kill a process within the transaction of a commit."""
    await crash_rounds(trial, (COMMIT_DECIDED,))


CASE = Case(
    name="crash-before-commit",
    edge_case="The process dies within the transaction that commits an upload.",
    fault="SIGKILL of a gateway process after a commit's statements and before COMMIT.",
    load="Several uploads at one time to a process of the run; what got no answer is sent again to"
    " the next one.",
    passes_when="Nobody was told of what was not committed, it is stored when sent again, and"
    " nothing of the first attempt is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CrashBeforeCommit,
    expected_s=15.0,
    run=run,
)
