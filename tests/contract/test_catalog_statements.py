"""Goal: a statement that is compiled once answers what SQLAlchemy's own execution answers.

Method: on both databases rows of every type of column are written and read both ways.
"""

import pytest
from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.statements import Statement
from storage_gateway.catalog.tables import markers, stress_runs, tokens

TOKEN = {
    "digest": b"\x00\xff not text",
    "kind": "user",
    "session_id": "s",
    "miner": "",
    "created_ms": 2**40,
    "expires_ms": None,
}
RUN = {
    "run_id": "r",
    "case_name": "c",
    "seed": 2**62,
    "parameters": {"b": [1, None, "ü"], "a": {}},
    "state": "running",
    "stop_asked": 0,
    "instance_id": "i",
    "children": [],
    "progress": {},
    "report": None,
    "created_ms": 0,
}


@pytest.mark.both_databases
def test_rows_come_back_as_they_do_from_sqlalchemy(catalog: Catalog) -> None:
    def unit(connection: Connection) -> None:
        for table, row in ((tokens, TOKEN), (stress_runs, RUN)):
            Statement(insert(table)).run(connection, row)
            expected = connection.execute(select(table)).all()
            found = Statement(select(table)).run(connection)

            assert [tuple(each) for each in expected] == [tuple(each) for each in found]
            assert row == {name: getattr(found.first(), name) for name in row}

    catalog.run_blocking(unit)


@pytest.mark.both_databases
def test_changes_are_counted_and_what_is_fixed_in_a_statement_stays(catalog: Catalog) -> None:
    touch = Statement(
        update(markers)
        .where(markers.c.backend == bindparam("backend_is"), markers.c.created_ms == 1)
        .values(created_ms=bindparam("now_ms"))
    )
    take = Statement(delete(markers).returning(markers.c.created_ms))
    add = Statement(insert(markers))

    def unit(connection: Connection) -> None:
        for name, created_ms in (("a", 1), ("b", 1), ("c", 2)):
            add.run(connection, {"backend": name, "created_ms": created_ms})

        assert 1 == touch.run(connection, {"backend_is": "a", "now_ms": 5}).changed
        assert 0 == touch.run(connection, {"backend_is": "c", "now_ms": 5}).changed
        assert [1, 2, 5] == sorted(row.created_ms for row in take.run(connection))
        assert take.run(connection).first() is None
        assert take.run(connection).value() is None

    catalog.run_blocking(unit)


@pytest.mark.both_databases
def test_one_insert_takes_other_columns_another_time(catalog: Catalog) -> None:
    add = Statement(insert(tokens))

    def unit(connection: Connection) -> None:
        add.run(connection, TOKEN)
        add.run(connection, TOKEN | {"digest": b"2", "revoked_ms": 7})
        found = connection.execute(select(tokens.c.revoked_ms).order_by(tokens.c.created_ms))

        assert {None, 7} == set(found.scalars())

    catalog.run_blocking(unit)


@pytest.mark.both_databases
def test_a_refusal_is_sqlalchemys_and_tells_no_value(catalog: Catalog) -> None:
    add = Statement(insert(markers))

    def unit(connection: Connection) -> None:
        row = {"backend": "hidden-value", "created_ms": 1}
        add.run(connection, row)
        with pytest.raises(IntegrityError) as caught, connection.begin_nested():
            add.run(connection, row)

        # PostgreSQL's own words quote a row: the catalog never shows those.
        assert "hidden-value" not in str(caught.value).partition("DETAIL")[0]
        raise _Enough

    with pytest.raises(_Enough):
        catalog.run_blocking(unit)


class _Enough(Exception):
    """Ends a unit whose transaction is of no use any more."""


def test_a_parameter_that_the_statement_does_not_have_is_refused(catalog: Catalog) -> None:
    find = Statement(select(markers).where(markers.c.backend == bindparam("backend_is")))

    with pytest.raises(TypeError, match=r"\['backend_i'\]"):
        catalog.run_blocking(lambda c: find.run(c, {"backend_is": "a", "backend_i": "b"}))


def test_a_list_in_a_statement_is_refused(catalog: Catalog) -> None:
    some = Statement(select(markers).where(markers.c.backend.in_(bindparam("names"))))

    with pytest.raises(TypeError, match="a list"):
        catalog.run_blocking(lambda c: some.run(c, {"names": ["a"]}))
