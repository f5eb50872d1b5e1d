"""Runs migrations on the connection that `labkeep.storage.schema` hands in."""

from alembic import context

from labkeep.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
