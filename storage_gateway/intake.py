"""Intake: files that somebody sealed to the router before they were sent.

The recipient that a writer is shown hangs on the router's active version. Who has not heard of a
newer one seals to the version before: that is taken for as long as it is retiring and not for long,
and refused with the current recipient after.
"""

import logging

from crypto import AdoptedHead, Identity, NoIdentityMatch, adopt_head, intake_identity, open_head

from .catalog import Catalog, now_ms
from .catalog.registry import KeyVersion, list_keys
from .catalog.sessions import DEPLOYMENT_SCOPE
from .drafts import Draft, recipients_of
from .errors import StaleKeyWriter
from .key_states import KeyState
from .keyring import Keyring

logger = logging.getLogger(__name__)


class Intake:
    """Opens what was sealed to the router, and seals its head for the parties."""

    def __init__(self, catalog: Catalog, keyring: Keyring, *, grace_s: float) -> None:
        """``grace_s`` is how long what is sealed to the version before is taken."""
        self._catalog = catalog
        self._keyring = keyring
        self._grace_s = grace_s

    async def adopt(self, head: bytes, draft: Draft) -> AdoptedHead:
        """Return a head of the draft's for a file whose head this is.

        Raises:
            CryptoError: it is not acceptable; NoIdentityMatch: it was sealed to somebody else.
            StaleKeyWriter: it was sealed to a version of the router's key that is too old.
            KeyProviderUnavailable: the router's keys are out of reach.

        """
        identity = await self._keyring.sealing_for(draft.router)
        try:
            adopted = self._adopted(head, draft, identity)
        except NoIdentityMatch:
            adopted = await self._adopted_late(head, draft, identity)
        open_head(adopted.head, [identity]).check_context(draft.context())
        return adopted

    def _adopted(self, head: bytes, draft: Draft, identity: Identity) -> AdoptedHead:
        # Of this session alone: a file that was sealed for another one, and lay on a disk that
        # somebody else reads, must not be opened for whoever sends it here first.
        intake = intake_identity(identity, draft.slot.session_id)
        recipients = recipients_of(draft.parties)
        return adopt_head(head, intake, recipients, context=draft.context())

    async def _adopted_late(self, head: bytes, draft: Draft, current: Identity) -> AdoptedHead:
        keys, now = await self._catalog.read(lambda c: (list_keys(c, DEPLOYMENT_SCOPE), now_ms(c)))
        older = [key for key in keys if key.key_class == current.key_class]
        for key in sorted(older, key=lambda key: -key.version):
            identity = self._keyring.identity_for(key.recipient)
            if identity is None or identity == current:
                continue
            try:
                adopted = self._adopted(head, draft, identity)
            except NoIdentityMatch:
                continue
            self._require_fresh(key, now, draft, current)
            told = {"session_id": draft.slot.session_id, "version": key.version}
            logger.info("sealed to the router's former key", extra=told)
            return adopted
        raise NoIdentityMatch("the file was not sealed to the recipient of this session's router")

    def _require_fresh(self, key: KeyVersion, now: int, draft: Draft, current: Identity) -> None:
        is_retiring = key.state in (KeyState.RETIRING, KeyState.ACTIVE)
        if is_retiring and now - key.changed_ms <= self._grace_s * 1000:
            return
        wanted = intake_identity(current, draft.slot.session_id).recipient()
        raise StaleKeyWriter(
            f"the file is sealed to version {key.version} of the router's key, which is"
            f" {key.state} and not taken any more",
            sealed_version=key.version,
            current_recipient=str(wanted),
        )
