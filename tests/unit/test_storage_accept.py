"""Goal: nobody gets plaintext who did not ask for it by name, and Accept is read as RFC 9110 says.

Method: a table over the two representations, then Hypothesis against the rule written out.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_gateway.api.representations import PLAINTEXT_TYPE, SEALED_TYPE, preferred
from storage_gateway.errors import NotAcceptable
from storage_gateway.times import timestamp

OFFERED = (SEALED_TYPE, PLAINTEXT_TYPE)
SEALED, PLAIN, NEITHER = SEALED_TYPE, PLAINTEXT_TYPE, None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, SEALED),
        ("", SEALED),
        ("*/*", SEALED),
        ("application/*", SEALED),
        ("*/*;q=0.1", SEALED),
        ("application/age", SEALED),
        ("APPLICATION/AGE", SEALED),
        ("application/octet-stream", PLAIN),
        ("Application/Octet-Stream", PLAIN),
        (" application/octet-stream ; q=1.0 ", PLAIN),
        ("application/octet-stream, */*", PLAIN),
        ("*/*, application/octet-stream", PLAIN),
        ("application/octet-stream;q=0.9, application/age", SEALED),
        ("application/octet-stream;q=0.5, */*;q=0.1", PLAIN),
        ("application/octet-stream;q=0.1, */*;q=0.5", SEALED),
        ("application/octet-stream, application/age", SEALED),
        ("application/age;q=0, */*", PLAIN),
        ("application/age;q=0, application/*;q=0.3", PLAIN),
        ("application/octet-stream;q=0, */*", SEALED),
        ("text/html", NEITHER),
        ("text/*", NEITHER),
        ("application/age;q=0", NEITHER),
        ("*/*;q=0", NEITHER),
        ("text/html, application/xhtml+xml, */*;q=0.8", SEALED),
        ("application/octet-stream;q=nan", NEITHER),
        ("application/octet-stream;q=high", NEITHER),
        ("application/octet-stream;q=7", PLAIN),
        ("application/octet-stream;q=-1", NEITHER),
        ("application/octet-stream-not", NEITHER),
        ("octet-stream", NEITHER),
    ],
)
def test_the_table(accept: str | None, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(NotAcceptable):
            preferred(accept, OFFERED)
    else:
        assert expected == preferred(accept, OFFERED)


@given(st.text(max_size=80))
def test_plaintext_is_never_chosen_unless_it_is_named_or_the_sealed_form_is_not_wanted(
    accept: str,
) -> None:
    try:
        chosen = preferred(accept, OFFERED)
    except NotAcceptable:
        return
    named = PLAINTEXT_TYPE in accept.lower() or SEALED_TYPE in accept.lower()
    assert SEALED == chosen or named


QUALITIES = ["", ";q=0", ";q=0.001", ";q=0.5", ";q=0.999", ";q=1"]
RANGES = ["*/*", "application/*", SEALED_TYPE, PLAINTEXT_TYPE, "text/plain"]


def _reference(ranges: list[tuple[str, str]]) -> set[str]:
    """Every representation of the best quality, by the RFC's rule."""
    best: dict[str, float] = {}
    for kind in OFFERED:
        for pattern in (kind, "application/*", "*/*"):
            found = [float(q.removeprefix(";q=") or 1) for name, q in ranges if name == pattern]
            if found:
                best[kind] = max(found)
                break
    wanted = {kind: quality for kind, quality in best.items() if quality > 0}
    return {kind for kind in wanted if wanted[kind] == max(wanted.values())}


@given(
    st.lists(st.tuples(st.sampled_from(RANGES), st.sampled_from(QUALITIES)), min_size=1, max_size=5)
)
def test_the_choice_is_one_of_the_best(ranges: list[tuple[str, str]]) -> None:
    accept = ", ".join(name + quality for name, quality in ranges)
    best = _reference(ranges)

    if best:
        assert preferred(accept, OFFERED) in best
    else:
        with pytest.raises(NotAcceptable):
            preferred(accept, OFFERED)


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_001, "2023-11-14T22:13:20.001Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),  # beyond 32 bits of seconds
    ],
)
def test_times_are_rfc_3339_in_utc(ms: int, expected: str) -> None:
    assert expected == timestamp(ms)
