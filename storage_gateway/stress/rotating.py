"""What the cases of key versions have in common: a session whose keys are rotated, who holds which
identities, jobs, and what opens with what.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crypto import CryptoError, Identity, NoIdentityMatch, X25519Identity, open_file, open_head
from storage_gateway.key_states import KeyState
from storage_gateway.records import MINER, ROUTER, USER, Manifest

from .bodies import Body
from .load import MINER as MINER_ADDRESS
from .load import Answer, Customer, Member
from .record import OK
from .tampering import manifest_of
from .trial import Trial
from .world import Reachable

ROLES = (USER, MINER, ROUTER)
SETTLED_S_MAX = 30.0
"""How long a job, or the copies of what it changed, may take."""
JOBS, ROUTER_KEYS = "/v1/jobs", "/v1/admin/keys"


class KeysRefused(Exception):
    """A change of keys that the case cannot go on without was not made."""


@dataclass(slots=True)
class Keys:
    """The keys of a session of the run, and of its router: all versions ever made."""

    trial: Trial
    customer: Customer
    operator_token: str = field(repr=False)
    held: dict[str, list[Identity]] = field(repr=False)
    """By role, oldest first: version 1 is the first one."""
    active: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 1))
    """By role the newest version that was answered."""

    @property
    def member(self) -> Member:
        """Whose session it is."""
        return self.customer.member

    def version(self, role: str) -> int:
        """Return the newest version's number: of a rotation under way that is to come."""
        return len(self.held[role])

    def identity(self, role: str, version: int) -> Identity:
        """Return the identity of a version."""
        return self.held[role][version - 1]

    def opening(self, role: str, head: bytes) -> list[int]:
        """Return the versions whose identities open a head."""
        versions = enumerate(self.held[role], start=1)
        return [number for number, identity in versions if _opens(head, identity)]

    async def rotate(self, role: str) -> int:
        """Make a new version of a party's key, and return its number.

        Raises:
            KeysRefused: it was not made.

        """
        if role == ROUTER:
            answer = await self._ask("POST", ROUTER_KEYS, self.operator_token, {})
            recipient = str(_done(answer, "rotating the router's key")["recipient"])
            # Perhaps another process made it: this one asks the run's key provider again.
            made = await self.trial.world.parts.keyring.held_for(recipient)
            self.held[ROUTER].append(made)
            self.active[ROUTER] = self.version(ROUTER)
            return self.active[ROUTER]
        new = X25519Identity.generate()
        self.held[role].append(new)  # before anything can be sealed to it
        wish = self._party(role) | {"recipient": str(new.recipient())}
        token = self.member.user_token if role == USER else self.member.miner_token
        answer = await self._ask("POST", self._path(), token, wish)
        self.active[role] = int(_done(answer, f"rotating the {role}'s key")["version"])
        return self.active[role]

    async def set_state(
        self, role: str, version: int, state: KeyState, *, urgent: bool = False
    ) -> Answer:
        """Bring a version into another state; return what was answered."""
        wish: dict[str, Any] = {"version": version, "state": state.value, "urgent": urgent}
        if role == ROUTER:
            path = f"{ROUTER_KEYS}/states"
        else:
            path, wish = f"{self._path()}/states", wish | self._party(role)
        return await self._ask("POST", path, self.operator_token, wish)

    async def census(self) -> list[dict[str, Any]]:
        """Return all versions of the session's keys and the router's, with what depends on each."""
        found: list[dict[str, Any]] = []
        for path in (self._path(), ROUTER_KEYS):
            answer = await self._ask("GET", path, self.operator_token)
            found += _done(answer, "the census")["keys"]
        return found

    async def job(self, kind: str = "rewrap") -> dict[str, Any]:
        """Carry a job out, and return it as it was at its end, or when it took too long.

        Raises:
            KeysRefused: it was not begun.

        """
        return await self.ended(await self.begin(kind))

    async def begin(self, kind: str, *, rate: float = 0.0) -> str:
        """Begin a job, which does so many objects a second at most; return its id.

        Raises:
            KeysRefused: it was not begun.

        """
        wish = {"kind": kind, "rate": rate}
        begun = await self._ask("POST", JOBS, self.operator_token, wish)
        return str(_done(begun, "beginning a job")["id"])

    async def job_now(self, job_id: str) -> dict[str, Any]:
        """Return a job as it is now, or what was answered instead."""
        return (await self._ask("GET", f"{JOBS}/{job_id}", self.operator_token)).document

    async def ended(self, job_id: str) -> dict[str, Any]:
        """Return a job as it was at its end, or when it took too long."""
        job: dict[str, Any] = {}

        async def has_ended() -> bool:
            job.update(await self.job_now(job_id))
            return "ended" in job

        await self.trial.eventually(has_ended, within_s=SETTLED_S_MAX)
        return job

    async def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs that are known, as they are now."""
        answer = await self._ask("GET", JOBS, self.operator_token)
        return list(_done(answer, "the jobs")["jobs"])

    async def learn(self, role: str, recipients: Sequence[str]) -> None:
        """Take in which versions of a key there are: a rotation whose answer was lost may have
        taken effect, or not.
        """
        known = {str(identity.recipient()): identity for identity in self.held[role]}
        held: list[Identity] = []
        for recipient in recipients:
            identity = known.get(recipient)
            if identity is None:
                identity = await self.trial.world.parts.keyring.held_for(recipient)
            held.append(identity)
        self.held[role] = held
        self.active[role] = len(held)

    async def failures(self, job_id: str) -> list[str]:
        """Return the URNs of what a job could not do."""
        answer = await self._ask("GET", f"{JOBS}/{job_id}/failures", self.operator_token)
        return [str(each["urn"]) for each in _done(answer, "what a job could not do")["failures"]]

    async def rewrap(self, wrong: list[str]) -> None:
        """Have everything wrapped anew; note if not all of it was."""
        note_job(await self.job(), wrong)

    async def fetch_sealed(self, role: str, urn: str, body: Body, held: Identity | None) -> Answer:
        """Read a sealed file as a party, which may say what it holds."""
        return await self.customer.fetch(
            urn, size=body.size, sealed=True, as_miner=role == MINER, held=held
        )

    async def read_as_all(self, unread: list[str], urn: str, body: Body) -> None:
        """Read an object in clear, and as a sealed file as the user and as the miner; note what
        could not be read or opened.
        """
        plain = await self.customer.fetch(urn, size=body.size)
        if plain.outcome != OK:
            unread.append(f"{urn} in clear came to {plain.outcome}")
        elif plain.digest != body.digest:
            self.trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")
        for role in (USER, MINER):
            sealed = await self.fetch_sealed(role, urn, body, None)
            if sealed.outcome != OK:
                unread.append(f"{urn} as the {role} came to {sealed.outcome}")
            elif not opens_to(sealed.content, self.held[role], body):
                unread.append(f"{urn} opens for none of the {role}'s identities")

    async def require_exact(self, stored: dict[str, Body], *, newest: bool) -> None:
        """Require that each head opens with the identities of those versions that its manifest
        names, and with no other one that there ever was; ``newest``: that it names the newest.
        """
        wrong: list[str] = []
        for urn in stored:
            manifest = await manifest_of(self.trial.world, urn)
            for role in ROLES:
                opening = self.opening(role, manifest.head or b"")
                if opening != versions_of(manifest, role):
                    wrong.append(f"{urn} opens for the {role}'s {opening}")
                if newest and opening != [self.version(role)]:
                    wrong.append(f"{urn} is not for the {role}'s newest version")
        self.trial.require_all(
            "each head opens with the identities that its manifest names, and no other one", wrong
        )
        self.trial.verdict.require(
            "heads were opened with every identity", met=bool(stored), evidence=f"{len(stored)}"
        )

    async def require_idle(self) -> None:
        """Require that nothing depends on any version but the active ones, soon."""
        census: list[dict[str, Any]] = []

        async def are_idle() -> bool:
            census[:] = await self.census()
            return all(_is_idle(key) for key in census)

        idle = await self.trial.eventually(are_idle, within_s=SETTLED_S_MAX)
        left = [f"the {k['party']}'s version {k['version']}" for k in census if not _is_idle(k)]
        self.trial.verdict.require(
            "by the census nothing depends on a version that is not active",
            met=idle and len(census) >= sum(len(held) for held in self.held.values()),
            evidence=f"{len(census)} versions; in use still: {left}",
        )

    def hand_over(self) -> None:
        """Have who judges the run read as the session's user with its newest identity."""
        acknowledged = self.trial.ledger.acknowledged
        newest = replace(self.member, user=self.held[USER][-1], miner=self.held[MINER][-1])
        for urn, (member, body) in acknowledged.items():
            if member.session_id == newest.session_id:
                acknowledged[urn] = (newest, body)

    async def _ask(
        self, method: str, path: str, token: str, document: dict[str, Any] | None = None
    ) -> Answer:
        return await self.customer.ask("keys", method, path, token, document)

    def _path(self) -> str:
        return f"/v1/sessions/{self.member.session_id}/keys"

    def _party(self, role: str) -> dict[str, Any]:
        return {"party": role} | ({"miner": MINER_ADDRESS} if role == MINER else {})


def note_job(job: dict[str, Any], wrong: list[str]) -> None:
    """Note a job that did not end well, or could not do something."""
    failed = job.get("progress", {}).get("failed")
    if (job.get("state"), failed) != ("done", 0):
        wrong.append(f"a job ended as {job.get('state')}, {failed} failed")


async def open_keys(trial: Trial, gateway: Reachable, name: str = "stress") -> Keys:
    """Open a session of the run, and give the run an operator."""
    member, token = await trial.member(name), await trial.operator()
    routers = list(trial.world.parts.keyring.opening())
    held: dict[str, list[Identity]] = {
        USER: [member.user],
        MINER: [member.miner],
        ROUTER: routers,
    }
    return Keys(trial, trial.customer(gateway, member), token, held)


def versions_of(manifest: Manifest, role: str) -> list[int]:
    """Return the versions of a party's key that a manifest says its head is for."""
    return [party.version for party in manifest.wrapped_for if party.role == role]


def opens_to(file: bytes, identities: Sequence[Identity], body: Body) -> bool:
    """Tell whether a sealed file opens to a body, byte for byte."""
    try:
        return hashlib.sha256(open_file(file, list(identities))).digest() == body.digest
    except CryptoError:
        return False


def _opens(head: bytes, identity: Identity) -> bool:
    try:
        open_head(head, [identity])
    except NoIdentityMatch:
        return False
    return True


def _is_idle(key: dict[str, Any]) -> bool:
    return key["state"] == KeyState.ACTIVE.value or bool(key["safe_to_destroy"])


def _done(answer: Answer, what: str) -> dict[str, Any]:
    if answer.outcome != OK:
        raise KeysRefused(f"{what} came to {answer.outcome}")
    return answer.document
