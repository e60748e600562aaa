"""Schemas of stress runs: the catalog of a run, in the database of the deployment's own.

A schema is there only while the row of its run says that the run is not over. It is made and
dropped in transactions that lock the row: who has lost a run makes no schema any more, and who
drops one waits for a transaction that is still about to make it.
"""

from sqlalchemy import Connection, Select, inspect, select, text
from sqlalchemy.schema import CreateSchema, DropSchema

from .stress_runs import RUNNING
from .tables import stress_runs

PREFIX = "stress_"


def schema_of_run(run_id: str) -> str:
    """Return the name of a run's schema."""
    return f"{PREFIX}{run_id}"


def may_make_schemas(connection: Connection) -> bool:
    """Tell whether our role has the right to make a schema in this database."""
    query = text("SELECT has_database_privilege(current_database(), 'CREATE')")
    return bool(connection.execute(query).scalar_one())


def make_schema_of_run(connection: Connection, run_id: str, instance_id: str) -> bool:
    """Make a run's schema, empty; False, and nothing is made, when the run is not this instance's
    any more.
    """
    ours = _locked(run_id).where(
        stress_runs.c.instance_id == instance_id, stress_runs.c.running == RUNNING
    )
    if connection.execute(ours).first() is None:
        return False
    connection.execute(CreateSchema(schema_of_run(run_id)))
    return True


def has_schema_of_run(connection: Connection, run_id: str) -> bool:
    """Tell whether a run's schema is there."""
    return inspect(connection).has_schema(schema_of_run(run_id))


def drop_schema_of_run(connection: Connection, run_id: str) -> None:
    """Drop a run's schema with all that is in it; without one, nothing is done."""
    connection.execute(_locked(run_id))
    connection.execute(DropSchema(schema_of_run(run_id), cascade=True, if_exists=True))


def _locked(run_id: str) -> Select[str]:
    query = select(stress_runs.c.run_id).where(stress_runs.c.run_id == run_id)
    return query.with_for_update()
