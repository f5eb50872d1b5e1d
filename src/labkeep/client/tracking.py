"""``labkeep.init`` and the run that is active: the API of training code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from labkeep.client.exits import at_exit
from labkeep.client.mappings import Config, Summary, as_mapping, plain_copy
from labkeep.client.run import Run, exit_code_of, live
from labkeep.client.starting import Wanted, begin
from labkeep.core.errors import Invalid, Refused

MODES = ("online", "offline", "disabled")
REINITS = {True: "finish_previous", False: "return_previous", None: "finish_previous"}
REINIT_WORDS = ("finish_previous", "return_previous", "create_new")
RESUMES: dict[Any, str] = {None: "never", False: "never", True: "allow", "auto": "allow"}
RESUME_WORDS = ("never", "allow", "must")

_current: Run | None = None
_hooked = False


def init(
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    job_type: str | None = None,
    tags: Sequence[str] | None = None,
    notes: str | None = None,
    group: str | None = None,
    id: str | None = None,
    resume: str | bool | None = None,
    dir: str | os.PathLike[str] | None = None,
    mode: str | None = None,
    reinit: str | bool | None = None,
    *,
    url: str | None = None,
    api_key: str | None = None,
    workspace: str | None = None,
    console: bool = False,
    quiet: bool | None = None,
) -> Run:
    """Begin a run and make it the active one.

    ``project`` is ``uncategorized`` unless named, and made when missing. ``config`` is a mapping, a dataclass or a
    namespace. ``mode``: ``online``; ``offline`` writes to the spool only, for `labkeep sync`; ``disabled`` does nothing
    at all. ``dir`` is a folder to use instead of a server, in this process. ``console`` also keeps what is printed.

    ``id`` is an id of your own: a UUID, or a short name that is unique in the project. ``resume`` says what to do when it
    exists: ``never`` (AlreadyExists), ``allow`` (go on with it) or ``must`` (NotFound when there is none).
    ``reinit`` says what becomes of a run that is active: ``finish_previous``, ``return_previous`` or ``create_new``.

    A key that is refused raises at once. A server that is away does not: what is logged is then kept on disk and sent when
    it answers. ``LABKEEP_URL``, ``LABKEEP_API_KEY``, ``LABKEEP_PROJECT``, ``LABKEEP_MODE``, ``LABKEEP_RUN_ID``,
    ``LABKEEP_SPOOL`` and ``LABKEEP_QUIET`` are the defaults of what is not given.
    """
    global _current
    previous = _previous(_word("reinit", reinit, REINITS, REINIT_WORDS))
    if previous is not None:
        return previous
    wanted = Wanted(
        project=project or os.environ.get("LABKEEP_PROJECT"),
        name=name,
        config=plain_copy(as_mapping(config)),
        job_type=job_type,
        tags=[tags] if isinstance(tags, str) else list(tags or ()),
        notes=notes,
        group=group,
        id=id or os.environ.get("LABKEEP_RUN_ID"),
        resume=_word("resume", resume, RESUMES, RESUME_WORDS),
        dir=dir,
        mode=_word("mode", mode or os.environ.get("LABKEEP_MODE"), {None: "online"}, MODES),
        url=url,
        api_key=api_key,
        workspace=workspace,
        quiet=os.environ.get("LABKEEP_QUIET", "") not in ("", "0", "false") if quiet is None else quiet,
    )
    _current = Run(begin(wanted), console=console)
    _hook()
    return _current


def _word(name: str, value: Any, meanings: Mapping[Any, str], words: Sequence[str]) -> str:
    found = meanings.get(value, value)
    if found not in words:
        raise Invalid(f"{name}={value!r} is not one of {', '.join(words)}", path=name)
    return str(found)


def _previous(reinit: str) -> Run | None:
    """The active run, when `init` is to answer that one."""
    if _current is None or _current not in live or reinit == "create_new":
        return None
    if reinit == "return_previous":
        return _current
    _current.finish()
    return None


def current_run() -> Run | None:
    """``labkeep.run``: the active run, or None."""
    return _current if _current in live or (_current is not None and _current.status == "running") else None


def current_config() -> Config:
    """``labkeep.config``: the config of the active run."""
    return _active("config").config


def current_summary() -> Summary:
    """``labkeep.summary``: the summary of the active run."""
    return _active("summary").summary


def _active(name: str) -> Run:
    run = current_run()
    if run is None:
        raise Refused(f"labkeep.{name}: no run is active; call labkeep.init() first")
    return run


def log(data: Mapping[str, Any], step: int | None = None, *, durable: bool = False) -> None:
    """Log to the active run; see `Run.log`. Refused when there is none."""
    _active("log").log(data, step, durable=durable)


def finish(exit_code: int | None = None) -> None:
    """Finish the active run, if there is one."""
    run = current_run()
    if run is not None:
        run.finish(exit_code)


# --- the end of the process


def _hook() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        at_exit(first=_finish_all)
        sys.excepthook = _Hook(sys.excepthook)


def _finish_all() -> None:
    for run in list(live):
        run.finish()


class _Hook:
    """Notes that the process is ending with an error, for the status of its runs, before the error is shown."""

    def __init__(self, below: Any) -> None:
        self._below = below

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for run in list(live):
            run.exit_code = exit_code_of(error)
        self._below(kind, error, trace)
