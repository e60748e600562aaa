"""Every error that the gateway can answer with, provoked over a socket and seen as its problem.

All subclasses of `GatewayError` are walked: a new one without an entry in `provocations` fails.
Finer cases of each are in the other files of this folder.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage_gateway import errors
from storage_gateway.backends.ipfs_gateway import _Absent
from storage_gateway.errors import GatewayError
from storage_gateway.late import CommitPending
from storage_gateway.stress.errors import SchemaRefused
from tests.gateway import RunningGateway, leftovers, open_session, running_gateway
from tests.http.provocations import BODY_BYTES_MAX, LIMITS, TABLE, UNEXPECTED

NEVER_ANSWERED: dict[type[GatewayError], str] = {
    errors.ObjectChanged: "a job counts what changed meanwhile: storage_gateway/reseal.py",
    errors.GatewayError: "the root; only its subclasses are raised",
    _Absent: "only between the client of a gateway of IPFS and what counts its failures",
    errors.RequestError: "groups what the caller must change; only its subclasses are raised",
    errors.ServiceError: "groups what may pass; only its subclasses are raised",
    errors.CatalogBehind: "only to passes that would destroy something: they stop, and say so",
}
PROVOKED_ELSEWHERE: dict[type[GatewayError], str] = {
    errors.KeyProviderUnavailable: "takes a key provider: tests/http/test_key_providers.py",
    errors.CopiesLate: "takes a store without copies: tests/http/test_manifest_copies.py",
    **dict.fromkeys(
        (
            errors.StaleKeyReader,
            errors.StaleKeyWriter,
            errors.KeyDisabled,
            errors.KeyNotYours,
            errors.PartyRemoved,
            errors.KeyExists,
            errors.KeyUnproven,
            errors.KeyStateSkipped,
            errors.KeyDwelling,
            errors.KeyInUse,
            errors.NoKeyOfClass,
        ),
        "take keys of several versions: tests/http/test_keys.py",
    ),
    **dict.fromkeys(
        (
            errors.BlindCustody,
            errors.HeaderMismatch,
            errors.NotBlind,
            errors.ReservationExpired,
            errors.ReservationUsed,
            errors.StaleReservation,
            errors.UnknownReservation,
        ),
        "take a session of blind custody: tests/http/test_blind.py",
    ),
    **dict.fromkeys(
        (errors.GenerationMismatch, errors.PreconditionRequired),
        "take headers of blind custody: tests/http/test_blind_headers.py",
    ),
    **dict.fromkeys(
        (errors.Expired, errors.LifetimeTooLong, errors.LifetimeTooShort),
        "take policies: tests/http/test_lifetimes.py, test_leases.py, test_expired.py",
    ),
    **dict.fromkeys(
        (errors.Held, errors.NoSuchHold, errors.Retained), "take claims: tests/http/test_holds.py"
    ),
    errors.UnknownJob: "tests/http/test_jobs.py",
    errors.TooManyJobs: "takes jobs that do not end: tests/http/test_jobs.py",
    SchemaRefused: "takes a database role without a right: tests/stress/test_postgres.py",
}
LEAVES_WORK: dict[type[GatewayError], str] = {
    CommitPending: "the upload that is pending may not have ended yet",
    errors.SlotBusy: "the upload that holds the slot may not have ended yet",
}


@pytest.fixture
async def small(tmp_path: Path, kind: type[GatewayError]) -> AsyncIterator[RunningGateway]:
    settings = {"object_bytes_max": BODY_BYTES_MAX, "enable_stress": True, "serve_ipfs": True}
    async with running_gateway(tmp_path, **settings | LIMITS.get(kind, {})) as running:
        yield running


def _all_kinds() -> list[type[GatewayError]]:
    found: list[type[GatewayError]] = [GatewayError]
    for kind in found:
        found += [below for below in kind.__subclasses__() if below not in found]
    return found


def test_every_error_has_an_entry() -> None:
    kinds = _all_kinds()

    assert len(kinds) > 30
    others = NEVER_ANSWERED | PROVOKED_ELSEWHERE
    assert set(kinds) == set(TABLE) | set(others)
    assert not set(TABLE) & set(others)


def test_every_error_says_what_to_do_under_a_code_of_its_own() -> None:
    answered = [*TABLE, *PROVOKED_ELSEWHERE]
    codes = [kind.code for kind in answered if kind is not errors.StaleReservation]
    # To the caller the same, but what is to be done about it.
    assert errors.StaleParties.code == errors.StaleReservation.code

    assert len(codes) == len(set(codes))
    for kind in answered:
        assert kind.code.replace("_", "").isalpha(), kind
        assert kind.code.islower(), kind
        assert kind.remedy.endswith("."), kind
        assert 400 <= kind.status <= 599, kind
        assert kind.retry_after_s is None or kind.status in {408, 409, 429, 503, 507}, kind


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
async def test_an_error_as_a_problem(small: RunningGateway, kind: type[GatewayError]) -> None:
    session = await open_session(small, "101")
    answer = await TABLE[kind](small, session)

    document = answer.problem(kind.status, kind.code)
    assert (kind.title, kind.remedy) == (document["title"], document["remedy"])
    retry = None if kind.retry_after_s is None else str(kind.retry_after_s)
    assert retry == answer.header("Retry-After")
    assert UNEXPECTED.encode() not in answer.body
    if kind not in LEAVES_WORK:
        assert [] == await leftovers(small.catalog, small.store)
