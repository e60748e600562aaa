"""``crash-after-commit``: the process dies when the commit is durable and nobody knows it."""

from storage_gateway.catalog.faulty import COMMITTED
from storage_gateway.stress.contract import Case
from storage_gateway.stress.crashing import crash_rounds
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.trial import Trial


class CrashAfterCommit(Parameters, kw_only=True, frozen=True):
    """Parameters of ``crash-after-commit``."""

    sizes: Sizes = (0, 4096, 70_000)


async def run(trial: Trial, _parameters: CrashAfterCommit) -> None:
    """Kill a process between COMMIT and the answer; what was committed must be found."""
    crashes = await crash_rounds(trial, (COMMITTED,))
    trial.verdict.require(
        "what was committed and not answered is found when it is sent again",
        met=crashes.found_committed >= crashes.count,
        evidence=f"{crashes.found_committed} found after {crashes.count} crashes",
    )


CASE = Case(
    name="crash-after-commit",
    edge_case="The process dies when an upload is committed and its answer was not sent.",
    fault="SIGKILL of a gateway process after COMMIT returned and before the answer.",
    load="Several uploads at one time to a process of the run; what got no answer is sent again to"
    " the next one.",
    passes_when="Who sends again is told that the slot is taken, and by which URN, which holds"
    " what was sent.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CrashAfterCommit,
    expected_s=15.0,
    run=run,
)
