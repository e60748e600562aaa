"""Making sure that a store is the deployment's: its marker is there, or is made in an empty one."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from .backends import KeyedStore, LocalStore, Member
from .backends.contract import MARKER_CONTENT
from .backends.disk import LOST_AND_FOUND
from .backends.ipfs import IPFSStore
from .backends.s3 import S3Store
from .catalog import Catalog
from .catalog.outbox import expect_all
from .catalog.work import has_marker, record_marker
from .config import ConfigError
from .errors import BackendUnavailable, BlobMissing
from .stores import OpenStore

logger = logging.getLogger(__name__)

START_S_MAX = 5.0
"""How long the start waits for one of several stores that is known: it can do without."""
ALONE_S_MAX = 10.0
"""How long for one that it cannot do without; longer is what requests may wait, not who starts."""


def marker_key(deployment_id: str) -> str:
    """Return the key of the object that marks a store as this deployment's."""
    return f"{deployment_id}/marker"


async def check_marker(
    catalog: Catalog, member: Member, store: OpenStore, deployment_id: str, *, alone: bool
) -> None:
    """Make sure that the store is this deployment's: never write into another one's.

    One of several that is known and cannot be reached now is not written to until it can be.
    """
    marker = marker_key(deployment_id)
    known = await catalog.read(lambda c: has_marker(c, store.name))
    spared = known and not alone
    within_s = START_S_MAX if spared else ALONE_S_MAX
    try:
        async with asyncio.timeout(within_s):
            await store.stat(marker)
    except TimeoutError:
        said = f"store {store.name} did not answer within {within_s:g} seconds"
        if not spared:  # whatever else is asked of it now would wait as long again, and longer
            why = "it is the only one" if known else "it was never looked at"
            raise BackendUnavailable(f"{said}, and {why}: start again when it does") from None
        _do_without(member, said)
        return
    except (BlobMissing, BackendUnavailable) as error:
        if spared and isinstance(error, BackendUnavailable):
            _do_without(member, str(error))
            return
        if known and not isinstance(store, LocalStore):
            raise  # it says whether it is another one or merely out of reach
        if known:
            raise ConfigError(
                f"store {store.name} lacks the marker {marker} of this deployment:"
                " it is another store, or not mounted. Nothing was changed"
            ) from error
        await _refuse_foreign_store(store, deployment_id)
        await _refuse_unfit(store, deployment_id)
        await make_marker(store, marker)
    if not known:
        begin = partial(_begin_store, name=store.name, copied=not isinstance(store, IPFSStore))
        await catalog.run(begin)


def _begin_store(connection: Connection, name: str, *, copied: bool) -> None:
    record_marker(connection, name)
    if copied:
        expect_all(connection)


def _do_without(member: Member, why: str) -> None:
    member.ready = False
    logger.warning("store out of reach at start", extra={"store": member.name, "why": why})


async def make_marker(store: KeyedStore, marker: str) -> None:
    """Mark a store as this deployment's.

    Raises:
        GatewayError: it does not have the marker now.

    """
    # Nothing is ever overwritten: another process that starts now may have been faster.
    with suppress(BackendUnavailable):
        await store.put(marker, MARKER_CONTENT)
    await store.stat(marker)


def names_in(folder: Path) -> set[str]:
    """Return what is in a store's folder, if it is there, but for what its file system made."""
    if not folder.exists():
        return set()
    return {entry.name for entry in folder.iterdir()} - {LOST_AND_FOUND}


async def _refuse_foreign_store(store: OpenStore, deployment_id: str) -> None:
    if isinstance(store, IPFSStore):
        return  # a node has room for many: each has roots of its own
    if isinstance(store, S3Store):
        foreign = await store.holds_other(deployment_id)
        place = f"bucket {store.settings.bucket} at {store.settings.endpoint}"
    else:
        place = str(store.root)
        foreign = bool(await asyncio.to_thread(names_in, store.root) - {deployment_id})
    if foreign:
        raise ConfigError(
            f"{place} holds the objects of another deployment, and the catalog beside it is"
            " new: restore that deployment's catalog, or use an empty one"
        )


async def _refuse_unfit(store: OpenStore, deployment_id: str) -> None:
    """A store that lacks what all rests on must not be found out by what it lost."""
    if isinstance(store, LocalStore):
        return
    report = await store.probe(deployment_id, everything=False)
    for finding in report.findings:
        told = {"store": store.name, "kind": finding.kind, "detail": finding.detail}
        logger.warning("found out about a store", extra=told)
    if report.refusals:
        whys = "; ".join(f"{finding.detail}: {finding.remedy}" for finding in report.refusals)
        raise ConfigError(f"store {store.name} cannot be used: {whys}")
