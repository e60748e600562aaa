"""``check``: verify a data folder and say what is wrong with it, if anything."""

import argparse
import json
from dataclasses import asdict

from sqlalchemy import select

from storage_gateway.backends import LocalStore
from storage_gateway.catalog import SQLiteCatalog
from storage_gateway.catalog.sessions import router_recipient
from storage_gateway.catalog.tables import deployment
from storage_gateway.config import ConfigError
from storage_gateway.custody import load_identity
from storage_gateway.errors import GatewayError
from storage_gateway.parts import CATALOG_FILE, STORE_FOLDER, marker_key, payloads_prefix
from storage_gateway.verify import Checker, CheckReport

from .output import EXIT_FAILED, EXIT_OK, fail, progress


def check(options: argparse.Namespace) -> int:
    """Check; exit 0 only if all is well."""
    path = options.data_dir / CATALOG_FILE
    if not path.exists():
        fail("check", f"{options.data_dir} holds no catalog ({CATALOG_FILE}): not a data folder")
        return EXIT_FAILED
    try:
        report = _check(options)
    except (GatewayError, ConfigError) as error:
        fail("check", error)
        return EXIT_FAILED
    if options.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _print(report)
    return EXIT_OK if not report.findings else EXIT_FAILED


def _check(options: argparse.Namespace) -> CheckReport:
    identity = load_identity(options.data_dir)
    if identity is None:
        raise ConfigError(f"the router's identity is missing from {options.data_dir}")
    catalog = SQLiteCatalog.open(options.data_dir / CATALOG_FILE)
    store = LocalStore(options.data_dir / STORE_FOLDER)
    try:
        deployment_id = catalog.read_blocking(
            lambda c: c.execute(select(deployment.c.deployment_id)).scalar_one_or_none()
        )
        if deployment_id is None:
            raise ConfigError(
                f"{options.data_dir} holds no deployment yet: its first start did not get that far"
            )
        known = catalog.read_blocking(router_recipient)
        if known != str(identity.recipient()):
            raise ConfigError(
                f"the identity in {options.data_dir} is not the one that this deployment's objects"
                f" are sealed to ({known}): restore that one"
            )
        checker = Checker(
            catalog=catalog,
            disk=store.disk,
            identity=identity,
            payloads=payloads_prefix(deployment_id),
            marker=marker_key(deployment_id),
        )
        with progress(checker.expected_bytes(), "check", quiet=options.quiet) as advance:
            checker.on_bytes = advance
            return checker.run()
    finally:
        store.close()
        catalog.close()


def _print(report: CheckReport) -> None:
    mib = report.bytes_verified / (1 << 20)
    print(
        f"{report.objects} objects, {mib:,.1f} MiB verified; {report.tombstones} erased,"
        f" {report.uploads_open} uploads under way, {report.graves} payloads being cleared"
    )
    for finding in report.findings:
        print(f"\n{finding.kind}: {finding.where}\n  {finding.detail}\n  remedy: {finding.remedy}")
    print("all is well" if not report.findings else f"\n{len(report.findings)} findings")
