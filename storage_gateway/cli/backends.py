"""``backends probe``: try every configured S3 store, IPFS node and gateway of IPFS, and say what it
can do.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict

from storage_gateway.backends import LocalStore
from storage_gateway.backends.pins import NoPins
from storage_gateway.backends.probe_report import StoreReport
from storage_gateway.catalog.work import find_deployment
from storage_gateway.config import Config, ConfigError, load_config
from storage_gateway.errors import GatewayError
from storage_gateway.ids import new_random_id
from storage_gateway.markers import marker_key
from storage_gateway.parts import CATALOG_FILE, open_catalog
from storage_gateway.stores import open_gateways, open_stores

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, fail

COMMAND = "backends probe"


def probe(options: argparse.Namespace) -> int:
    """Probe; exit 0 only if no store is refused."""
    settings = {"data_dir": options.data_dir, "catalog_url": options.catalog_url}
    try:
        config = load_config(file=options.config, environment=os.environ, options=settings)
        reports = asyncio.run(_probe(config, _deployment_id(config)))
    except ConfigError as error:
        fail(COMMAND, error)
        return EXIT_USAGE
    except GatewayError as error:
        fail(COMMAND, error)
        return EXIT_FAILED
    if options.json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        _print(reports)
    return EXIT_FAILED if any(report.refusals for report in reports) else EXIT_OK


def _deployment_id(config: Config) -> str:
    """Return the deployment's id; before its first start one that is used for nothing else."""
    if config.catalog_url is None and not (config.data_dir / CATALOG_FILE).exists():
        return new_random_id()
    catalog = open_catalog(config, as_it_is=True)
    try:
        return catalog.read_blocking(find_deployment) or new_random_id()
    finally:
        catalog.close()


async def _probe(config: Config, deployment_id: str) -> list[StoreReport]:
    async with AsyncExitStack() as opened:
        marker = marker_key(deployment_id)
        stores = await open_stores(config, marker, opened, lambda _name: NoPins())
        # One after the other: each is to show its own speed.
        found: list[StoreReport] = [
            await s.probe(deployment_id) for s in stores if not isinstance(s, LocalStore)
        ]
        found += [await gateway.probe() for gateway in await open_gateways(config, opened)]
        return found


def _print(reports: Sequence[StoreReport]) -> None:
    if not reports:
        print("no S3 store, no IPFS node and no gateway of IPFS is configured")
    for report in reports:
        rows = asdict(report)
        del rows["findings"]
        for label, value in rows.items():
            shown = "-" if value is None else str(value)
            if isinstance(value, bool):
                shown = "yes" if value else "no"
            print(f"{label.replace('_', ' '):<20} {shown}")
        for finding in report.findings:
            verdict = "refused" if finding.refuses else "noted"
            print(f"{verdict}: {finding.kind}: {finding.detail}\n  remedy: {finding.remedy}")
        print()
