"""Errors of the stress endpoints alone."""

from storage_gateway.errors import NotFound, RequestError


class StressDisabled(NotFound):
    """Stress runs are off."""

    code = "stress_disabled"
    title = "Stress runs are not enabled"
    remedy = "Start the gateway with --enable-stress, on a machine that may be loaded."


class StressBusy(RequestError):
    """One stress run at a time: another one is under way, or is being cleared away."""

    code = "stress_busy"
    status = 409
    title = "A stress run is under way"
    remedy = "Wait for the run that 'run_id' names to end, or stop it."
    retry_after_s = 10
