"""Run by Alembic: applies the files in ``versions`` on the connection that it is given."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
