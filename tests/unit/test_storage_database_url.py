"""Goal: the URL of a catalog means what libpq means by it, and its password is never shown.

Method: a table of URLs and the parameters that the driver is given; a table of faults, each with a
password in it, which no error may repeat; Hypothesis for what must be percent-encoded.
"""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_gateway.database_url import parse_database_url


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("postgresql://db/c", {"host": "db", "dbname": "c"}),
        ("postgres://u@db:5433/c", {"user": "u", "host": "db", "port": 5433, "dbname": "c"}),
        ("postgresql://u%40x:p%3A@[::1]/c", {"user": "u@x", "password": "p:", "host": "::1"}),
        ("postgresql:///c?host=/run/postgresql", {"host": "/run/postgresql", "dbname": "c"}),
        ("postgresql://db/c?sslmode=verify-full&port=1,2", {"sslmode": "verify-full"}),
        ("postgresql://%2Frun%2Fpg/c", {"host": "/run/pg"}),
    ],
)
def test_a_url_means_what_libpq_means_by_it(text: str, parameters: dict[str, object]) -> None:
    found = parse_database_url(text)

    assert parameters.items() <= found.expose().items()
    assert found == parse_database_url(found.expose_url())


@pytest.mark.parametrize(
    "text",
    [
        "geheim",
        "mysql://u:geheim@db/c",
        "postgresql://u:geheim@db",
        "postgresql://u:geheim@db/c/d",
        "postgresql://u:geheim@/c",
        "postgresql://u:geheim/x@db/c",
        "postgresql://u:12/geheim@db",
        "postgresql://u:/geheim@db?sslmode=require",
        "postgresql://u:geheim%00@db/c",
        "postgresql://u%00:geheim@db/c",
        "postgresql://u:geheim#x@db/c",
        "postgresql://u:geheim?x@db/c",
        "postgresql://u:x[geheim@db/c",
        "postgresql://u@db:geheim/c",
        "postgresql://u@db/c?password=geheim",
        "postgresql://u@db/c?sslpassword=geheim",
        "postgresql://u@db/c?geheim",
    ],
)
def test_a_fault_is_refused_and_no_part_of_it_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|malformed|unknown|after|@|NUL") as caught:
        parse_database_url(text)

    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(st.characters(min_codepoint=1, max_codepoint=0x24F), min_size=1))
def test_any_password_comes_through_and_is_not_shown(password: str) -> None:
    secret = f"geheim{password}"
    found = parse_database_url(f"postgresql://u:{quote(secret, safe='')}@db/c")

    assert secret == found.expose()["password"]
    assert "geheim" not in repr(found) + str(found)
    assert found == parse_database_url(found.expose_url())
    assert found == parse_database_url("postgresql://u@db/c").with_password(secret)


@pytest.mark.parametrize("given", ["", "?options=-c%20search_path%3Dtheirs"])
def test_a_schema_is_asked_for_after_all_that_the_url_asks_for(given: str) -> None:
    found = parse_database_url(f"postgresql://u:geheim@db/c{given}").with_schema("stress_a2")

    assert str(found.expose()["options"]).endswith("-c search_path=stress_a2")
    assert bool(given) == ("theirs" in str(found.expose()["options"]))
    assert found.expose() == parse_database_url(found.expose_url()).expose()
    assert "postgresql://u@db/c (schema stress_a2)" == str(found)
    assert "stress_a2" == found.with_password("x").schema


@pytest.mark.parametrize("name", ["", "a b", "a\\", "A", "1a", "a,public", "a" * 64])
def test_a_schema_that_would_need_quotes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a-z"):
        parse_database_url("postgresql://u@db/c").with_schema(name)


def test_a_password_at_which_libpq_would_stop_reading_is_refused() -> None:
    """It would then know no host, and bring what it read to whoever listens on this machine."""
    with pytest.raises(ValueError, match="NUL") as caught:
        parse_database_url("postgresql://u@db/c").with_password("geheim\0")

    assert "geheim" not in str(caught.value)
