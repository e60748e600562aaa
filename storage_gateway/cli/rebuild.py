"""``catalog rebuild`` and ``catalog verify``: a catalog, and the copies of it in the stores."""

import argparse
import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from crypto import (
    CopySealer,
    CryptoError,
    Identity,
    Recipient,
    parse_identities,
    recovery_identity,
)
from storage_gateway.backends import LocalStore
from storage_gateway.backends.pins import NoPins
from storage_gateway.backends.s3 import S3Store
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.copying import CopyRefused, refuse_living
from storage_gateway.catalog.registry import KeyVersion, list_keys
from storage_gateway.catalog.sessions import (
    DEPLOYMENT_SCOPE,
    register_router,
    router_recipient,
)
from storage_gateway.catalog.work import find_deployment as deployment_of
from storage_gateway.catalog.work import load_deployment, record_marker
from storage_gateway.compare import Compare, CompareReport
from storage_gateway.config import Config, ConfigError, load_config
from storage_gateway.configured_keys import load_all
from storage_gateway.custody import COPIES_FILE, copies_missing, read_secret, recipient_of_copies
from storage_gateway.deployments import (
    NamedStore,
    deployments_in,
    has_copies,
    has_our_copy,
)
from storage_gateway.errors import BackendUnavailable, BlobMissing, GatewayError
from storage_gateway.findings import Finding
from storage_gateway.key_states import KeyState
from storage_gateway.markers import marker_key
from storage_gateway.parts import MAIN, find_copies_identity, open_catalog
from storage_gateway.pins import pins_in
from storage_gateway.rebuild import LOST_FOR_GOOD, Rebuild, RebuildReport
from storage_gateway.stores import OpenStore, open_stores

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, fail, progress

Advance = Callable[[int], None]
Run = Callable[["_Opened", Advance], Coroutine[Any, Any, RebuildReport | CompareReport]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What both commands work on."""

    catalog: Catalog
    stores: tuple[NamedStore, ...]
    nodes: tuple[str, ...]
    sealer: CopySealer
    recipient: Recipient
    recovery: Identity | None = field(repr=False)
    prefix: str
    routers: tuple[Identity, ...] = field(repr=False)
    away: tuple[str, ...]
    """Stores that do not answer."""


def rebuild(options: argparse.Namespace) -> int:
    """Rebuild; exit 0 only if everything that was found could be put back."""

    async def run(opened: _Opened, advance: Advance) -> RebuildReport:
        if opened.recovery is None:
            raise ConfigError("recovery_recipient is set: give --recovery-identity FILE")
        rebuild = Rebuild(
            catalog=opened.catalog,
            stores=opened.stores,
            nodes=opened.nodes,
            sealer=opened.sealer,
            recovery=opened.recovery,
            prefix=opened.prefix,
            away=opened.away,
            accept_refused=options.accept_refused,
        )
        async for count in rebuild.steps():
            advance(count)
        for key in await opened.catalog.run(partial(_settle_router, routers=opened.routers)):
            rebuild.report.find(
                "router",
                f"version {key.version} of the router's key",
                f"objects are sealed to {key.recipient}, and its identity is not held here",
                "restore it from a backup: without it the gateway opens none of them",
            )
        return rebuild.report

    return _do("catalog rebuild", options, run, print_=_print_rebuilt, new=True)


def verify(options: argparse.Namespace) -> int:
    """Compare; exit 0 only if every copy is right, or known to be still to come."""

    async def run(opened: _Opened, advance: Advance) -> CompareReport:
        return await Compare(
            catalog=opened.catalog,
            stores=opened.stores,
            sealer=opened.sealer,
            recipient=opened.recipient,
            recovery=opened.recovery,
            prefix=opened.prefix,
            repair=options.repair,
            on_copy=advance,
        ).run()

    return _do("catalog verify", options, run, print_=_print_verified, new=False)


def _do(
    command: str,
    options: argparse.Namespace,
    run: Run,
    *,
    print_: Callable[[Any], None],
    new: bool,
) -> int:
    settings = {"data_dir": options.data_dir, "catalog_url": options.catalog_url}
    try:
        config = load_config(file=options.config, environment=os.environ, options=settings)
    except ConfigError as error:
        fail(command, error)
        return EXIT_USAGE
    try:
        report = asyncio.run(_run(config, options, run, command, new=new))
    except (GatewayError, ConfigError, CopyRefused) as error:
        fail(command, error)
        return EXIT_FAILED
    if options.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        print_(report)
    return EXIT_FAILED if report.findings else EXIT_OK


async def _run(
    config: Config, options: argparse.Namespace, run: Run, command: str, *, new: bool
) -> RebuildReport | CompareReport:
    identity, routers = await _identities_of(config)
    async with AsyncExitStack() as stack:
        catalog = open_catalog(config, as_it_is=not new, rebuilding=new)
        stack.push_async_callback(asyncio.to_thread, catalog.close)
        if new:
            await catalog.run(refuse_living)
        recovery = _recovery_of(config, options.recovery_identity, identity)
        known = await catalog.read(deployment_of)
        if known is None and not new:
            raise ConfigError(f"{config.data_dir} holds no deployment yet")
        named = getattr(options, "deployment", None)
        if known and named not in (None, known):
            raise ConfigError(f"the catalog is that of deployment {known}, not of {named}")
        deployment = known or await _look_for_deployment(config, identity, recovery, named)
        if new:
            await catalog.run(partial(_register, deployment=deployment, routers=routers))
        stores = await open_stores(config, marker_key(deployment), stack, pins_in(catalog))
        with_names = _named(stores)
        away = []
        for store in with_names:
            if not await _is_ours(store, deployment):
                away.append(store.name)
            elif new:
                await catalog.run(partial(record_marker, backend=store.name))
        sealer = CopySealer(identity, deployment)
        if known and options.recovery_identity is None and recovery is not None:
            await _require_ours(with_names, sealer, recovery)
        opened = _Opened(
            catalog=catalog,
            stores=with_names,
            nodes=tuple(s.name for s in stores if not isinstance(s, LocalStore | S3Store)),
            sealer=sealer,
            recipient=recipient_of_copies(config, identity),
            recovery=recovery,
            prefix=f"{deployment}/{MAIN}/",
            routers=routers,
            away=tuple(away),
        )
        with progress(None, command, quiet=options.quiet, unit=" copies") as advance:
            return await run(opened, advance)


async def _identities_of(config: Config) -> tuple[Identity, tuple[Identity, ...]]:
    """Return the identity of the manifest copies, and the router's."""
    identity = await find_copies_identity(config)
    if identity is None:
        raise copies_missing(config)
    routers = await load_all(config)
    if not routers:
        raise ConfigError(
            f"the router's identity is missing from {config.data_dir}: restore it from a backup;"
            " without it nothing can be opened"
        )
    return identity, routers


async def _is_ours(store: NamedStore, deployment: str) -> bool:
    """Make sure that a store is the deployment's; False: it does not answer."""
    try:
        await store.stat(marker_key(deployment))
    except BackendUnavailable:
        return False
    except BlobMissing:
        raise ConfigError(
            f"store {store.name} lacks the marker of deployment {deployment}: it is another store,"
            " or not mounted"
        ) from None
    return True


async def _require_ours(
    stores: Sequence[NamedStore], sealer: CopySealer, recovery: Identity
) -> None:
    """With another identity than the one that signed them, every copy would seem to be forged."""
    deployment = sealer.deployment
    if await has_our_copy(stores, deployment, sealer, recovery):
        return
    if await has_copies(stores, deployment):
        raise ConfigError(
            f"the identity in {COPIES_FILE} is not the one that signed any copy which the stores"
            " hold: restore that one"
        )


def _register(connection: Connection, deployment: str, routers: Sequence[Identity]) -> None:
    load_deployment(connection, deployment)
    known = router_recipient(connection)
    if known is not None and known not in [str(router.recipient()) for router in routers]:
        raise ConfigError(
            f"the identity in the data folder is not the one that this deployment's objects are"
            f" sealed to ({known}): restore that one"
        )


def _settle_router(connection: Connection, routers: Sequence[Identity]) -> list[KeyVersion]:
    """Have a version of the router's key active, after those that objects name have come back with
    their numbers; return those of them whose identity is not held.
    """
    held = [str(router.recipient()) for router in routers]
    newest = {router.key_class: str(router.recipient()) for router in routers}
    for key_class, recipient in newest.items():
        register_router(connection, recipient, key_class)
    keys = list_keys(connection, DEPLOYMENT_SCOPE)
    return [k for k in keys if k.state is not KeyState.DESTROYED and k.recipient not in held]


def _recovery_of(config: Config, file: Path | None, identity: Identity) -> Identity | None:
    """Return what opens the copies, if it is here."""
    if file is None:
        return None if config.recovery_recipient else recovery_identity(identity)
    try:
        (recovery,) = parse_identities(read_secret(file))
    except (CryptoError, ValueError) as error:
        raise ConfigError(f"{file} must hold exactly one identity ({error})") from None
    if str(recovery.recipient()) != str(recipient_of_copies(config, identity)):
        raise ConfigError(f"{file} is not the identity of recovery_recipient")
    return recovery


async def _look_for_deployment(
    config: Config, identity: Identity, recovery: Identity | None, named: str | None
) -> str:
    """Return the deployment whose copies our identity signed: before it is written down anywhere
    whose catalog this is.
    """
    if recovery is None:
        raise ConfigError("recovery_recipient is set: give --recovery-identity FILE")
    async with AsyncExitStack() as stack:
        # Without a marker: it is not known yet whose.
        stores = await open_stores(config, marker_key("none"), stack, lambda _name: NoPins())
        found = await deployments_in(_named(stores))
    ours = []
    for each in sorted(found) if named is None else [named]:
        async with AsyncExitStack() as stack:
            stores = await open_stores(config, marker_key(each), stack, lambda _name: NoPins())
            if await has_our_copy(_named(stores), each, CopySealer(identity, each), recovery):
                ours.append(each)
    if named is not None and not ours:
        raise ConfigError(
            f"no store holds a copy of deployment {named} that this identity of the copies signed"
            f" (deployments found: {', '.join(sorted(found)) or 'none'})"
        )
    if len(ours) != 1:
        raise ConfigError(
            f"the stores hold {len(ours)} deployments with copies that this router's identity"
            f" signed (deployments found: {', '.join(sorted(found)) or 'none'}): name the right"
            " one with --deployment"
        )
    return ours[0]


def _named(stores: Sequence[OpenStore]) -> tuple[NamedStore, ...]:
    return tuple(store for store in stores if isinstance(store, LocalStore | S3Store))


def _print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        print(f"\n{finding.kind}: {finding.where}\n  {finding.detail}\n  remedy: {finding.remedy}")


def _print_rebuilt(report: RebuildReport) -> None:
    _print_findings(report.findings)
    print(
        f"{report.sessions:,} sessions, {report.objects:,} objects, {report.tombstones:,}"
        f" tombstones and the claims of {report.claims:,} objects put back;"
        f" {report.known:,} copies of what the catalog had;"
        f" {report.refused:,} copies refused, {report.conflicts:,} conflicts"
    )
    print("What no copy holds, and is lost if it was:")
    for lost in LOST_FOR_GOOD:
        print(f"  {lost}")
    if report.unreachable:
        print(f"Out of reach: {', '.join(report.unreachable)}. Run it again when they answer.")
    if report.without:
        print(
            f"Of {report.without:,} records no copy counts: is it the right identity, and the right"
            " --recovery-identity? If you are sure, --accept-refused."
        )
    if not report.complete:
        print("Until then the catalog counts as behind: a gateway serves what it knows, perhaps")
        print("also what was erased since, and collects nothing.")
        return
    print(f"Read to the end: {', '.join(report.stores)}. Start the gateway; repair and scrub look")
    print("after the copies of segments. storage-gateway check verifies everything now.")


def _print_verified(report: CompareReport) -> None:
    _print_findings(report.findings)
    print(
        f"{report.right:,} copies are right, {report.due:,} still to come, {report.missing:,}"
        f" missing, {report.wrong:,} wrong, {report.unknown:,} of what the catalog does not have;"
        f" {report.entered:,} to be brought again"
    )
