"""A Hypothesis rule machine over the units on claims and the sweep, against a small model."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, select

from retention import LifetimeTooLong, LifetimeTooShort, Mode, Policy, RetentionError
from storage_gateway.catalog import Unit
from storage_gateway.catalog.claiming import change_lifetime, change_policy, let_go, renew_lease
from storage_gateway.catalog.erasing import erase, erase_expired
from storage_gateway.catalog.holding import Scope, place_hold, release_hold
from storage_gateway.catalog.objects import Ownership, begin_upload, commit_upload
from storage_gateway.catalog.sessions import create_session
from storage_gateway.catalog.sweeping import look_at_time
from storage_gateway.catalog.tables import objects, sessions
from storage_gateway.catalog.work import LEASE_S_MAX, load_deployment, renew_instance
from storage_gateway.errors import Erased, Held, Retained
from storage_gateway.ids import new_random_id
from storage_gateway.records import INPUT, USER, Manifest, ObjectState, Party, Slot
from storage_gateway.sweep import Sweep, SweepReport
from tests.databases import databases

from .retention_model import Model, S, Terms, Thing

T = TypeVar("T")

LEAP_S, SHARE = 100, 0.05
INSTANCE = "machine"
USERS = (Party(USER, None, 1, "age1user"),)
POLICIES: tuple[Terms, ...] = (
    ("forever", None, None, 7 * 86400, False),
    ("brief", 100, 1000, 30, False),
    ("at-once", 10, None, 0, False),
    ("kept", 100, 1000, 0, True),
    ("kept-longer", 1000, 5000, 60, True),
    ("archive", None, None, 60, True),
)
ERRORS: dict[str, type[Exception]] = {
    "RetentionError": RetentionError,
    "LifetimeTooLong": LifetimeTooLong,
    "LifetimeTooShort": LifetimeTooShort,
    "Held": Held,
    "Retained": Retained,
}
WHICH = st.integers(0, 99)


def policy_of(terms: Terms) -> Policy:
    name, default_s, longest_s, grace_s, strict = terms
    return Policy(
        name, default_s, longest_s, grace_s, Mode.COMPLIANCE if strict else Mode.GOVERNANCE
    )


class Machine(RuleBasedStateMachine):
    """What may be claimed, held, erased and swept, by clocks as they are, and what must then be."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = Model(leap_s=LEAP_S, share=SHARE)
        self.catalog = databases.open(folder, clock=lambda _: self.model.now)
        self.run(partial(load_deployment, candidate_id=new_random_id()))
        self.runner = asyncio.Runner()
        self.holds: list[tuple[Scope, str]] = []
        self.is_partial = False
        """A round of sweeps is under way."""
        self.restart()

    def run(self, unit: Unit[T]) -> T:
        return self.catalog.run_blocking(unit)

    def refused(self, why: str | None, unit: Unit[Any]) -> bool:
        """Run a unit, which must be refused for that reason, and for no other."""
        if why is None:
            self.run(unit)
            return False
        with pytest.raises(ERRORS[why]) as caught:
            self.run(unit)
        assert caught.type is ERRORS[why]
        return True

    def thing(self, which: int, *, gone: bool | None = False) -> tuple[str, Thing]:
        there = [(n, t) for n, t in self.model.things.items() if gone is None or t.gone == gone]
        assume(there)
        return there[which % len(there)]

    # Sessions and objects.

    @initialize(of=st.lists(st.sampled_from(POLICIES), min_size=2, max_size=2), many=WHICH)
    def begin(self, of: list[Terms], many: int) -> None:
        for terms in (*of, POLICIES[1]):
            self.open_session(terms)
        for number in range(3):
            self.commit(number, 2 + many % 3, None)

    @precondition(lambda self: len(self.model.terms) < 4)
    @rule(terms=st.sampled_from(POLICIES))
    def open_session(self, terms: Terms) -> None:
        session_id = f"s{len(self.model.terms)}"
        create = partial(
            create_session,
            session_id=session_id,
            custody="router",
            key_class="classic",
            members=USERS,
            new_tokens=[],
            token_lifetime_s=1,
            policy=policy_of(terms),
        )
        self.run(create)
        self.model.terms[session_id] = terms
        self.model.session_holds[session_id] = set()

    @precondition(lambda self: self.model.terms)
    @rule(which=WHICH, terms=st.sampled_from(POLICIES))
    def take_other_terms(self, which: int, terms: Terms) -> None:
        session_id = f"s{which % len(self.model.terms)}"
        why = None if self.model.may_take(session_id, terms) else "LifetimeTooShort"
        change = partial(change_policy, session_id=session_id, policy=policy_of(terms))
        if not self.refused(why, change):
            self.model.terms[session_id] = terms

    @precondition(lambda self: self.model.terms)
    @rule(
        which=WHICH, many=st.integers(1, 4), asked=st.sampled_from((None, None, 5, 100, 700, 9000))
    )
    def commit(self, which: int, many: int, asked: int | None) -> None:
        session_id = f"s{which % len(self.model.terms)}"
        for _ in range(many):
            object_id = self._commit(session_id, asked)
            lives = self.model.granted(session_id, asked)
            keep = None if lives is None else self.model.now + lives * S
            terms = self.model.terms[session_id]
            self.model.things[object_id] = Thing(session_id, terms, self.model.now, keep)

    def _commit(self, session_id: str, asked: int | None) -> str:
        object_id, payload_id = new_random_id(), new_random_id()
        slot = Slot(session_id, f"t{len(self.model.things)}", INPUT, None)
        owner = Ownership(payload_id, INSTANCE, 1)
        manifest = Manifest(
            object_id=object_id,
            payload_id=payload_id,
            slot=slot,
            state=ObjectState.COMMITTED,
            generation=1,
            key_class="classic",
            cid="c",
            size=1,
            payload_size=1,
            sealed_size=1,
            wrapped_for=USERS,
            file_key_print=payload_id.encode(),
            head=b"head",
            sequence=0,
            created_ms=0,
        )

        def unit(connection: Connection) -> None:
            renew_instance(connection, INSTANCE, LEASE_S_MAX)
            begin_upload(connection, owner=owner, object_id=object_id, slot=slot, wrapped_for=USERS)
            commit_upload(connection, owner, manifest, placed=[], wanted=[], lifetime_s=asked)

        self.run(unit)
        return object_id

    # Claims.

    @rule(which=WHICH, asked=st.sampled_from((None, -5, 0, 1, 50, 100, 500, 3000)))
    def live_so_long(self, which: int, asked: int | None) -> None:
        object_id, thing = self.thing(which)
        change = partial(change_lifetime, object_id=object_id, lifetime_s=asked)
        if not self.refused(self.model.refuses_lifetime(thing, asked), change):
            thing.keep = None if asked is None else thing.born + asked * S
            self.model.claimed(thing)

    @rule(which=WHICH, holder=st.sampled_from("uo"), for_s=st.sampled_from((1, 60, 900, 4000)))
    def renew(self, which: int, holder: str, for_s: int) -> None:
        object_id, thing = self.thing(which)
        lease = partial(renew_lease, object_id=object_id, holder=holder, for_s=for_s)
        if not self.refused(self.model.refuses_lease(thing, for_s), lease):
            until = self.model.now + for_s * S
            thing.leases[holder] = max(until, thing.leases.get(holder, until))
            self.model.claimed(thing)

    @rule(which=WHICH, holder=st.sampled_from("uo"))
    def give_up(self, which: int, holder: str) -> None:
        object_id, thing = self.thing(which)
        unit = partial(let_go, object_id=object_id, holder=holder)
        if not self.refused(self.model.refuses_letting_go(thing, holder), unit):
            thing.leases.pop(holder, None)
            self.model.claimed(thing)

    @rule(which=WHICH, asked=st.sampled_from(("lifetime", "lease", "hold")))
    def claim_what_is_erased(self, which: int, asked: str) -> None:
        object_id, thing = self.thing(which, gone=True)
        scope = Scope(thing.session, object_id)
        units: dict[str, Unit[Any]] = {
            "lifetime": partial(change_lifetime, object_id=object_id, lifetime_s=None),
            "lease": partial(renew_lease, object_id=object_id, holder="u", for_s=1),
            "hold": partial(place_hold, scope=scope, hold_id=new_random_id(), who="w", why="y"),
        }
        with pytest.raises(Erased):
            self.run(units[asked])

    @rule(which=WHICH, on_session=st.booleans())
    def hold(self, which: int, on_session: bool) -> None:
        object_id, thing = self.thing(which)
        scope = Scope(thing.session, "" if on_session else object_id)
        hold_id = new_random_id()
        self.run(partial(place_hold, scope=scope, hold_id=hold_id, who="the court", why="case 7"))
        self.holds.append((scope, hold_id))
        self.held_of(scope).add(hold_id)

    @precondition(lambda self: self.holds)
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        """Also one that was released before, which changes nothing."""
        scope, hold_id = self.holds[which % len(self.holds)]
        self.run(partial(release_hold, scope=scope, hold_id=hold_id, who="w", why="it is over"))
        self.held_of(scope).discard(hold_id)

    def held_of(self, scope: Scope) -> set[str]:
        if scope.object_id:
            return self.model.things[scope.object_id].holds
        return self.model.session_holds[scope.session_id]

    @rule(which=WHICH)
    def erase(self, which: int) -> None:
        object_id, thing = self.thing(which, gone=None)
        why = None if thing.gone else self.model.refuses_erasure(thing)
        if not self.refused(why, partial(erase, object_id=object_id)):
            self.model.erased(thing)

    # Clocks.

    @rule(seconds=st.sampled_from((1, 20, 90, 700)))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds * S
        self.model.steady += seconds * S

    @rule(seconds=st.sampled_from((30, 700, 5000, -30, -700, -5000)))
    def the_clock_is_set(self, seconds: int) -> None:
        self.model.now += seconds * S

    @rule()
    def restart(self) -> None:
        """The process that sweeps ends, and another one begins: it has seen no time pass."""

        async def erase_one(object_id: str) -> Manifest | None:
            return await self.catalog.run(partial(erase_expired, object_id=object_id))

        self.sweep = Sweep(
            catalog=self.catalog,
            erase_expired=erase_one,
            share=SHARE,
            leap_s=LEAP_S,
            interval_s=1.0,
            clock=lambda: self.model.steady / S,
        )
        self.model.anchor = None

    # Sweeps.

    @rule(confirm=st.sampled_from((0, 0, 0, 1, 100)))
    def sweep_all(self, confirm: int) -> None:
        if self.is_partial:
            assert self._turn(1000, confirm, exactly=False).ended
        assert self._turn(1000, confirm, exactly=True).ended
        self.is_partial = False

    @rule(seconds=st.sampled_from((90, 700, 5000)), confirm=st.sampled_from((0, 0, 100)))
    def leap_and_go_back(self, seconds: int, confirm: int) -> None:
        self.sweep_all(confirm)
        self.the_clock_is_set(seconds)
        self.sweep_all(confirm)
        self.the_clock_is_set(-seconds)
        self.sweep_all(confirm)

    @rule(seconds=st.sampled_from((20, 90, 700)))
    def sweep_again_and_again(self, seconds: int) -> None:
        """As it is, nearly always: what is due goes when it is due."""
        for _ in range(2):
            self.sweep_all(100)
            self.time_passes(seconds)
        self.sweep_all(0)

    @rule(limit=st.integers(1, 3))
    def sweep_a_part(self, limit: int) -> None:
        self.is_partial = not self._turn(limit, 0, exactly=False).ended

    def _turn(self, limit: int, confirm: int, *, exactly: bool) -> SweepReport:
        model = self.model
        report = self.runner.run(self.sweep.run_once(limit, confirm=confirm))
        clock = model.judge()
        goes, ripe = model.goes(clock, confirm), model.ripe
        assert (clock == "behind", clock == "leapt") == (report.clock_behind, report.clock_leapt)
        assert report.braked == (ripe if clock == "leapt" and not goes else 0)
        self._compare(goes=goes, exactly=exactly)
        if clock == "leapt" and not confirm:
            assert report.expired + report.erased <= 2 * (model.living() + report.erased) // 2
        if exactly and (goes or clock == "behind"):
            model.swept = model.now
        swept = self.run(look_at_time).swept_ms
        assert not exactly or model.swept == swept
        model.swept = swept
        return report

    def _compare(self, *, goes: bool, exactly: bool) -> None:
        """Look what a turn did; nothing may have been done that the model does not allow."""
        model, rows = self.model, self._rows()
        revivable, due = model.revivable(), model.due() if goes else set()
        at_once = {n for n in due if model.things[n].terms[3] == 0}
        erasable = model.erasable() | at_once if goes else set()
        revived, expired, erased = set[str](), set[str](), set[str]()
        for name, thing in model.things.items():
            row = rows[name]
            if thing.gone:
                continue
            if row.state != "committed":
                erased.add(name)
                model.erased(thing)
            elif thing.expired is None and row.expired_ms is not None:
                expired.add(name)
                thing.expired = model.now
                thing.erase_after = model.now + thing.terms[3] * S
            elif thing.expired is not None and row.expired_ms is None:
                revived.add(name)
                thing.expired = thing.erase_after = None
        assert revived <= revivable
        assert expired <= due
        assert erased <= erasable
        if exactly:
            assert (revived, expired, erased) == (revivable, due - at_once, erasable)

    # What must be.

    def _rows(self) -> dict[str, Any]:
        rows = self.catalog.read_blocking(lambda c: c.execute(select(objects)).all())
        return {row.object_id: row for row in rows}

    @invariant()
    def every_row_is_as_the_model_says(self) -> None:
        rows = self._rows()
        assert {*rows} == {*self.model.things}
        for name, thing in self.model.things.items():
            row = rows[name]
            if thing.gone:
                assert (row.state, row.head) == ("erasing", None), "what is erased stays so"
                continue
            assert ("committed", b"head") == (row.state, row.head), (
                "what is claimed, or held, stays"
            )
            found = (row.keep_until_ms, row.expires_ms, row.expired_ms, row.erase_after_ms)
            assert (thing.keep, thing.end, thing.expired, thing.erase_after) == found
            assert len(thing.holds) == row.holds

    @invariant()
    def sessions_count_their_holds(self) -> None:
        query = select(sessions.c.session_id, sessions.c.holds)
        found = self.catalog.read_blocking(lambda c: c.execute(query).all())
        held = {name: len(holds) for name, holds in self.model.session_holds.items()}
        assert held == {row.session_id: row.holds for row in found}

    def teardown(self) -> None:
        self.runner.close()
        self.catalog.close()
