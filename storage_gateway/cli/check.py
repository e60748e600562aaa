"""``check``: verify a data folder, say what is wrong with it, if anything, and mend what can be."""

import argparse
import asyncio
import json
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from crypto import Identity
from storage_gateway.backends import Shelf, shelf_of
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.copies import mark_bad
from storage_gateway.catalog.sessions import router_recipient
from storage_gateway.catalog.work import find_deployment
from storage_gateway.config import Config, ConfigError, load_config
from storage_gateway.configured_keys import load_all
from storage_gateway.errors import BlobMissing, GatewayError
from storage_gateway.findings import CheckReport
from storage_gateway.logs import configure_logs
from storage_gateway.markers import marker_key
from storage_gateway.parts import CATALOG_FILE, open_catalog, payloads_prefix
from storage_gateway.pins import pins_in
from storage_gateway.stores import open_stores
from storage_gateway.verify import Checker

from .mending import Mended, mend
from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, fail, progress

T = TypeVar("T")


def check(options: argparse.Namespace) -> int:
    """Check; exit 0 only if all is well."""
    settings = {"data_dir": options.data_dir, "catalog_url": options.catalog_url}
    try:
        config = load_config(file=options.config, environment=os.environ, options=settings)
    except ConfigError as error:
        fail("check", error)
        return EXIT_USAGE
    if config.catalog_url is None and not (config.data_dir / CATALOG_FILE).exists():
        fail("check", f"{config.data_dir} holds no catalog ({CATALOG_FILE}): not a data folder")
        return EXIT_FAILED
    if options.repair:
        configure_logs("warning")  # of what cannot be mended there is more to say than its number
    try:
        report, mended = _check(config, mends=options.repair, quiet=options.quiet)
    except (GatewayError, ConfigError) as error:
        fail("check", error)
        return EXIT_FAILED
    if options.json:
        shown = {} if mended is None else {"repair": asdict(mended)}
        print(json.dumps(asdict(report) | shown, indent=2))
    else:
        _print(report, mended)
    return EXIT_OK if not report.findings else EXIT_FAILED


def _check(config: Config, *, mends: bool, quiet: bool) -> tuple[CheckReport, Mended | None]:
    identities = asyncio.run(load_all(config))
    if not identities:
        raise ConfigError(f"the router's identity is missing from {config.data_dir}")
    with ExitStack() as opened:
        catalog = open_catalog(config, as_it_is=True)
        opened.callback(catalog.close)
        deployment_id = catalog.read_blocking(find_deployment)
        if deployment_id is None:
            raise ConfigError(
                f"{config.data_dir} holds no deployment yet: its first start did not get that far"
            )
        known = catalog.read_blocking(router_recipient)
        if known not in [str(identity.recipient()) for identity in identities]:
            raise ConfigError(
                f"the identity in {config.data_dir} is not the one that this deployment's objects"
                f" are sealed to ({known}): restore that one"
            )
        shelves = opened.enter_context(_open_shelves(config, marker_key(deployment_id), catalog))
        checking = _Checking(catalog, shelves, identities, deployment_id, quiet=quiet)
        report = checking.check(mark=mends)
        if not mends:
            return report, None
        to_make = checking.marked + report.segments_pending
        if not to_make:
            return report, Mended()
        with progress(to_make, "repair", quiet=quiet, unit=" copies") as advance:
            mended = asyncio.run(mend(config, catalog, deployment_id, advance))
        return checking.check(mark=False), mended


class _Checking:
    """Checks of one data folder, one after the other."""

    def __init__(
        self,
        catalog: Catalog,
        shelves: Mapping[str, Shelf],
        identities: Sequence[Identity],
        deployment_id: str,
        *,
        quiet: bool,
    ) -> None:
        self._catalog = catalog
        self._shelves = shelves
        self._identities = identities
        self._deployment_id = deployment_id
        self._quiet = quiet
        self.marked = 0
        """Copies that were taken for right, and are marked as bad."""

    def check(self, *, mark: bool) -> CheckReport:
        checker = Checker(
            catalog=self._catalog,
            shelves=self._shelves,
            identities=self._identities,
            payloads=payloads_prefix(self._deployment_id),
            marker=marker_key(self._deployment_id),
            on_bad=self._mark if mark else _leave,
        )
        with progress(checker.expected_bytes(), "check", quiet=self._quiet) as advance:
            checker.on_bytes = advance
            return checker.run()

    def _mark(self, payload_id: str, segment: int, store: str) -> None:
        try:
            self._shelves[store].stat(marker_key(self._deployment_id))
        except BlobMissing:
            return  # another store in its place: nothing that it lacks is bad
        mark = partial(mark_bad, payload_id=payload_id, segment=segment, backend=store)
        self.marked += self._catalog.run_blocking(mark)


def _leave(_payload_id: str, _segment: int, _store: str) -> None:
    """Change nothing."""


@contextmanager
def _open_shelves(config: Config, marker: str, catalog: Catalog) -> Iterator[dict[str, Shelf]]:
    """Open the stores on an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    opened = AsyncExitStack()
    try:
        stores = do(open_stores(config, marker, opened, pins_in(catalog)))
        yield {store.name: shelf_of(store, loop) for store in stores}
    finally:
        do(opened.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _print(report: CheckReport, mended: Mended | None) -> None:
    if mended is not None:
        print(
            f"repair: {mended.made} copies made, {mended.found} found right,"
            f" {mended.left} could not be made"
        )
    mib = report.bytes_verified / (1 << 20)
    print(
        f"{report.objects} objects, {mib:,.1f} MiB verified; {report.tombstones} erased,"
        f" {report.segments_pending} segments to be copied ({report.segments_bad} of them bad),"
        f" {report.uploads_open} uploads under way, {report.graves} payloads being cleared"
    )
    for finding in report.findings:
        print(f"\n{finding.kind}: {finding.where}\n  {finding.detail}")
        if finding.copies_left is not None:
            print(f"  copies left: {finding.copies_left}")
        print(f"  remedy: {finding.remedy}")
    print("all is well" if not report.findings else f"\n{len(report.findings)} findings")
