"""Steps of tests about lifetimes and leases: policies, sessions of each, what is asked and told."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import update

from storage_gateway.catalog import now_ms
from storage_gateway.catalog.tables import objects
from tests.gateway import OpenSession, RunningGateway, open_session
from tests.http.raw import Answer, exchange, request
from tests.http.steps import uploaded

DAY_S = 86400
POLICIES = [
    {"name": "brief", "default_s": 60, "longest_s": 600, "grace_s": 30},
    {"name": "open", "default_s": 60},
    {"name": "strict", "default_s": 120, "longest_s": 600, "grace_s": 30, "mode": "compliance"},
    {"name": "stricter", "default_s": 240, "grace_s": 30, "mode": "compliance"},
]
"""``open`` and ``stricter`` have no longest lifetime, and ``brief`` is the deployment's."""
SETTINGS: dict[str, object] = {"retention_policies": POLICIES, "retention_policy": "brief"}


async def ask(
    gateway: RunningGateway, method: str, path: str, token: str | None, document: object = None
) -> Answer:
    """Ask with a JSON document, if there is one."""
    body = None if document is None else json.dumps(document).encode()
    headers = [] if document is None else [("Content-Type", "application/json")]
    data = request(method, path, token, headers=headers, body=body)
    return await exchange(gateway.address, data)


class Kept:
    """An object of a session of some policy."""

    def __init__(self, gateway: RunningGateway, session: OpenSession, urn: str) -> None:
        self.gateway, self.session, self.urn = gateway, session, urn

    @property
    def path(self) -> str:
        return f"/v1/objects/{self.urn}"

    @property
    def object_id(self) -> str:
        return self.urn.rpartition(":")[2]

    async def ask(
        self, method: str, part: str, document: object = None, *, token: str | None = None
    ) -> Answer:
        """Ask as the session's user, if no token is given."""
        token = self.session.user_token if token is None else token
        return await ask(self.gateway, method, f"{self.path}{part}", token, document)

    async def lives(self, lifetime_s: object, *, token: str | None = None) -> Answer:
        document = {"lifetime_s": lifetime_s}
        return await self.ask("PUT", "/retention", document, token=token)

    async def leased(self, for_s: object, *, token: str | None = None) -> Answer:
        return await self.ask("PUT", "/lease", {"for_s": for_s}, token=token)

    async def shown(self) -> dict[str, Any]:
        answer = await self.ask("GET", "/retention")
        assert 200 == answer.status, answer
        return answer.json()

    async def change(self, **columns: object) -> None:
        """Change the object's row behind the gateway's back."""
        here = objects.c.object_id == self.object_id
        await self.gateway.catalog.run(
            lambda c: c.execute(update(objects).where(here).values(columns)).close()
        )

    async def expire(self) -> None:
        """Do what a sweep does once the longest claim has ended, a minute ago."""
        now = await self.gateway.catalog.run(now_ms)
        await self.change(
            keep_until_ms=now - 60_000,
            expires_ms=now - 60_000,
            expired_ms=now - 30_000,
            erase_after_ms=now + 600_000,
        )


async def kept(
    gateway: RunningGateway,
    policy: str | None = None,
    *,
    content: bytes = b"content",
    lifetime_s: object = None,
) -> Kept:
    """Upload an object into a new session of a policy; None: the deployment's."""
    wanted = {} if policy is None else {"retention": policy}
    session = await open_session(gateway, **wanted)
    headers = [] if lifetime_s is None else [("Object-Lifetime", str(lifetime_s))]
    document = await uploaded(
        gateway, session.path("t1"), session.user_token, content, headers=headers
    )
    return Kept(gateway, session, document["urn"])


def ms_of(told: str | None) -> int:
    """Return a time that was told, in milliseconds."""
    assert told is not None
    return round(datetime.fromisoformat(told).timestamp() * 1000)


def lives_s(document: dict[str, Any]) -> float | None:
    """Return for how long an object is kept from its commit, by what was told of it."""
    began = document.get("created") or document.get("committed")
    expires = document["expires"]
    return None if expires is None else (ms_of(expires) - ms_of(began)) / 1000
