"""A gateway that tells its metrics, and what a parser that is not ours reads in them."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from storage_gateway.metrics import PREFIX
from tests.gateway import RunningGateway
from tests.http.raw import exchange, request

NAMES = ("one", "two")
"""The stores: folders beside that of the data."""


def settings(folder: Path) -> dict[str, object]:
    """Return the settings of a gateway over the stores, with an admin port."""
    backends = [{"kind": "local", "name": name, "path": str(folder / name)} for name in NAMES]
    return {"backends": backends, "admin_port": 0, "write_quorum": 1, "reserve_bytes": 0}


async def scraped(gateway: RunningGateway) -> str:
    """Return what the admin port tells."""
    admin = urlsplit(gateway.gateway.admin_url or "")
    assert admin.hostname == "127.0.0.1"
    answer = await exchange((admin.hostname, admin.port or 0), request("GET", "/metrics"))
    assert 200 == answer.status
    return answer.body.decode()


def families_of(text: str) -> Iterable[Metric]:
    """Return the metrics with their types and samples."""
    return text_string_to_metric_families(text)


def samples(text: str, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    """Return the samples that have these labels, with all of theirs."""
    return [
        (sample.labels, sample.value)
        for family in families_of(text)
        for sample in family.samples
        if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
    ]


def value(text: str, name: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels."""
    return sum(number for _, number in samples(text, name, **labels))


def ended(text: str, operation: str, outcome: str, **labels: str) -> float:
    """Return how many operations of stores ended so."""
    labels |= {"operation": operation, "outcome": outcome}
    return value(text, "store_operation_seconds_count", **labels)


def statuses(text: str, **labels: str) -> dict[str, float]:
    """Return how many requests ended with which status."""
    counted = samples(text, "request_seconds_count", **labels)
    return {labels["status"]: number for labels, number in counted}
