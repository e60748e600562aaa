"""Passes by hand over a gateway's parts, which wait for nothing."""

from pathlib import Path

from storage_gateway.catalog import Catalog
from storage_gateway.collect import Collect
from storage_gateway.repair import Repair
from storage_gateway.scrub import Scrub
from tests.gateway import RunningGateway


def repair_of(gateway: RunningGateway, spool: Path) -> Repair:
    """Return repair as the gateway has it, that does not wait for what may still come."""
    parts = gateway.gateway.parts
    return Repair(
        catalog=parts.catalog,
        store=parts.replicas,
        threads=gateway.gateway._threads,
        payloads=parts.payloads,
        spool=spool,
        settled_s=0.0,
    )


def scrub_of(gateway: RunningGateway, *, bytes_per_s: float = 1e12) -> Scrub:
    """Return a scrub that is as fast as it can be."""
    parts = gateway.gateway.parts
    return Scrub(
        catalog=parts.catalog,
        members=parts.members,
        threads=gateway.gateway._threads,
        payloads=parts.payloads,
        bytes_per_s=bytes_per_s,
        round_s=0.0,
    )


def collect_of(
    gateway: RunningGateway, catalog: Catalog | None = None, *, dwell_s: float, interval_s: float
) -> Collect:
    """Return a collector over the gateway's stores; its ``catalog`` may have a clock of its own."""
    parts = gateway.gateway.parts
    return Collect(
        catalog=catalog or parts.catalog,
        members=parts.members,
        payloads=parts.payloads,
        marker=parts.marker,
        dwell_s=dwell_s,
        interval_s=interval_s,
    )
