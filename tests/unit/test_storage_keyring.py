"""Goal: what the keyring tells is what the provider last told, for as long as that counts and no
longer; a provider that hangs, dies or lies about itself holds up nobody.

Method: a provider that does what the test says next, and a clock that the test moves.
"""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from crypto import CLASSIC, HYBRID, Identity, X25519Identity
from storage_gateway.config import ConfigError
from storage_gateway.errors import KeyProviderUnavailable
from storage_gateway.keyring import Keyring

OLD, NEW, OTHER = (X25519Identity.generate() for _ in range(3))
FRESH_S, TTL_S = 10.0, 100.0


def text(identity: Identity) -> str:
    return str(identity.recipient())


@dataclass
class Scripted:
    """A provider that hangs, fails or tells what it is set to."""

    held: list[Identity] = field(default_factory=lambda: [OLD])
    hangs: bool = False
    fails: Exception | None = None
    asked: int = 0
    closed: bool = False
    name: str = "scripted"
    place: str = "nowhere"

    async def load(self) -> tuple[Identity, ...]:
        self.asked += 1
        held = tuple(self.held)
        await self._answer()
        return held

    async def make(self, key_class: str, *, first: bool = False) -> Identity:
        await self._answer()
        self.held.append(NEW)
        return NEW

    async def drop(self, recipient: str) -> None:
        await self._answer()
        self.held = [one for one in self.held if text(one) != recipient]

    async def close(self) -> None:
        self.closed = True

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        await asyncio.sleep(0)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Made:
    keyring: Keyring
    provider: Scripted
    clock: Clock


@pytest.fixture
async def made(request: pytest.FixtureRequest) -> AsyncIterator[Made]:
    provider, clock = Scripted(), Clock()
    keyring = Keyring(
        provider,
        refresh_s=0.01,
        fresh_s=FRESH_S,
        ttl_s=TTL_S,
        timeout_s=0.05,
        seals_while_away=getattr(request, "param", False),
        clock=clock,
    )
    yield Made(keyring, provider, clock)
    await keyring.close()
    assert provider.closed


def works(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except KeyProviderUnavailable:
        return False
    return True


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.001)


async def test_before_the_first_answer_there_is_nothing(made: Made) -> None:
    state = made.keyring.state()

    assert (False, None, False, False) == (state.up, state.age_s, state.seals, state.opens)
    assert not works(made.keyring.opening)
    assert not works(made.keyring.sealing)
    with pytest.raises(KeyProviderUnavailable):
        await made.keyring.held_for(text(OLD))


async def test_all_versions_are_held_in_their_order(made: Made) -> None:
    made.provider.held = [OLD, NEW, OTHER]
    await made.keyring.refresh()

    assert (OLD, NEW, OTHER) == made.keyring.opening() == made.keyring.sealing()
    assert NEW == made.keyring.identity_for(text(NEW))
    assert made.keyring.identity_for(text(X25519Identity.generate())) is None
    assert made.keyring.state().up


@pytest.mark.parametrize(
    ("made", "age_s", "seals", "opens"),
    [
        (False, FRESH_S, True, True),
        (False, FRESH_S + 0.5, False, True),
        (False, TTL_S, False, True),
        (False, TTL_S + 0.5, False, False),
        (True, FRESH_S + 0.5, True, True),
        (True, TTL_S, True, True),
        (True, TTL_S + 0.5, False, False),
    ],
    indirect=["made"],
)
async def test_an_answer_counts_for_its_time(
    made: Made, age_s: float, seals: bool, opens: bool
) -> None:
    await made.keyring.refresh()
    made.provider.fails = KeyProviderUnavailable("away")
    made.clock.now += age_s
    with pytest.raises(KeyProviderUnavailable):
        await made.keyring.refresh()

    assert (seals, opens) == (works(made.keyring.sealing), works(made.keyring.opening))
    state = made.keyring.state()
    assert (False, age_s, seals, opens) == (state.up, state.age_s, state.seals, state.opens)
    assert seals == await _can(made.keyring.sealing_for(text(OLD)))
    assert opens == await _can(made.keyring.held_for(text(OLD)))
    assert opens == await _can(made.keyring.opening_for([text(OLD)]))


async def _can(asked: object) -> bool:
    try:
        await asked  # type: ignore[misc] # each of several types
    except KeyProviderUnavailable:
        return False
    return True


async def test_an_answer_is_as_old_as_its_question(made: Made) -> None:
    """A key that was dropped while the answer was on its way must not count any longer."""
    answer = asyncio.Event()

    async def load() -> tuple[Identity, ...]:
        await answer.wait()
        return (OLD,)

    made.provider.load = load  # type: ignore[method-assign]
    asked = asyncio.create_task(made.keyring.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    made.clock.now += FRESH_S + 1
    answer.set()
    await asked

    assert FRESH_S + 1 == made.keyring.state().age_s
    assert not works(made.keyring.sealing)


async def test_a_provider_that_hangs_is_not_waited_for(made: Made) -> None:
    await made.keyring.refresh()
    made.provider.hangs = True
    for asked in (
        made.keyring.refresh(),
        made.keyring.make(CLASSIC),
        made.keyring.drop(text(OLD)),
    ):
        with pytest.raises(KeyProviderUnavailable, match="did not answer within"):
            await asyncio.wait_for(asked, 20)

    waiting = asyncio.create_task(made.keyring.refresh())
    await asyncio.sleep(0)
    assert (OLD,) == made.keyring.opening()  # while it hangs
    with pytest.raises(KeyProviderUnavailable):
        await waiting


async def test_many_who_ask_make_few_questions(made: Made) -> None:
    await asyncio.gather(*(made.keyring.refresh() for _ in range(50)))

    assert made.provider.asked <= 2


async def test_who_is_broken_off_breaks_off_nobody_else(made: Made) -> None:
    first = asyncio.create_task(made.keyring.refresh())
    await asyncio.sleep(0)
    second = asyncio.create_task(made.keyring.refresh())
    await asyncio.sleep(0)
    first.cancel()
    await second

    assert (OLD,) == made.keyring.opening()


async def test_what_another_process_made_is_found(made: Made) -> None:
    await made.keyring.refresh()
    made.provider.held.append(OTHER)
    made.clock.now += 1.0

    assert OTHER == await made.keyring.sealing_for(text(OTHER))
    asked = made.provider.asked
    for _ in range(20):
        assert not await _can(made.keyring.held_for(text(NEW)))
    assert asked == made.provider.asked  # not for each request


async def test_heads_are_opened_with_their_own_identity_and_with_no_other(made: Made) -> None:
    """One that is not held is the provider's fault, and no damage of what is sealed to it."""
    made.provider.held = [OLD, NEW]
    await made.keyring.refresh()

    assert (NEW,) == await made.keyring.opening_for([text(NEW)])
    assert (NEW,) == await made.keyring.opening_for([text(OTHER), text(NEW)])
    # Each is tried on every head: a rewrap asks for whom a head is and for whom it is to be.
    assert (NEW, OLD) == await made.keyring.opening_for([text(NEW), text(OLD), text(NEW)])
    for unheld in ([text(OTHER)], []):
        with pytest.raises(KeyProviderUnavailable):
            await made.keyring.opening_for(unheld)


async def test_who_comes_while_it_is_asked_waits_for_the_answer(made: Made) -> None:
    """Of several that miss the same version none is refused while the answer is on its way."""
    await made.keyring.refresh()
    made.provider.held.append(OTHER)

    found = await asyncio.gather(*(made.keyring.held_for(text(OTHER)) for _ in range(5)))
    assert [OTHER] * 5 == found


async def test_what_is_made_is_held_even_if_the_next_answer_fails(made: Made) -> None:
    await made.keyring.refresh()
    make = made.provider.make

    async def make_and_fail(key_class: str, *, first: bool = False) -> Identity:
        identity = await make(key_class, first=first)
        made.provider.fails = KeyProviderUnavailable("away")
        return identity

    made.provider.make = make_and_fail  # type: ignore[method-assign]

    assert NEW == await made.keyring.make(CLASSIC)
    assert (OLD, NEW) == made.keyring.opening()


async def test_what_is_dropped_is_gone_here_whatever_is_under_way(made: Made) -> None:
    made.provider.held = [OLD, NEW]
    earlier = asyncio.create_task(made.keyring.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await made.keyring.drop(text(OLD))
    await earlier

    assert (NEW,) == made.keyring.opening()


async def test_what_is_dropped_is_gone_here_though_the_next_answer_fails(made: Made) -> None:
    made.provider.held = [OLD, NEW]
    await made.keyring.refresh()
    late = asyncio.Event()

    async def load() -> tuple[Identity, ...]:
        await late.wait()
        made.provider.load = fail  # type: ignore[method-assign]
        return (OLD, NEW)

    async def fail() -> tuple[Identity, ...]:
        raise KeyProviderUnavailable("away")

    made.provider.load = load  # type: ignore[method-assign]
    earlier = asyncio.create_task(made.keyring.refresh())
    await asyncio.sleep(0)
    dropping = asyncio.create_task(made.keyring.drop(text(OLD)))
    await asyncio.sleep(0.005)
    late.set()
    await asyncio.gather(earlier, dropping)

    assert (NEW,) == made.keyring.opening()


async def test_the_loop_forgets_and_heals(made: Made) -> None:
    held = X25519Identity.generate()
    gone = weakref.ref(held.key) if hasattr(held.key, "__weakref__") else None
    made.provider.held = [held]
    await made.keyring.refresh()
    made.keyring.start()
    asked = made.provider.asked
    await until(lambda: made.provider.asked > asked + 1)
    made.provider.fails = ConfigError("the file is gone")
    made.clock.now += TTL_S + 1
    await until(lambda: not made.keyring._held)
    made.provider.held = []
    del held
    gc.collect()
    assert gone is None or gone() is None
    assert not works(made.keyring.opening)

    made.provider.held, made.provider.fails = [NEW], None
    await until(lambda: works(made.keyring.sealing))
    assert (NEW,) == made.keyring.opening()


async def test_an_error_of_ours_does_not_end_the_loop(made: Made) -> None:
    await made.keyring.refresh()
    made.provider.fails = RuntimeError("a defect")
    made.keyring.start()
    asked = made.provider.asked
    await until(lambda: made.provider.asked > asked + 1)
    made.provider.fails = None
    await until(lambda: made.keyring.state().up)


async def test_one_that_holds_its_own_asks_nobody() -> None:
    keyring = Keyring.of(OLD, NEW)

    assert (OLD, NEW) == keyring.opening() == keyring.sealing()
    made = await keyring.make(HYBRID)
    assert (OLD, NEW, made) == keyring.opening()
    await keyring.drop(text(OLD))
    assert (NEW, made) == keyring.opening()
    assert made == await keyring.make(HYBRID, first=True)
    await keyring.close()
