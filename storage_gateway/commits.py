"""Commits of uploads: where keys were rotated since, the head is wrapped anew first."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from crypto import rewrap

from .catalog import Catalog
from .catalog.sessions import load_session
from .drafts import recipients_of
from .errors import StaleParties
from .keyring import Keyring
from .records import ROUTER, ROUTER_CUSTODY, Manifest

REWRAPS_MAX = 3
"""So often keys may be rotated while one upload is committed."""


class Commits:
    """Runs the units that commit."""

    def __init__(self, catalog: Catalog, keyring: Keyring) -> None:
        """Nothing is run yet."""
        self._catalog = catalog
        self._keyring = keyring

    async def run(self, manifest: Manifest, commit: Callable[..., Manifest]) -> Manifest:
        """Run ``commit`` with a connection and the manifest, whose head is for active keys.

        Raises:
            StaleParties: it is not, and only a party of the session could wrap it anew.
            KeyProviderUnavailable, and all that the unit raises.

        """
        for _ in range(REWRAPS_MAX):
            try:
                return await self._catalog.run(partial(commit, manifest=manifest))
            except StaleParties:
                if manifest.custody != ROUTER_CUSTODY:
                    raise
                manifest = await self._wrapped_anew(manifest)
        return await self._catalog.run(partial(commit, manifest=manifest))

    async def _wrapped_anew(self, manifest: Manifest) -> Manifest:
        session_id = manifest.slot.session_id
        session = await self._catalog.read(lambda c: load_session(c, session_id))
        parties = session.at_present(manifest.wrapped_for)
        if session.key_class != manifest.key_class or session.party(ROUTER) is None:
            raise StaleParties("the session has other keys since the upload began")
        head = rewrap(
            manifest.head or b"",
            await self._keyring.opening_to_rewrap(manifest.wrapped_for, parties),
            current=recipients_of(manifest.wrapped_for),
            wanted=recipients_of(parties),
            context=manifest.context(),
        )
        size = len(head) + manifest.payload_size
        return replace(manifest, head=head, wrapped_for=parties, sealed_size=size)
