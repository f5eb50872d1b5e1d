"""``run.config`` and ``run.summary``: mappings that know what of them the server has not heard yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from labkeep.client import repairs


class Tracked(MutableMapping[str, Any]):
    """A mapping with string keys. ``changes`` are the keys that were set or removed since it was last asked."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})
        self._changed: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[str(key)] = value
        self._changed.add(str(key))

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._changed.add(key)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """A copy."""
        return dict(self)

    def changes(self) -> dict[str, Any]:
        """What is new, in JSON's own types; None for what was removed."""
        changed = []
        while self._changed:  # one by one: the training thread may be adding to it
            changed.append(self._changed.pop())
        return plain_copy({key: self._values.get(key) for key in sorted(changed)})


class Config(Tracked):
    """What the run was given. Read and set values by key or by attribute."""

    def update(self, values: Any = (), /, **more: Any) -> None:
        """Set several: from a mapping, pairs, a dataclass, or a namespace as argparse makes it."""
        super().update(as_mapping(values), **more)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}; it has {', '.join(self) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value


class Summary(Tracked):
    """What the run came to: the last value of everything that was logged, and what was set. What was set wins."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(values)
        self._logged: dict[str, Any] = {}
        self._sent: dict[str, Any] = {}

    def note(self, row: Mapping[str, Any]) -> None:
        """A row was logged."""
        self._logged.update(row)

    def __getitem__(self, key: str) -> Any:
        return self._values[key] if key in self._values else self._logged[key]

    def __delitem__(self, key: str) -> None:
        known = self._values.pop(key, _ABSENT), self._logged.pop(key, _ABSENT)
        if known == (_ABSENT, _ABSENT):
            raise KeyError(key)
        self._sent.pop(key, None)
        self._changed.add(key)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._logged, **self._values})

    def __len__(self) -> int:
        return len({**self._logged, **self._values})

    def changes(self) -> dict[str, Any]:
        """What is new since the last time, whether it was logged or set."""
        changes = super().changes()
        for key, value in self._logged.copy().items():
            if key not in self._values and self._sent.get(key, _ABSENT) is not value:
                self._sent[key] = value
                changes.update(plain_copy({key: value}))
        return changes


def plain_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as any server takes them; see `labkeep.client.repairs`."""
    copy: dict[str, Any] = repairs.sendable(repairs.plain_values(values))
    return copy


def as_mapping(values: Any) -> Mapping[str, Any]:
    """A config in any of the forms in which people have theirs."""
    if values is None:
        return {}
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return dataclasses.asdict(values)
    if isinstance(values, Mapping):
        return {str(key): value for key, value in values.items()}
    return dict(values) if isinstance(values, list | tuple | Iterator) else dict(vars(values))


_ABSENT: Any = object()
