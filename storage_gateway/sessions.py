"""Opening sessions: parties and their recipients are checked, tokens made and shown once."""

import base64
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from crypto import CryptoError, intake_identity, parse_recipient
from retention import FOREVER, Policy, RetentionError

from .addresses import AddressError, parse_address
from .catalog import Catalog
from .catalog.claiming import change_policy
from .catalog.sessions import NewToken, create_session, load_session, reissue_token
from .errors import InvalidField, NoKeyOfClass, UnknownSession
from .ids import check_scope_id
from .keyring import Keyring
from .records import (
    ALL_OPEN,
    BLIND,
    MINER,
    ROUTER,
    ROUTER_CUSTODY,
    USER,
    Party,
    Session,
    TokenKind,
    Wanted,
)
from .refusals import refused_wish
from .tokens import new_token, token_digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MinerEntry:
    """A miner as a request names it."""

    miner: str
    recipient: str


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session and the tokens that are shown once; miners by address."""

    session: Session
    user_token: str
    miner_tokens: dict[str, str]
    router_token: str | None = None
    """Of blind custody alone."""


async def _bring_none(_session_id: str) -> None:
    pass


class Sessions:
    """Opens and shows sessions."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        keyring: Keyring,
        miners_max: int,
        token_lifetime_s: float,
        check_wanted: Callable[[Wanted], None] = lambda _wanted: None,
        bring_copy: Callable[[str], Awaitable[None]] = _bring_none,
        policies: Mapping[str, Policy] | None = None,
        policy: str = FOREVER.name,
    ) -> None:
        """Take the router's identities; the limits come from the configuration.

        ``check_wanted`` is `WantedStores.check`; ``bring_copy`` returns once as many stores have
        the copy of the session of that id as must; ``policy`` is that of sessions that ask for none
        of the ``policies``.
        """
        self._catalog = catalog
        self._keyring = keyring
        self._miners_max = miners_max
        self._token_lifetime_s = token_lifetime_s
        self._check_wanted = check_wanted
        self._bring_copy = bring_copy
        self._policies = policies or {FOREVER.name: FOREVER}
        self._policy = policy

    async def open(
        self,
        *,
        session_id: str | None,
        custody: str,
        user_recipient: str,
        miners: Sequence[MinerEntry],
        wanted: Wanted = ALL_OPEN,
        router_recipient: str | None = None,
        retention: str | None = None,
    ) -> OpenedSession:
        """Open a session; one of blind custody has a router of its own, any other the gateway.

        ``retention`` names the policy of what is committed in it; None: the deployment's.

        Raises:
            InvalidField: an id, a recipient, a miner, the custody, the policy, or what is wanted of
                the stores is not acceptable.
            SessionExists: the id is taken.
            NoKeyOfClass: the parties' keys are of a class that the router has none of.
            KeyProviderUnavailable: the router's keys are out of reach.
            CopiesLate: it is open, and not in as many stores as it must be; ask for new tokens.

        """
        if custody not in {ROUTER_CUSTODY, BLIND}:
            raise InvalidField(f"custody must be '{ROUTER_CUSTODY}' or '{BLIND}'", field="custody")
        if session_id is None:
            session_id = f"s{base64.b32encode(os.urandom(10)).decode().lower()}"
        check_scope_id(session_id, "session_id")
        key_class = _class_of(user_recipient)
        own_router = _own_router(custody, router_recipient, key_class)
        members = self._members(user_recipient, miners, key_class) + own_router
        self._check_wanted(wanted)
        policy = self._policy_of(self._policy if retention is None else retention, "retention")
        if custody != BLIND:
            self._keyring.sealing()  # else the answer could not name the router's recipient
        secrets = {party: new_token(TokenKind(party.role)) for party in members}
        tokens = [
            NewToken(token_digest(token), TokenKind(party.role), party.miner)
            for party, token in secrets.items()
        ]

        def unit(connection: Connection) -> Session:
            session = create_session(
                connection,
                session_id=session_id,
                custody=custody,
                key_class=key_class,
                members=members,
                new_tokens=tokens,
                token_lifetime_s=self._token_lifetime_s,
                wanted=wanted,
                policy=policy,
            )
            if session.party(ROUTER) is None:
                raise NoKeyOfClass(f"the router has no {key_class} key", parties=[ROUTER])
            return session

        session = await self._catalog.run(unit)
        await self._bring_copy(session_id)
        logger.info("session opened", extra={"session_id": session_id})
        return OpenedSession(
            session=session,
            user_token=secrets[members[0]],
            miner_tokens={p.miner: secrets[p] for p in members if p.miner is not None},
            router_token=next((secrets[p] for p in own_router), None),
        )

    async def get(self, session_id: str) -> Session:
        """Return a session.

        Raises:
            UnknownSession: there is none of that id.

        """
        return await self._catalog.read(lambda c: load_session(c, session_id))

    async def retain(self, session_id: str, name: str) -> Session:
        """Have a session go over to another policy, for what is committed later.

        Raises:
            UnknownSession: there is none of that id.
            InvalidField: there is no such policy.
            LifetimeTooShort: it promises less, and the mode of the one before is compliance.
            CopiesLate: it is done, and not in as many stores as it must be; send it again.

        """
        policy = self._policy_of(name, "policy")
        try:
            session = await self._catalog.run(lambda c: change_policy(c, session_id, policy))
        except RetentionError as error:
            raise refused_wish(error, "policy") from None
        await self._bring_copy(session_id)
        logger.warning("policy changed", extra={"session_id": session_id, "policy": name})
        return session

    async def intake_recipient(self, session: Session) -> str:
        """Return the router's recipient for files that are sealed before they are uploaded.

        Raises:
            KeyProviderUnavailable: the router's keys are out of reach.

        """
        router = session.party(ROUTER)
        if router is None:
            raise UnknownSession(f"session {session.session_id} has no router")
        identity = await self._keyring.held_for(router.recipient)
        return str(intake_identity(identity, session.session_id).recipient())

    async def reissue(self, session_id: str, miner: str | None, *, router: bool = False) -> str:
        """Make a new token for a miner, the router of blind custody, or else the user, and revoke
        that party's earlier ones.

        Raises:
            UnknownSession: no such session or party.

        """
        kind = TokenKind.USER if miner is None else TokenKind.MINER
        kind = TokenKind.ROUTER if router else kind
        token = new_token(kind)
        stored = NewToken(token_digest(token), kind, miner)
        await self._catalog.run(
            lambda c: reissue_token(
                c, stored, session_id=session_id, lifetime_s=self._token_lifetime_s
            )
        )
        # Whoever holds a party's token reads what the party may read: it must leave a trace.
        logger.warning(
            "token reissued", extra={"session_id": session_id, "party": kind.value, "miner": miner}
        )
        return token

    def _policy_of(self, name: str, field: str) -> Policy:
        policy = self._policies.get(name)
        if policy is None:
            known = ", ".join(f"'{each}'" for each in self._policies)
            raise InvalidField(f"the policy must be one of {known}", field=field)
        return policy

    def _members(
        self, user_recipient: str, miners: Sequence[MinerEntry], key_class: str
    ) -> list[Party]:
        if len(miners) > self._miners_max:
            raise InvalidField(
                f"at most {self._miners_max} miners, not {len(miners)}", field="parties.miners"
            )
        members = [_party(USER, None, user_recipient, "parties.user.recipient", key_class)]
        for at, entry in enumerate(miners):
            try:
                miner = parse_address(entry.miner)
            except AddressError as error:
                raise InvalidField(str(error), field=f"parties.miners[{at}].id") from None
            field = f"parties.miners[{at}].recipient"
            members.append(_party(MINER, miner, entry.recipient, field, key_class))
        addresses = [party.miner for party in members]
        if len(set(addresses)) != len(addresses):
            raise InvalidField("the same miner is named twice", field="parties.miners")
        return members


def _own_router(custody: str, recipient: str | None, key_class: str) -> list[Party]:
    """Return the router that a session brings, if its custody is such that it must."""
    if custody == BLIND and recipient is None:
        raise InvalidField(
            "a session of blind custody names its router: the gateway is not",
            field="parties.router",
        )
    if custody != BLIND and recipient is not None:
        raise InvalidField("the gateway is the router of this custody", field="parties")
    if recipient is None:
        return []
    return [_party(ROUTER, None, recipient, "parties.router.recipient", key_class)]


def _class_of(user_recipient: str) -> str:
    """Return the class of a session, which is that of its user's key."""
    try:
        return parse_recipient(user_recipient).key_class
    except CryptoError as error:
        raise InvalidField(str(error), field="parties.user.recipient") from None


def _party(role: str, miner: str | None, text: str, field: str, key_class: str) -> Party:
    try:
        recipient = parse_recipient(text)
    except CryptoError as error:
        raise InvalidField(str(error), field=field) from None
    if recipient.key_class != key_class:
        raise InvalidField(
            f"the recipient is {recipient.key_class}, the user's is {key_class}: the weaker would"
            " open what is sealed for both",
            field=field,
        )
    return Party(role=role, miner=miner, version=1, recipient=str(recipient))
