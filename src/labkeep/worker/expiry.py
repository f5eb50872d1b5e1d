"""By the clock: trash versions that were wanted for a time only, and remove drafts that nobody commits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from labkeep.core.access import Actor
from labkeep.core.errors import LabkeepError
from labkeep.operations import Store, expiry
from labkeep.operations.expiry import Discard, Due, Until
from labkeep.operations.purges import system
from labkeep.storage.transaction import Tx
from labkeep.worker.jobs import NOBODY

log = logging.getLogger("labkeep.worker")

DRAFT_AGE = timedelta(days=7)
"""After so long without a file a draft counts as given up: links to fill it end after a day."""


def trash_expired(store: Store) -> None:
    """Trash what is due. What a hold, a lock or an alias keeps stays, and is tried again the next time."""
    for due in _each(store, expiry.expired, store.database.clock()):
        try:
            store.database.write(expiry.trash_expired, _actor(due), due.id)
        except LabkeepError as error:
            log.info("artifact version %s is past its time to live and stays: %s", due.id, error.message)


def drop_drafts(store: Store) -> None:
    """Remove drafts that were given up; their blobs are swept when nothing else refers to them."""
    before = store.database.clock() - DRAFT_AGE
    for due in _each(store, expiry.abandoned, before):
        store.database.write(expiry.discard, _actor(due), Discard(due.id, before))


def _each(store: Store, operation: Callable[[Tx, Actor, Until], list[Due]], moment: datetime) -> Iterator[Due]:
    after = expiry.FIRST
    while found := store.database.read(operation, NOBODY, Until(moment, after)):
        yield from found
        after = found[-1].id


def _actor(due: Due) -> Actor:
    return system(due.organization_id, due.workspace_id)
