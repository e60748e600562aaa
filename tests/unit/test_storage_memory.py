"""Goal: what transfers hold together stays within the budget, whoever was admitted can always go
on, and whoever waits is admitted in turn or told to come again.

Method: a Hypothesis machine over one budget and many accounts, against sums; then order, time and
giving up by hand.
"""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_gateway.errors import Busy
from storage_gateway.memory import Account, Budget

SIZE = 100


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(-40, 40)), max_size=60),
)
def test_the_budget_is_never_overdrawn_and_a_floor_never_refused(
    floors: list[int], steps: list[tuple[int, int]]
) -> None:
    async def run() -> None:
        budget = Budget(SIZE, wait_s=0.001)
        async with AsyncExitStack() as stack:
            accounts: list[tuple[int, Account]] = []
            for floor in floors:
                if budget.taken + floor <= SIZE:
                    account = await stack.enter_async_context(budget.admit(floor))
                    accounts.append((floor, account))
            for at, size in steps:
                floor, account = accounts[at % len(accounts)]
                before = account.held
                if size < 0:
                    account.give(min(-size, account.held))
                elif account.take(size):
                    assert before + size == account.held
                else:
                    assert before + size > floor
                    assert before == account.held
                assert budget.taken == sum(max(f, a.held) for f, a in accounts)
                assert budget.taken <= SIZE
        assert 0 == budget.taken

    asyncio.run(run())


async def test_half_of_the_budget_is_for_floors() -> None:
    budget = Budget(SIZE, wait_s=0.01)
    async with budget.admit(10) as first:
        assert first.take(50)
        assert not first.take(1)
        async with budget.admit(50):
            with pytest.raises(Busy):
                async with budget.admit(1):
                    pass
        assert not first.take(1)


async def test_whoever_waits_is_admitted_in_the_order_of_arrival() -> None:
    budget = Budget(SIZE, wait_s=10)
    admitted: list[str] = []
    leave = {name: asyncio.Event() for name in "abc"}

    async def hold(name: str, floor: int) -> None:
        async with budget.admit(floor):
            admitted.append(name)
            await leave[name].wait()

    async with asyncio.TaskGroup() as group:
        async with budget.admit(60):
            for name, floor in (("a", 50), ("b", 40), ("c", 40)):
                group.create_task(hold(name, floor))
                await asyncio.sleep(0)
            before = list(admitted)
        while len(admitted) < 2:
            await asyncio.sleep(0)
        in_turn = list(admitted)
        leave["a"].set()
        while len(admitted) < 3:
            await asyncio.sleep(0)
        for event in leave.values():
            event.set()

    # "b" would have had room at once; it stood behind "a" all the same.
    assert ([], ["a", "b"], ["a", "b", "c"]) == (before, in_turn, admitted)
    assert 0 == budget.taken


async def test_nothing_beyond_a_floor_is_given_while_somebody_waits() -> None:
    budget = Budget(SIZE, wait_s=10)
    async with budget.admit(10) as account:
        async with budget.admit(85):
            waiting = asyncio.ensure_future(_pass(budget, 20))
            await asyncio.sleep(0)
            assert account.take(10)
            assert not account.take(1)
        await waiting
        assert account.take(1)


async def _pass(budget: Budget, floor: int) -> None:
    async with budget.admit(floor):
        pass


async def test_who_gives_up_waiting_does_not_keep_those_behind() -> None:
    budget = Budget(SIZE, wait_s=10)
    async with budget.admit(50):
        first = asyncio.ensure_future(_pass(budget, 90))
        second = asyncio.ensure_future(_pass(budget, 50))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first, second], timeout=5)

        assert first.cancelled()
        assert second.done()
        assert 50 == budget.taken
    assert 0 == budget.taken


async def test_who_is_cancelled_just_when_admitted_keeps_nothing() -> None:
    budget = Budget(SIZE, wait_s=10)
    async with budget.admit(SIZE):
        waiting = asyncio.ensure_future(_pass(budget, 30))
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert 0 == budget.taken


async def test_more_than_there_is_is_never_admitted() -> None:
    with pytest.raises(Busy) as refused:
        await _pass(Budget(SIZE, wait_s=0.01), SIZE + 1)

    assert refused.value.retry_after_s
