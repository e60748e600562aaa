"""``crash-mid-upload``: the process dies while bodies are being stored."""

from storage_gateway.stress.contract import Case
from storage_gateway.stress.crashing import crash_rounds
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.trial import Trial

POINTS = ("write begins", "write done", "finish begins", "finish done")


class CrashMidUpload(Parameters, kw_only=True, frozen=True):
    """Parameters of ``crash-mid-upload``."""

    sizes: Sizes = (4096, 1_000_000, 9_000_000)


async def run(trial: Trial, _parameters: CrashMidUpload) -> None:
    """Kill a process at a step of the store, start another one, send again what got no answer."""
    await crash_rounds(trial, POINTS)


CASE = Case(
    name="crash-mid-upload",
    edge_case="The process dies while leaves and segments of several bodies are being stored.",
    fault="SIGKILL of a gateway process at a write to the store, or while a segment is synced.",
    load="Several uploads at one time to a process of the run; what got no answer is sent again to"
    " the next one.",
    passes_when="What was answered is readable, everything else is stored when sent again, and of"
    " the dead process nothing is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CrashMidUpload,
    expected_s=15.0,
    run=run,
)
