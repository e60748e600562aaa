"""What a run and its own processes tell each other: one JSON document a line, over pipes."""

import msgspec

from storage_gateway.database_url import DatabaseURL


def point_of(store: str, step: str) -> str:
    """Return the point that a step of one store is."""
    return f"{store}: {step}"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """The first line down: what the process serves, and for whom."""

    run_id: str
    deployment_id: str
    config: bytes
    """Of the process's gateway, as JSON."""
    seed: int
    parent_pid: int
    database: DatabaseURL | None
    """The deployment's, where the run's catalog is in it: with the password, for the pipe alone."""
    at: str | None = None
    """The point at which it is to wait from the beginning on; see `Order`."""
    nth: int = 1


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Any further line down. The process ends with the pipe."""

    at: str | None = None
    """Wait at this point from now on: a step of the store that all make together or of one of them
    (`point_of`), or a point of `catalog.faulty`."""
    nth: int = 1
    """The how manieth time it is reached from now on."""
    go: bool = False
    """Go on from the point where it waits."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A line up."""

    url: str | None = None
    """It takes requests there from now on."""
    reached: str | None = None
    """It waits at this point."""
