"""Errors of the stress endpoints alone."""

from storage_gateway.errors import NotFound, RequestError, ServiceError


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


class BackendNeeded(RequestError):
    """The case is about a kind of backend that the deployment has not."""

    code = "stress_backend_needed"
    status = 409
    title = "The case needs another backend"
    remedy = "Add the backend that the detail names to the configuration, or run another case."


class SchemaRefused(ServiceError):
    """A run needs a schema in the deployment's database, and may not make it."""

    code = "stress_schema_refused"
    status = 500
    title = "No right to make a schema"
    remedy = "Give the gateway's database role the right CREATE on its database."
    retry_after_s = None


class RunLost(Exception):
    """The run is not this process's any more: another one clears it away."""
