"""How people name things: an id, ``project:NAME``, ``PROJECT/NAME`` of a run, ``PROJECT/NAME:ALIAS`` of an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkeep.core.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from labkeep.client._sync.client import Labkeep
    from labkeep.core.entities import ArtifactVersion, Run

PROJECT = "project:"


def is_id(text: str) -> bool:
    """Whether ``text`` is an id, in whatever case somebody copied it."""
    from labkeep.core import ids  # brings msgspec, for which no help text should wait

    return ids.is_id(text.lower())


def target_id(client: Labkeep, target: str, *, trashed: bool) -> str:
    """The id of what a lifecycle verb is for. ``trashed`` says where a project's name is looked up first."""
    if is_id(target):
        return target.lower()
    if target.startswith(PROJECT):
        return project_id(client, target.removeprefix(PROJECT), trashed=trashed)
    if "/" in target:
        return find_run(client, target, include="trashed" if trashed else None).id
    raise Invalid(
        f"{target[:80]!r} is not an id; write project:{target[:80]} for the project of that name, or PROJECT/NAME for a run",
        path="target",
    )


def project_id(client: Labkeep, name: str, *, trashed: bool) -> str:
    """The id of a project by its name. Conflict when several in the trash had it."""
    if is_id(name):
        return name.lower()
    for state in ("trashed", "any") if trashed else ("any", "trashed"):
        found = client.projects.list(name=name, state=state, limit=2).items
        if len(found) > 1:
            ids = ", ".join(project.id for project in found)
            raise Conflict(f"several projects were called {name!r}: name one by its id ({ids})")
        if found:
            return found[0].id
    raise NotFound(f"project {name[:80]!r} not found", name=name)


def find_run(client: Labkeep, ref: str, *, include: str | None = None) -> Run:
    """A run by id, or by ``PROJECT/HANDLE`` or ``PROJECT/NAME`` where only one has it."""
    if is_id(ref):
        return client.runs.get(ref.lower(), include=include)
    project, slash, name = ref.rpartition("/")
    if not slash:
        raise Invalid(f"{ref[:80]!r} is not the id of a run; PROJECT/NAME will do too", path="id")
    state = "trashed" if include else "any"
    for field in ("handle", "name"):
        found = client.runs.list(project, **{field: name}, state=state, limit=2).items
        if len(found) > 1:
            raise Conflict(f"several runs in {project} are called {name!r}: name one by its id ({found[0].id}, …)")
        if found:
            return found[0]
    raise NotFound(f"run {name[:80]!r} not found in project {project[:80]!r}", project=project, name=name)


def find_artifact_version(client: Labkeep, ref: str, project: str | None) -> tuple[str, ArtifactVersion]:
    """(name of the artifact, version) by the version's id, or by ``NAME:ALIAS``, ``NAME:v3`` or ``NAME`` in a project."""
    if is_id(ref):
        version = client.artifacts.get_version(ref.lower())
        return client.artifacts.get(version.parent_id).name, version
    home, _, name = ref.rpartition("/")
    home = home or project or ""
    if not home:
        raise Invalid(f"say which project {ref[:80]!r} is in: PROJECT/{ref[:80]}, or --project", path="project")
    return name.partition(":")[0], client.artifacts.resolve(home, name)
