"""Linking versions into collections of links, and the aliases that they have there."""

from __future__ import annotations

from typing import Any

from labkeep.core.commands import Get, SetAliases
from labkeep.core.entities import Json
from labkeep.core.errors import Conflict, Invalid, NotFound
from labkeep.dialects.wandb.artifacts import by_id
from labkeep.dialects.wandb.context import Context, own_id
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.projects import accepted
from labkeep.operations import artifact_links, artifact_searches, artifacts, drafts, projects
from labkeep.operations.artifact_links import FindMember, LinksOf, LinkVersion, UnlinkVersion
from labkeep.operations.artifact_searches import FindCollection, Held
from labkeep.operations.drafts import FindDraft


def link(_root: None, context: Context, input: Json) -> Json:
    """Link a version into a portfolio, which is made when missing."""
    held = _version(context, input)
    project, name = _target(context, input)
    _check_type(context, project, held)
    aliases = tuple(each["alias"] for each in input.get("aliases") or ())
    made = context.write(
        artifact_links.link, LinkVersion(id=held.version.id, project=project, name=name, aliases=aliases)
    )
    return {"versionIndex": made.version.number, "artifactMembership": made}


def _version(context: Context, input: Json) -> Held:
    if input.get("artifactID"):
        return by_id(None, context, input["artifactID"])
    if input.get("clientID"):
        return context.read(drafts.find, FindDraft(client_id=input["clientID"]))
    raise Invalid("name the artifact that is to be linked", path="artifactID")


def _target(context: Context, input: Json) -> tuple[str, str]:
    if input.get("artifactPortfolioID"):
        asked = FindCollection(id=own_id("ArtifactCollection", input["artifactPortfolioID"]))
        home = context.read(artifact_searches.find_collection, asked)
        return home.project.id, home.collection.name
    if not input.get("projectName") or not input.get("artifactPortfolioName"):
        raise Invalid("name the project and the collection to link into", path="artifactPortfolioName")
    return input["projectName"], input["artifactPortfolioName"]


def _check_type(context: Context, project: str, held: Held) -> None:
    """Conflict when a registry takes artifacts of certain types and this is none of them."""
    try:
        home = context.read(projects.get, Get(id=project))
    except NotFound:
        return
    types = accepted(home)
    if types is not None and held.collection.type not in types:
        known = ", ".join(types)
        raise Conflict(f"{home.name} takes artifacts of type {known}, and this one is a {held.collection.type}")


def unlink(_root: None, context: Context, input: Json) -> Json:
    """Take a version out of a portfolio."""
    portfolio = own_id("ArtifactCollection", input["artifactPortfolioID"])
    asked = UnlinkVersion(id=own_id("Artifact", input["artifactID"]), portfolio_id=portfolio)
    context.write(artifact_links.unlink, asked)
    return {"success": True}


def add_aliases(_root: None, context: Context, input: Json) -> Json:
    """Move aliases here, in whichever collection they are named for."""
    for id, names in _by_member(context, input).items():
        context.write(artifacts.set_aliases, SetAliases(id=id, add=tuple(names)))
    return {"success": True}


def delete_aliases(_root: None, context: Context, input: Json) -> Json:
    """Take aliases away."""
    for id, names in _by_member(context, input).items():
        context.write(artifacts.set_aliases, SetAliases(id=id, remove=tuple(names)))
    return {"success": True}


def _by_member(context: Context, input: Json) -> dict[str, list[str]]:
    """Our id of the version, or of the link to it, that each alias belongs to."""
    id = own_id("Artifact", input["artifactID"])
    found: dict[str, list[str]] = {}
    for each in input["aliases"]:
        if each.get("projectName"):
            asked = FindMember(id=id, project=each["projectName"], name=each["artifactCollectionName"])
            member = context.read(artifact_links.member, asked).id
        else:
            member = id
        found.setdefault(member, []).append(each["alias"])
    return found


def memberships(held: Held, context: Context) -> Json:
    """Every collection that a version is in: its own, and those that it is linked into."""
    linked: list[Any] = context.read(artifact_links.links_of, LinksOf(id=held.version.id))
    return {
        "edges": [{"node": each} for each in (held, *linked)],
        "pageInfo": {"endCursor": None, "hasNextPage": False},
    }


RESOLVERS: Resolvers = {
    "Mutation": {
        "linkArtifact": link,
        "unlinkArtifact": unlink,
        "addAliases": add_aliases,
        "deleteAliases": delete_aliases,
    },
    "Artifact": {"artifactMemberships": memberships},
}
