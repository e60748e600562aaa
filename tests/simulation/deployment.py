"""What every history begins with: a deployment, two sessions, and who holds which token and key.

Fixed, as making keys costs more than using them; the histories differ in what is done with them.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from crypto import Secret, X25519Identity
from storage_gateway.catalog.sessions import (
    NewToken,
    create_session,
    register_router,
    set_operator_token,
)
from storage_gateway.catalog.work import load_deployment
from storage_gateway.records import MINER, USER, Party, TokenKind
from storage_gateway.tokens import token_digest

DEPLOYMENT = "d" * 32
PAYLOADS = f"{DEPLOYMENT}/main/payloads/"
OPERATOR_TOKEN = "operator-token-" + "o" * 40
TOKEN_LIFETIME_S = 30 * 86400.0


def _identity(number: int) -> X25519Identity:
    return X25519Identity(Secret(bytes([number]) * 32))


ROUTER = _identity(1)


@dataclass(frozen=True, slots=True)
class Member:
    """A party, its session, its token and its key; without a session, the operator."""

    name: str
    session_id: str
    kind: TokenKind
    miner: str | None
    token: str
    identity: X25519Identity

    def may_read(self, session_id: str, miner: str | None) -> bool:
        """Tell whether it may know of an object of that session and miner (None: an input)."""
        if self.session_id != session_id:
            return False
        return self.kind is TokenKind.USER or miner in (None, self.miner)


def _members(session_id: str, first_number: int) -> tuple[Member, ...]:
    user = Member(
        name=f"user-{session_id}",
        session_id=session_id,
        kind=TokenKind.USER,
        miner=None,
        token=f"user-token-{session_id}-" + "u" * 40,
        identity=_identity(first_number),
    )
    miners = (
        Member(
            name=f"miner-{session_id}-{at}",
            session_id=session_id,
            kind=TokenKind.MINER,
            miner=f"0x{at:040x}",
            token=f"miner-token-{session_id}-{at}-" + "m" * 40,
            identity=_identity(first_number + at),
        )
        for at in (1, 2)
    )
    return (user, *miners)


MEMBERS = {"A": _members("A", 10), "B": _members("B", 20)}


def prepare(connection: Connection) -> None:
    """Store the deployment, its router, its operator and its sessions."""
    load_deployment(connection, DEPLOYMENT)
    register_router(connection, str(ROUTER.recipient()), "classic")
    set_operator_token(connection, token_digest(OPERATOR_TOKEN))
    for session_id, members in MEMBERS.items():
        create_session(
            connection,
            session_id=session_id,
            custody="router",
            key_class="classic",
            members=[
                Party(
                    USER if member.kind is TokenKind.USER else MINER,
                    member.miner,
                    1,
                    str(member.identity.recipient()),
                )
                for member in members
            ],
            new_tokens=[
                NewToken(token_digest(member.token), member.kind, member.miner)
                for member in members
            ],
            token_lifetime_s=TOKEN_LIFETIME_S,
        )
