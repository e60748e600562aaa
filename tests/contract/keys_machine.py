"""A Hypothesis rule machine over the catalog's units on keys, against a small model."""

import os
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import Connection, delete

from crypto import CryptoError, X25519Identity, new_head, open_head
from storage_gateway.catalog import Unit, registry, rewrapping
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.objects import (
    Ownership,
    begin_upload,
    commit_upload,
    load_manifest,
)
from storage_gateway.catalog.registry import ROUTER_ITSELF, Holder
from storage_gateway.catalog.sessions import (
    NewToken,
    create_session,
    load_session,
    register_router,
)
from storage_gateway.catalog.tables import outbox
from storage_gateway.catalog.work import LEASE_S_MAX, renew_instance
from storage_gateway.catalog.wraps import take_census
from storage_gateway.drafts import recipients_of
from storage_gateway.errors import (
    KeyDwelling,
    KeyExists,
    KeyInUse,
    KeyStateSkipped,
    NotFound,
    StaleParties,
)
from storage_gateway.ids import new_random_id
from storage_gateway.key_states import KeyState
from storage_gateway.records import (
    INPUT,
    MINER,
    OUTPUT,
    Manifest,
    ObjectState,
    Party,
    Slot,
    TokenKind,
)
from storage_gateway.rewrap import _made_of, _wanted_by_place
from tests.databases import databases

from .key_model import DWELL, FOLLOWS, INSTANCE, MINERS, PARTIES, SESSION, Head, Key

T = TypeVar("T")


class Machine(RuleBasedStateMachine):
    """What may be done with keys, and what must then be."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.now_s = 1e6
        self.catalog = databases.open(folder, clock=lambda _: int(self.now_s * 1000))
        self.keys: dict[Holder, list[Key]] = {}
        self.removed: set[Holder] = set()
        self.heads: dict[str, Head] = {}
        self.due: set[str] = set()
        first = {holder: X25519Identity.generate() for holder in PARTIES}
        self.keys = {h: [Key(identity, "active", self.now_s)] for h, identity in first.items()}
        members = [Party(h.role, h.miner, 1, self.keys[h][0].recipient) for h in PARTIES[1:]]
        router = self.keys[ROUTER_ITSELF][0].recipient
        self.run(lambda c: register_router(c, router, "classic"))
        self.run(
            partial(
                create_session,
                session_id=SESSION,
                custody="router",
                key_class="classic",
                members=members,
                new_tokens=[],
                token_lifetime_s=1,
            )
        )

    def run(self, unit: Unit[T]) -> T:
        return self.catalog.run_blocking(unit)

    # What is asked of the model.

    def is_due(self) -> int:
        return len(self.due)

    def dependents(self, holder: Holder, version: int) -> int:
        return sum(head.is_for(holder, version) for head in self.heads.values())

    def wanted(self, parties: tuple[Party, ...]) -> tuple[Party, ...]:
        """Return for whom a head should be, that is for these."""
        found = []
        for party in parties:
            holder = self.holder_of(party)
            for version, key in enumerate(self.keys[holder], start=1):
                if key.state == "active":
                    found.append(Party(party.role, party.miner, version, key.recipient))
        return tuple(found)

    def holder_of(self, party: Party) -> Holder:
        (found,) = (h for h in PARTIES if (h.role, h.miner) == (party.role, party.miner))
        return found

    # What may happen.

    @rule(seconds=st.sampled_from((1.0, 150.0, 1500.0)))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(holder=st.sampled_from(PARTIES))
    def rotate(self, holder: Holder) -> None:
        identity = X25519Identity.generate()
        add = partial(
            registry.add_key,
            holder=holder,
            recipient=str(identity.recipient()),
            key_class="classic",
            proven=True,
        )
        if holder in self.removed:
            with pytest.raises(NotFound):
                self.run(add)
            return
        for key in self.keys[holder]:
            if key.state == "active":
                key.state, key.since_s = "retiring", self.now_s
        self.keys[holder].append(Key(identity, "active", self.now_s))
        assert len(self.keys[holder]) == self.run(add).version

    @rule(holder=st.sampled_from(PARTIES), which=st.integers(0, 9))
    def register_again(self, holder: Holder, which: int) -> None:
        version = which % len(self.keys[holder]) + 1
        key = self.keys[holder][version - 1]
        add = partial(
            registry.add_key,
            holder=holder,
            recipient=key.recipient,
            key_class="classic",
            proven=True,
        )
        if key.state == "active":
            assert version == self.run(add).version
        else:
            with pytest.raises((KeyExists, NotFound)):
                self.run(add)

    @rule(
        holder=st.sampled_from(PARTIES),
        which=st.integers(0, 9),
        state=st.sampled_from(("retiring", "disabled", "destroyed", "destroyed", "active")),
        urgent=st.booleans(),
    )
    def change_state(self, holder: Holder, which: int, state: str, urgent: bool) -> None:
        version = which % len(self.keys[holder]) + 1
        key = self.keys[holder][version - 1]
        expected = self._refusal(key, holder, version, state, urgent=urgent)
        change = partial(
            registry.change_state,
            holder=holder,
            version=version,
            wanted=KeyState(state),
            dwell=DWELL,
            urgent=urgent,
        )
        if expected is not None:
            with pytest.raises(expected):
                self.run(change)
            return
        assert state == self.run(change).state
        if key.state != state:
            key.state, key.since_s = state, self.now_s

    @rule(holder=st.sampled_from(PARTIES), which=st.integers(0, 9))
    def wear_out(self, holder: Holder, which: int) -> None:
        """All the way, which single steps seldom come to."""
        self.change_state(holder, which, "disabled", urgent=True)
        self.copies_come()
        self.time_passes(1500.0)
        self.change_state(holder, which, "destroyed", urgent=False)

    def _refusal(
        self, key: Key, holder: Holder, version: int, state: str, *, urgent: bool
    ) -> type[Exception] | None:
        if key.state == state:
            return None
        if (key.state, state) not in FOLLOWS:
            return KeyStateSkipped
        least = {"retiring": 100, "disabled": 1000}[key.state]
        waits = state == "destroyed" or (state == "disabled" and not urgent)
        if waits and self.now_s - key.since_s < least:
            return KeyDwelling
        if state == "destroyed" and self.dependents(holder, version) + self.is_due():
            return KeyInUse
        return None

    @rule(miner=st.sampled_from(PARTIES[2:]))
    def remove_miner(self, miner: Holder) -> None:
        self.run(partial(registry.remove_party, holder=miner))
        self.removed.add(miner)
        for key in self.keys[miner]:
            if key.state == "active":
                key.state, key.since_s = "retiring", self.now_s

    @rule(miner=st.sampled_from(PARTIES[2:]))
    def add_miner(self, miner: Holder) -> None:
        identity = X25519Identity.generate()
        add = partial(
            registry.add_miner,
            holder=miner,
            recipient=str(identity.recipient()),
            key_class="classic",
            token=NewToken(os.urandom(32), TokenKind.MINER, miner.miner),
            token_lifetime_s=1,
            miners_max=2,
        )
        if miner not in self.removed:
            with pytest.raises(KeyExists):
                self.run(add)
            return
        self.removed.discard(miner)
        self.keys[miner].append(Key(identity, "active", self.now_s))
        assert len(self.keys[miner]) == self.run(add).version

    @rule(miner=st.sampled_from((None, *MINERS)))
    def begin(self, miner: str | None) -> None:
        direction = OUTPUT if miner else INPUT
        session = self.catalog.read_blocking(lambda c: load_session(c, SESSION))
        if miner is not None and session.party(MINER, miner) is None:
            return
        object_id, payload_id = new_random_id(), new_random_id()
        slot = Slot(SESSION, f"t{len(self.heads)}", direction, miner)
        owner = Ownership(payload_id, INSTANCE, 1)
        parties = session.recipients_of(direction, miner)
        places = (h for h in PARTIES if h not in self.removed)
        meant = [Party(h.role, h.miner, 1, "") for h in places]
        expected = self.wanted(
            tuple(p for p in meant if p.role != MINER or miner in (None, p.miner))
        )
        assert set(expected) == set(parties)
        begin = partial(
            begin_upload, owner=owner, object_id=object_id, slot=slot, wrapped_for=parties
        )
        self.run(begin)
        self.heads[object_id] = Head(owner, slot, parties)

    @precondition(lambda self: any(head.state == "open" for head in self.heads.values()))
    @rule()
    def commit(self) -> None:
        object_id, head = next((i, h) for i, h in self.heads.items() if h.state == "open")
        context = head.slot.context(object_id, head.owner.payload_id, "classic")
        made = new_head(recipients_of(head.parties), context=context)
        manifest = Manifest(
            object_id=object_id,
            payload_id=head.owner.payload_id,
            slot=head.slot,
            state=ObjectState.COMMITTED,
            generation=1,
            key_class="classic",
            cid="c",
            size=0,
            payload_size=16,
            sealed_size=len(made.head) + 16,
            wrapped_for=head.parties,
            file_key_print=made.file_key_print,
            head=made.head,
            sequence=0,
            created_ms=0,
            backends=None,
        )

        def unit(connection: Connection) -> None:
            renew_instance(connection, INSTANCE, LEASE_S_MAX)
            commit_upload(connection, head.owner, manifest, placed=[], wanted=[])

        if set(self.wanted(head.parties)) != set(head.parties):
            with pytest.raises(StaleParties):
                self.run(unit)
            # It stays under way, as one whose process died, until recovery takes it up.
            self.heads[object_id] = self.heads.pop(object_id)
            return
        self.run(unit)
        head.state = "committed"
        self.due.add(object_id)

    @precondition(lambda self: any(head.state == "committed" for head in self.heads.values()))
    @rule(which=st.integers(0, 9))
    def erase(self, which: int) -> None:
        there = [i for i, head in self.heads.items() if head.state == "committed"]
        self._erase(there[which % len(there)])

    def _erase(self, object_id: str) -> None:
        self.run(partial(erase, object_id=object_id))
        self.heads[object_id].state = "erased"
        self.due.add(object_id)

    @rule(
        meanwhile=st.sampled_from(("nothing", "nothing", "erased", "done")), page=st.integers(1, 3)
    )
    def rewrap(self, meanwhile: str, page: int) -> None:
        """Once around; of the first page something changes between its reading and its writing."""
        identities = [key.identity for key in self.keys[ROUTER_ITSELF]]
        stale = self.catalog.read_blocking(lambda c: list(rewrapping.find_stale(c, SESSION)))
        for each in stale:
            assert each.wanted == self.wanted(each.wrap.parties)
            after = ""
            while found := self.catalog.read_blocking(
                partial(rewrapping.list_wrapped, wrap_id=each.wrap.wrap_id, after=after, limit=page)
            ):
                after = found[-1].object_id
                made = _made_of(found, _wanted_by_place(each), identities)
                heads = [head for head in made if isinstance(head, rewrapping.NewHead)]
                assert made == heads
                self._put(heads, meanwhile)
                meanwhile = "nothing"
        committed = [head for head in self.heads.values() if head.state == "committed"]
        assert [head.parties for head in committed] == [self.wanted(h.parties) for h in committed]

    def _put(self, heads: list[rewrapping.NewHead], meanwhile: str) -> None:
        put = partial(rewrapping.put_heads, heads=heads)
        came = heads
        if meanwhile == "erased":
            self._erase(heads[0].manifest.object_id)
            came = heads[1:]
        elif meanwhile == "done":
            assert len(heads) == self.run(put)
            assert 0 == self.run(put)
        if meanwhile != "done":
            assert len(came) == self.run(put)
        for head in came:
            self.heads[head.manifest.object_id].parties = head.wrapped_for
            self.due.add(head.manifest.object_id)

    @rule()
    def copies_come(self) -> None:
        self.run(lambda c: c.execute(delete(outbox)))
        self.due.clear()

    # What must be.

    @invariant()
    def versions_are_those_of_the_model(self) -> None:
        found = {}
        for scope in ("", SESSION):
            for key in self.catalog.read_blocking(partial(registry.list_keys, session_id=scope)):
                holder = Holder(key.session_id, key.role, key.miner)
                found[(holder, key.version)] = (key.recipient, key.state.value)
        assert found == {
            (holder, version): (key.recipient, key.state)
            for holder, keys in self.keys.items()
            for version, key in enumerate(keys, start=1)
        }
        for holder in PARTIES:
            active = [n for (h, n), (_, state) in found.items() if (h, state) == (holder, "active")]
            assert (0 if holder in self.removed else 1) == len(active)

    @invariant()
    def a_census_is_a_count_over_manifests(self) -> None:
        counted: dict[tuple[str, str | None, int], tuple[int, int]] = {}
        for wrap in self.catalog.read_blocking(lambda c: list(take_census(c, SESSION))):
            for party in wrap.parties:
                place = (party.role, party.miner, party.version)
                heads, uploads = counted.get(place, (0, 0))
                counted[place] = (heads + wrap.heads, uploads + wrap.uploads)
        expected: dict[tuple[str, str | None, int], tuple[int, int]] = {}
        for head in self.heads.values():
            if head.state == "erased":
                continue
            for party in head.parties:
                place = (party.role, party.miner, party.version)
                heads, uploads = expected.get(place, (0, 0))
                is_open = head.state == "open"
                expected[place] = (heads + (not is_open), uploads + is_open)
        assert expected == counted

    @invariant()
    def nothing_is_wrapped_for_a_key_that_is_destroyed(self) -> None:
        for holder, keys in self.keys.items():
            for version, key in enumerate(keys, start=1):
                if key.state == "destroyed":
                    assert 0 == self.dependents(holder, version)

    def teardown(self) -> None:
        try:
            for object_id, head in self.heads.items():
                if head.state == "committed":
                    self._opens_for_these_alone(object_id, head)
        finally:
            self.catalog.close()

    def _opens_for_these_alone(self, object_id: str, head: Head) -> None:
        manifest = self.catalog.read_blocking(partial(load_manifest, object_id=object_id))
        assert head.parties == manifest.wrapped_for
        mine = {party.recipient for party in head.parties}
        for keys in self.keys.values():
            for key in keys:
                try:
                    opened = open_head(manifest.head or b"", [key.identity])
                except CryptoError:
                    assert key.recipient not in mine
                else:
                    opened.check_context(manifest.context())
                    assert key.recipient in mine
