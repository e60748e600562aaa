"""The registry of keys: versions are registered, retired, disabled, destroyed; parties come and go.

Who registers a version either opens a challenge, which shows that the identity is at hand, or the
version is marked `unproven`. It is committed before anything is sealed to it; what was sealed
before is wrapped anew by a job.
"""

import base64
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from crypto import (
    CLASSIC,
    HYBRID,
    Challenger,
    CryptoError,
    PossessionError,
    Recipient,
    parse_recipient,
)

from .catalog import Catalog, now_ms
from .catalog.registry import (
    ROUTER_ITSELF,
    Holder,
    KeyVersion,
    add_key,
    add_miner,
    change_state,
    count_dependents,
    list_keys,
    remove_party,
)
from .catalog.sessions import NewToken, load_session
from .catalog.wraps import copies_due
from .errors import InvalidField, KeyInUse, KeyUnproven
from .key_states import Dwell, KeyState
from .keyring import Keyring
from .records import MINER, Party, TokenKind
from .tokens import new_token, token_digest

logger = logging.getLogger(__name__)

CHALLENGE_S = 600
"""How long a challenge may be answered."""

Place = tuple[str, str | None, int, str]
Census = list[tuple[KeyVersion, int, int]]
"""Key versions, each with the heads and the uploads that are wrapped for it."""


class Registry:
    """Changes and shows the keys of a deployment."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        challenger: Challenger,
        keyring: Keyring,
        copies_key: str,
        dwell: Dwell,
        miners_max: int,
        token_lifetime_s: float,
        bring_copy: Callable[[str], Awaitable[None]],
        nodes: Collection[str] = (),
    ) -> None:
        """``copies_key`` is the recipient of the identity that copies of manifests are made with;
        ``bring_copy`` returns once as many stores have the copy of the session of that id as must.
        ``nodes`` are the names of stores that hold no copies.
        """
        self._catalog = catalog
        self._challenger = challenger
        self._keyring = keyring
        self._copies_key = copies_key
        self._dwell = dwell
        self._miners_max = miners_max
        self._token_lifetime_s = token_lifetime_s
        self._bring_copy = bring_copy
        self._nodes = tuple(nodes)

    async def challenge(self, holder: Holder, text: str) -> tuple[str, int]:
        """Return what is to be opened, an age file in base64, and until when, in seconds since
        1970.

        Raises:
            InvalidField: the recipient is none.

        """
        recipient = _recipient_of(text)
        until_s = await self._now_s() + CHALLENGE_S
        made = self._challenger.challenge(holder.scope, recipient, until_s=until_s)
        return base64.b64encode(made).decode(), until_s

    async def register(self, holder: Holder, text: str, answer: str | None) -> KeyVersion:
        """Make a recipient the active version of a party's key; the one before retires.

        ``answer`` is that to a challenge; without one the version is unproven.

        Raises:
            InvalidField: the recipient is none.
            KeyUnproven: the answer is not that to a challenge for this recipient.
            KeyExists, NotFound, UnknownSession: as `add_key`.

        """
        recipient = _recipient_of(text)
        if answer is not None:
            now_s = await self._now_s()
            try:
                self._challenger.check(holder.scope, recipient, answer, now_s=now_s)
            except PossessionError as error:
                raise KeyUnproven(str(error)) from None
        key = await self._catalog.run(
            partial(
                add_key,
                holder=holder,
                recipient=str(recipient),
                key_class=recipient.key_class,
                proven=answer is not None,
            )
        )
        await self._changed(holder, "key registered", key)
        return key

    async def change_state(
        self, holder: Holder, version: int, state: KeyState, *, urgent: bool
    ) -> KeyVersion:
        """Bring a version into another state.

        Raises:
            NotFound, UnknownSession, KeyStateSkipped, KeyDwelling, KeyInUse

        """
        key = await self._catalog.run(
            partial(
                change_state,
                holder=holder,
                version=version,
                wanted=state,
                dwell=self._dwell,
                urgent=urgent,
                nodes=self._nodes,
            )
        )
        await self._changed(holder, "key changed its state", key)
        return key

    async def add_miner(self, session_id: str, miner: str, text: str) -> tuple[KeyVersion, str]:
        """Add a miner to a session; return its key and its token, which is shown once.

        Raises:
            InvalidField, KeyExists, UnknownSession

        """
        recipient = _recipient_of(text)
        session = await self._catalog.read(lambda c: load_session(c, session_id))
        if recipient.key_class != session.key_class:
            raise InvalidField(
                f"the recipient must be of class {session.key_class}", field="recipient"
            )
        holder, token = Holder(session_id, MINER, miner), new_token(TokenKind.MINER)
        key = await self._catalog.run(
            partial(
                add_miner,
                holder=holder,
                recipient=str(recipient),
                key_class=recipient.key_class,
                token=NewToken(token_digest(token), TokenKind.MINER, miner),
                token_lifetime_s=self._token_lifetime_s,
                miners_max=self._miners_max,
            )
        )
        await self._changed(holder, "miner added", key)
        return key, token

    async def remove_miner(self, session_id: str, miner: str) -> None:
        """Remove a miner from a session: nothing new is sealed for it, its tokens open nothing.

        What was sealed before is still wrapped for it, until a job has wrapped it anew; what it has
        read it keeps.

        Raises:
            NotFound, UnknownSession

        """
        holder = Holder(session_id, MINER, miner)
        await self._catalog.run(partial(remove_party, holder=holder))
        await self._changed(holder, "miner removed", None)

    async def census(self, session_id: str) -> tuple[Census, int]:
        """Return the versions of a session's keys, of the empty one the router's, with what
        depends on each; and how many copies of older manifests may lie in stores.
        """
        scope = session_id or None
        keys, counted, due = await self._catalog.read(
            lambda c: (
                list_keys(c, session_id),
                list(count_dependents(c, scope)),
                copies_due(c, self._nodes),
            )
        )
        heads, uploads = Counter[Place](), Counter[Place]()
        for party, wrapped, under_way in counted:
            heads[_place_of(party)] += wrapped
            uploads[_place_of(party)] += under_way
        places = [(key, _place_of(key)) for key in keys]
        return [(key, heads[place], uploads[place]) for key, place in places], due

    async def rotate_router(self, key_class: str) -> KeyVersion:
        """Have the key provider make an identity, and its recipient the router's active one.

        One that the provider holds and nobody knows of is taken: a rotation died after it was made.

        Raises:
            InvalidField: there is no such class.
            KeyProviderUnavailable: the provider did not make it in time.

        """
        if key_class not in (CLASSIC, HYBRID):
            raise InvalidField(f"key_class must be {CLASSIC} or {HYBRID}", field="key_class")
        await self._keyring.refresh()
        known = {key.recipient for key in await self._catalog.read(lambda c: list_keys(c, ""))}
        of_class = [i for i in self._keyring.opening() if i.key_class == key_class]
        # The newest alone: what is unknown and older may be what leaked before a catalog was lost.
        newest = of_class[-1] if of_class else None
        if newest is None or str(newest.recipient()) in known:
            newest = await self._keyring.make(key_class)
        key = await self._catalog.run(
            partial(
                add_key,
                holder=ROUTER_ITSELF,
                recipient=str(newest.recipient()),
                key_class=key_class,
                proven=True,
            )
        )
        await self._changed(ROUTER_ITSELF, "key registered", key)
        return key

    async def change_router_state(
        self, version: int, state: KeyState, *, urgent: bool
    ) -> KeyVersion:
        """Bring a version of the router's key into another state; of one that is destroyed the
        identity is gone for good.

        Raises:
            NotFound, KeyStateSkipped, KeyDwelling
            KeyInUse: something is wrapped for it, or copies of manifests are made with it.
            KeyProviderUnavailable: it is destroyed, and the identity is perhaps still held: again.

        """
        if state is KeyState.DESTROYED:
            keys = await self._catalog.read(lambda c: list_keys(c, ""))
            if any(k.version == version and k.recipient == self._copies_key for k in keys):
                raise KeyInUse("copies of manifests are made with this key, and open with it")
        key = await self.change_state(ROUTER_ITSELF, version, state, urgent=urgent)
        if state is KeyState.DESTROYED:
            await self._keyring.drop(key.recipient)
        return key

    async def _now_s(self) -> int:
        """By the database's clock: of several processes any may be asked."""
        return await self._catalog.read(now_ms) // 1000

    async def _changed(self, holder: Holder, what: str, key: KeyVersion | None) -> None:
        told = {"session_id": holder.session_id, "party": holder.role, "miner": holder.miner}
        if key is not None:
            told |= {"version": str(key.version), "state": key.state.value}
        logger.warning(what, extra=told)
        if holder.session_id:
            await self._bring_copy(holder.session_id)


def _place_of(party: Party | KeyVersion) -> Place:
    # With the recipient: sessions of blind custody have routers of their own.
    return party.role, party.miner, party.version, party.recipient


def _recipient_of(text: str) -> Recipient:
    try:
        return parse_recipient(text)
    except CryptoError as error:
        raise InvalidField(str(error), field="recipient") from None
