"""``crash-in-recovery``: the process that clears up dies as well."""

from storage_gateway.stress.contract import Case
from storage_gateway.stress.crashing import LEASES, Crashes
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.trial import Trial

UPLOAD_POINTS = ("write done", "finish done")
RECOVERY_POINTS = ("list begins", "delete begins", "delete done")


class CrashInRecovery(Parameters, kw_only=True, frozen=True):
    """Parameters of ``crash-in-recovery``."""

    sizes: Sizes = (4096, 1_000_000)


async def run(trial: Trial, _parameters: CrashInRecovery) -> None:
    """Kill a process in its uploads, and the next one while it clears those away."""
    crashes = Crashes(trial, await trial.member("stress"))
    recoveries = 0
    while recoveries == 0 or trial.goes_on():
        async with trial.children.child(**LEASES) as child:
            await child.wait_ready()
            await crashes.send_again(child)
            await crashes.crash(child, UPLOAD_POINTS)
        point = RECOVERY_POINTS[recoveries % len(RECOVERY_POINTS)]
        async with trial.children.child(at=point, **LEASES) as child:
            await child.wait_at_point()
            await crashes.kill(child)
        recoveries += 1
    async with trial.world.gateway(**LEASES) as gateway:
        await crashes.send_again(gateway)
    trial.notes["crashes_in_recovery"] = recoveries
    crashes.conclude()


CASE = Case(
    name="crash-in-recovery",
    edge_case="The process that clears away what a dead one left dies in the midst of it.",
    fault="SIGKILL in an upload, then SIGKILL of the next process when it lists or deletes.",
    load="Several uploads at one time; what got no answer is sent again to the third process.",
    passes_when="The next recovery takes up where the last one died: everything is stored when"
    " sent again, and nothing is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CrashInRecovery,
    expected_s=20.0,
    run=run,
)
