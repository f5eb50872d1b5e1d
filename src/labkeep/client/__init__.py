"""The Python client: typed resources, and tracking for training code. Public names are in `labkeep` itself.

Layers, each over the one before: `transport` carries requests, `_async` and `_sync` give them meaning, `spool` keeps
what could not be sent, `tracking` turns ``run.log`` into batches, `api` reads it all back.
"""
