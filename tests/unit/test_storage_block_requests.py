"""Goal: whatever a URL or a header holds, a request for a block is read as the specifications say,
or refused by an error of ours, and what goes into an answer's headers is harmless.

Method: ranges against the bytes that they would cut out; any text, by Hypothesis, as filename and
as Accept.
"""

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from storage_gateway.api.block_requests import Asked, EntityBytes, Format, asked_of, range_of
from storage_gateway.block_errors import FormatNotServed, RangeNotSatisfiable
from storage_gateway.errors import GatewayError, InvalidRequest

SIZES = st.integers(0, 20)
NUMBERS = st.integers(-25, 25)
CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


def asked(query: dict[str, str], accept: str | None = None) -> Asked:
    url = URL(f"/ipfs/{CID}").with_query(query)
    headers = CIMultiDict() if accept is None else CIMultiDict(Accept=accept)
    return asked_of(make_mocked_request("GET", str(url), headers=headers))


@given(size=SIZES, first=st.integers(0, 25), last=st.none() | st.integers(0, 25))
def test_a_range_is_the_bytes_that_it_names(size: int, first: int, last: int | None) -> None:
    content = bytes(range(size))
    header = f"bytes={first}-{'' if last is None else last}"
    try:
        span = range_of(header, size)
    except RangeNotSatisfiable:
        assert first >= size
        return
    if last is not None and last < first:
        assert span is None
    else:
        assert span is not None
        expected = content[first:] if last is None else content[first : last + 1]
        assert expected == content[span.first : span.last + 1]
        assert 0 <= span.first <= span.last < size


@given(size=SIZES, count=st.integers(0, 25))
def test_a_suffix_is_the_last_bytes(size: int, count: int) -> None:
    content = bytes(range(size))
    try:
        span = range_of(f"bytes=-{count}", size)
    except RangeNotSatisfiable:
        assert 0 in (size, count)
        return
    assert span is not None
    assert content[-count:] == content[span.first : span.last + 1]


@given(header=st.text(max_size=30))
def test_any_other_range_header_is_no_error(header: str) -> None:
    assert range_of(header, 1 << 62) is None or header.strip().startswith("bytes=")


@given(size=st.integers(1, 20), first=NUMBERS, last=st.none() | NUMBERS)
def test_entity_bytes_are_the_bytes_that_they_name(size: int, first: int, last: int | None) -> None:
    """A position counts from the end where it is negative; each is looked at by itself."""
    begin = first + size if first < 0 else first
    end = size - 1 if last is None else last + size if last < 0 else last
    named = [at for at in range(size) if begin <= at <= end]
    try:
        span = EntityBytes(first, last).of(size)
    except InvalidRequest:
        assert begin >= size or end < 0
        return
    found = [] if span is None else list(range(span.first, span.last + 1))
    assert named == found


@given(filename=st.text(min_size=1, max_size=255))
def test_a_filename_cannot_break_out_of_its_header(filename: str) -> None:
    shown = asked({"format": "raw", "filename": filename}).disposition(CID)

    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith('attachment; filename="')
    assert 2 == shown.count('"')


@given(accept=st.text(max_size=80), query=st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_whatever_is_asked_is_read_or_refused(accept: str, query: dict[str, str]) -> None:
    try:
        read = asked(query | {"filename": accept}, f"{accept}, application/vnd.ipld.car;{accept}")
    except GatewayError:
        return
    for shown in (read.content_type, read.etag(CID), read.query or "", read.disposition(CID)):
        assert shown.isascii()
        assert shown.isprintable()


@pytest.mark.parametrize(
    ("accept", "again"),
    [
        ("application/vnd.ipld.car;dups=y", True),
        ("application/vnd.ipld.car; DUPS = Y", True),
        ("application/vnd.ipld.car;dups=y;q=0.1, application/vnd.ipld.car;dups=n", False),
        ("application/vnd.ipld.car;dups=", False),
        ("application/vnd.ipld.car;dups=y;more=what", True),
    ],
)
def test_parameters_are_read_from_the_range_that_is_chosen(accept: str, again: bool) -> None:
    read = asked({}, accept)

    assert (Format.CAR, again) == (read.format, read.again)


def test_nothing_is_guessed() -> None:
    for accept, error in ((None, InvalidRequest), ("", InvalidRequest), ("*/*", FormatNotServed)):
        with pytest.raises(error):
            asked({}, accept)
