"""What a process keeps in memory of keys: the master keys, the data keys that were used lately, and where encryption is
asked for.

What is remembered counts for `FRESH_S` seconds and is then looked up again. So a key that another process destroyed is
in no process's memory for longer than that, and a project that is told to encrypt is obeyed everywhere after as long.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from labkeep.core.errors import Corrupt, Unavailable
from labkeep.storage.cipher import Cipher
from labkeep.storage.master_key import MasterKey

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FRESH_S = 5.0
"""How long something counts that another process may have changed."""

KEYS = 4_096
"""Data keys in memory at the most."""

PROJECTS = 16_384
"""Projects of which is remembered whether they encrypt, at the most."""


class Recent(Generic[K, V]):
    """The values that were used last, for a bounded time. For any thread."""

    def __init__(self, limit: int, fresh_s: float = FRESH_S) -> None:
        self._limit, self._fresh_s = limit, fresh_s
        self._kept: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """What is remembered; None when nothing is, or for too long."""
        found = self._kept.get(key)
        if found is None or found[1] < time.monotonic():
            return None
        return found[0]

    def put(self, key: K, value: V) -> None:
        """Remember, and forget what was put first when that is too much."""
        with self._lock:
            self._kept[key] = (value, time.monotonic() + self._fresh_s)
            self._kept.move_to_end(key)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)

    def forget(self, keys: Iterable[K]) -> None:
        """Forget these."""
        with self._lock:
            for key in keys:
                self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)


class Vault:
    """The keys of one open database. Without master keys it opens nothing and closes nothing."""

    def __init__(self) -> None:
        self._masters: dict[str, MasterKey] = {}
        self.ciphers: Recent[tuple[str, str], Cipher] = Recent(KEYS)
        """By organization and owner."""
        self.encrypting: Recent[str, bool] = Recent(PROJECTS)
        """By project: whether its contents are encrypted."""

    def admit(self, *masters: MasterKey | None) -> None:
        """Let these master keys open data keys."""
        self._masters.update((key.id, key) for key in masters if key is not None)

    def master(self, id: str) -> MasterKey:
        """The master key that wrapped a data key. Unavailable when the settings do not give it."""
        try:
            return self._masters[id]
        except KeyError:
            here = ", ".join(sorted(self._masters)) or "none"
            raise Unavailable(
                f"this needs master key {id}, and the server has {here}: set master_key_file to the file that holds it, "
                "or old_master_key_file after a change of keys, and start again",
                master=id,
            ) from None

    def unwrap(self, wrapped: bytes, context: str, first: MasterKey | None) -> bytes:
        """What any of the master keys here wrapped. Corrupt when none of them did, Unavailable when there are none."""
        masters = {key.id: key for key in (first, *self._masters.values()) if key is not None}
        refused: Corrupt | None = None
        for master in masters.values():
            try:
                return master.unwrap(wrapped, context)
            except Corrupt as error:
                refused = refused or error
        raise refused or Unavailable(f"the {context} is wrapped under a master key, and this server has none")

    def forget(self) -> None:
        """Forget what may never have been: a commit failed."""
        self.ciphers.clear()
        self.encrypting.clear()
