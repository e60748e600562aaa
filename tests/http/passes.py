"""Passes by hand over a gateway's parts, which wait for nothing."""

from pathlib import Path

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
