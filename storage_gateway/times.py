"""Times as they are told. Pure."""

from datetime import UTC, datetime


def timestamp(moment: int | datetime) -> str:
    """Return a time, in milliseconds or in UTC, as RFC 3339 in UTC with milliseconds."""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    text = moment.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def timestamp_or_none(moment_ms: int | None) -> str | None:
    """As `timestamp`, of what may never be."""
    return None if moment_ms is None else timestamp(moment_ms)
