"""Finding a deployment in its stores, when its catalog is lost: whose copies they hold."""

import asyncio
import logging
import re
from collections.abc import Sequence
from contextlib import suppress

from crypto import CopyError, CopySealer, Identity

from .backends import LocalStore
from .backends.s3 import S3Store
from .errors import BlobCorrupt, BlobMissing, GatewayError
from .manifest_copies import COPY_BYTES_MAX, FOLDERS

logger = logging.getLogger(__name__)

_ID = re.compile(r"[a-z2-7]{32}", re.ASCII)

TRIED_MAX = 1000
"""Copies that are tried in a folder, until one is ours: another deployment may have millions."""

NamedStore = LocalStore | S3Store


async def deployments_in(stores: Sequence[NamedStore]) -> set[str]:
    """Return the ids of all deployments that have a folder in a store that answers."""
    names: set[str] = set()
    for store in stores:
        try:
            if isinstance(store, S3Store):
                names.update(await store.folders())
            else:
                names.update(await asyncio.to_thread(_folders_in, store))
        except GatewayError as error:
            told = {"store": store.name, "code": error.code}
            logger.warning("not looked for deployments", extra=told)
    return {name for name in names if _ID.fullmatch(name)}


def _folders_in(store: LocalStore) -> list[str]:
    return [entry.name for entry in store.root.iterdir()] if store.root.exists() else []


async def has_copies(stores: Sequence[NamedStore], deployment: str) -> bool:
    """Tell whether a store holds what may be a copy of the deployment's, whoever put it there."""
    for store in stores:
        for folder in FOLDERS.values():
            with suppress(GatewayError):
                async for _ in store.list(f"{deployment}/main/{folder}/"):
                    return True
    return False


async def has_our_copy(
    stores: Sequence[NamedStore], deployment: str, sealer: CopySealer, recovery: Identity
) -> bool:
    """Tell whether a store holds a copy of the deployment's that opens, and is signed.

    Others may lie before it: somebody who writes to the store put them there.
    """
    for store in stores:
        for folder in FOLDERS.values():
            tried = 0
            with suppress(GatewayError):
                async for blob in store.list(f"{deployment}/main/{folder}/"):
                    if blob.size > COPY_BYTES_MAX:
                        continue
                    tried += 1
                    if tried > TRIED_MAX:
                        break
                    with suppress(BlobMissing, BlobCorrupt, CopyError):
                        data = await store.get(blob.key, 0, blob.size)
                        await asyncio.to_thread(sealer.open, blob.key, data, recovery)
                        return True
    return False
