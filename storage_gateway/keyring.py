"""The router's identities as the key provider last told them, and for how long that counts.

Requests ask the keyring, never the provider: one that hangs or is gone holds up nobody. A loop asks
the provider now and then. While it does not answer, nothing new is sealed once its last answer is
older than ``fresh_s``, and nothing opened once it is older than ``ttl_s``: the identities are then
dropped from memory. The next answer heals both.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from crypto import Identity

from .config import ConfigError
from .errors import KeyProviderUnavailable
from .key_provider import HeldKeys, KeyProvider
from .records import ROUTER, Party

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 5.0
"""How soon a provider that did not answer is asked again, at the latest."""
MISSING_S = 1.0
"""So long after a question it is not asked again for an identity that it did not tell of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysState:
    """How the key provider is, and what that means for requests."""

    provider: str
    up: bool
    """It answered when it was last asked."""
    age_s: float | None
    """Of its last answer; None: it gave none yet."""
    seals: bool
    """Uploads are taken."""
    opens: bool
    """Plaintext is served."""


class Keyring:
    """The identities of one process. Who made it closes it."""

    def __init__(
        self,
        provider: KeyProvider,
        *,
        refresh_s: float,
        fresh_s: float,
        ttl_s: float,
        timeout_s: float,
        seals_while_away: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Times are seconds; ``clock`` only ever goes forward. Nobody is asked yet."""
        self._provider = provider
        self._refresh_s = refresh_s
        self._fresh_s = ttl_s if seals_while_away else fresh_s
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._held: dict[str, Identity] = {}
        """By the text of the recipient, oldest first."""
        self._told_s = -math.inf
        self._missed_s = -math.inf
        self._up = False
        self._asking: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, *identities: Identity) -> "Keyring":
        """Return one that holds these for good, and asks nobody."""
        held = cls(HeldKeys(identities), refresh_s=1, fresh_s=math.inf, ttl_s=math.inf, timeout_s=1)
        held._take(identities, 0.0)
        held._up = True
        return held

    def start(self) -> None:
        """Begin to ask the provider now and then."""
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ask no more; what is under way at the provider is given up."""
        asked = (self._loop, self._looking, self._asking)
        tasks = [task for task in asked if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._provider.close()
        self._held = {}

    @property
    def place(self) -> str:
        """Where the provider keeps them, for people."""
        return self._provider.place

    def state(self) -> KeysState:
        """Return how it is."""
        told = self._age_s() < math.inf
        return KeysState(
            provider=self._provider.name,
            up=self._up,
            age_s=self._age_s() if told else None,
            seals=told and self._age_s() <= self._fresh_s,
            opens=told and self._age_s() <= self._ttl_s,
        )

    def opening(self) -> tuple[Identity, ...]:
        """Return the identities that open heads, oldest first.

        Raises:
            KeyProviderUnavailable: the provider has not told of them for too long.

        """
        self._require(self._ttl_s)
        return tuple(self._held.values())

    def sealing(self) -> tuple[Identity, ...]:
        """Return the identities that may be sealed to.

        Raises:
            KeyProviderUnavailable: as `opening`, and sooner.

        """
        self._require(self._fresh_s)
        return tuple(self._held.values())

    def identity_for(self, recipient: str) -> Identity | None:
        """Return the identity of a recipient, if it is held.

        Raises:
            KeyProviderUnavailable: as `opening`.

        """
        self.opening()
        return self._held.get(recipient)

    async def held_for(self, recipient: str) -> Identity:
        """Return the identity of a recipient; the provider is asked anew if it is not held.

        Raises:
            KeyProviderUnavailable: as `opening`; or the provider does not hold it.

        """
        self.opening()
        found = await self._found(recipient)
        self.opening()
        if found is None:
            raise KeyProviderUnavailable("the key provider does not hold the router's active key")
        return found

    async def sealing_for(self, recipient: str) -> Identity:
        """Return the identity of the recipient that is sealed to.

        Raises:
            KeyProviderUnavailable: as `sealing`; or the provider does not hold it.

        """
        self.sealing()
        return await self.held_for(recipient)

    async def opening_for(self, recipients: Iterable[str]) -> tuple[Identity, ...]:
        """Return the identities of those recipients that are held.

        Raises:
            KeyProviderUnavailable: as `opening`; or the provider holds none of them.

        """
        asked = list(dict.fromkeys(recipients))
        self.opening()
        if asked and not any(recipient in self._held for recipient in asked):
            await self._found(asked[0])
        self.opening()
        held = tuple(self._held[each] for each in asked if each in self._held)
        if not held:
            # No damage of what is sealed: perhaps another process has just made the version.
            raise KeyProviderUnavailable("the key provider holds none of the router's keys for it")
        return held

    async def opening_to_rewrap(
        self, current: Iterable[Party], wanted: Iterable[Party]
    ) -> tuple[Identity, ...]:
        """Return the identities that open the heads of ``current``, and check those that are made
        for ``wanted``.

        Raises:
            KeyProviderUnavailable: as `opening`; or the provider does not hold the latter.

        """
        for router in (party for party in wanted if party.role == ROUTER):
            await self.held_for(router.recipient)
        return await self.opening_for(p.recipient for p in (*current, *wanted) if p.role == ROUTER)

    async def make(self, key_class: str, *, first: bool = False) -> Identity:
        """Have the provider make a version; see `KeyProvider.make`.

        Raises:
            ConfigError
            KeyProviderUnavailable: it did not say so in time; it may have made one all the same.

        """
        made = await self._in_time(self._provider.make(key_class, first=first))
        self._held |= {str(made.recipient()): made}
        with suppress(KeyProviderUnavailable):  # it is durable, whatever the next answer is
            await self.refresh()
        return made

    async def drop(self, recipient: str) -> None:
        """Have the provider erase a version for good, and forget it here.

        Raises:
            ConfigError
            KeyProviderUnavailable: it did not say so in time; it may be erased all the same.

        """
        await self._in_time(self._provider.drop(recipient))
        with suppress(KeyProviderUnavailable):
            await self.refresh()
        self._held.pop(recipient, None)  # last: an answer from before may have come meanwhile

    async def refresh(self) -> None:
        """Ask the provider; who asks meanwhile waits for an answer to a question of their own.

        Raises:
            ConfigError, KeyProviderUnavailable: what was told before stays.

        """
        if self._asking is not None:
            await asyncio.wait([self._asking])  # it may have been asked before what we know of
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_note_seen)
        asking = self._asking
        await asyncio.wait([asking])
        if asking.cancelled():
            raise KeyProviderUnavailable("the gateway is stopping")
        asking.result()

    async def _found(self, recipient: str) -> Identity | None:
        """Return an identity that is held, by now: another process may just have made it."""
        if recipient in self._held:
            return self._held[recipient]
        # One question for all that miss one: none of them is refused while it is on its way.
        looking, is_old = self._looking, self._clock() - self._missed_s >= MISSING_S
        if looking is None or (looking.done() and is_old):
            self._missed_s = self._clock()
            looking = self._looking = asyncio.create_task(self._look())
        await asyncio.wait([looking])
        return self._held.get(recipient)

    async def _look(self) -> None:
        with suppress(KeyProviderUnavailable, ConfigError):
            await self.refresh()

    async def _ask(self) -> None:
        began_s = self._clock()
        try:
            identities = await self._in_time(self._provider.load())
        except BaseException:
            self._up = False
            raise
        self._up = True
        self._take(identities, began_s)

    async def _in_time(self, asked: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asked
        except TimeoutError:
            raise KeyProviderUnavailable(
                f"the key provider did not answer within {self._timeout_s:g} seconds"
            ) from None

    def _take(self, identities: Iterable[Identity], told_s: float) -> None:
        self._held = {str(identity.recipient()): identity for identity in identities}
        self._told_s = told_s

    def _age_s(self) -> float:
        return self._clock() - self._told_s

    def _require(self, age_s_max: float) -> None:
        if self._age_s() > age_s_max:
            self._forget()
            raise KeyProviderUnavailable("the key provider has not answered for too long")

    def _forget(self) -> None:
        if self._age_s() > self._ttl_s:
            self._held = {}

    async def _run(self) -> None:
        was_up = self._up
        while True:
            left_s = self._told_s + self._ttl_s - self._clock()
            soon_s = self._refresh_s if self._up else min(self._refresh_s, RETRY_S)
            # Woken when the ttl is over, too: what nobody asks for must go as well.
            await asyncio.sleep(min(soon_s, left_s + 0.001) if left_s > 0 else soon_s)
            self._forget()
            try:
                await self.refresh()
            except (KeyProviderUnavailable, ConfigError) as error:
                if was_up:
                    logger.error("key provider away", extra=self._said(error))  # noqa: TRY400
            except Exception:
                logger.exception("key provider failed", extra={"provider": self._provider.name})
            else:
                if not was_up:
                    logger.info("key provider answers", extra={"provider": self._provider.name})
            was_up = self._up

    def _said(self, error: Exception) -> dict[str, str]:
        return {"provider": self._provider.name, "reason": str(error)}


def _note_seen(asking: "asyncio.Task[None]") -> None:
    """Have nobody told that an error was not looked at: who asked may have gone."""
    if not asking.cancelled():
        asking.exception()
