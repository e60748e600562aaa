"""Finding a deployment in its stores, when its catalog is lost: whose copies they hold."""

import asyncio
import re
from collections.abc import Sequence

from crypto import CopyError, CopySealer, Identity

from .backends import LocalStore
from .backends.s3 import S3Store
from .errors import GatewayError
from .manifest_copies import FOLDERS

_ID = re.compile(r"[a-z2-7]{32}", re.ASCII)

NamedStore = LocalStore | S3Store


async def deployments_in(stores: Sequence[NamedStore]) -> set[str]:
    """Return the ids of all deployments that have a folder in a store.

    Raises:
        BackendUnavailable

    """
    names: set[str] = set()
    for store in stores:
        if isinstance(store, S3Store):
            names.update(await store.folders())
        else:
            names.update(await asyncio.to_thread(_folders_in, store))
    return {name for name in names if _ID.fullmatch(name)}


def _folders_in(store: LocalStore) -> list[str]:
    return [entry.name for entry in store.root.iterdir()] if store.root.exists() else []


async def has_our_copy(
    stores: Sequence[NamedStore], deployment: str, sealer: CopySealer, recovery: Identity
) -> bool:
    """Tell whether a store holds a copy of the deployment's that opens, and is signed."""
    for store in stores:
        for folder in FOLDERS.values():
            try:
                async for blob in store.list(f"{deployment}/main/{folder}/"):
                    data = await store.get(blob.key, 0, blob.size)
                    await asyncio.to_thread(sealer.open, blob.key, data, recovery)
                    return True
            except (GatewayError, CopyError):
                continue
    return False
