"""The command line: ``labkeep --help``."""

from __future__ import annotations

from typing import Any

import click

from labkeep import __version__
from labkeep.cli.command import LazyGroup
from labkeep.cli.failure import Failure
from labkeep.cli.session import Session
from labkeep.core.errors import LabkeepError

SECTIONS = {
    "Look": {
        "projects": "labkeep.cli.projects:projects",
        "runs": "labkeep.cli.runs:runs",
        "experiments": "labkeep.cli.experiments:experiments",
        "documents": "labkeep.cli.documents:documents",
        "artifacts": "labkeep.cli.artifacts:artifacts",
        "files": "labkeep.cli.files:files",
        "sync": "labkeep.cli.spools:sync",
        "export": "labkeep.cli.transfers:export",
        "import": "labkeep.cli.transfers:import_",
        "import-abort": "labkeep.cli.transfers:abort",
        "archive-verify": "labkeep.cli.transfers:verify",
    },
    "Lifecycle": {
        "archive": "labkeep.cli.lifecycle:archive",
        "unarchive": "labkeep.cli.lifecycle:unarchive",
        "trash": "labkeep.cli.lifecycle:trash",
        "restore": "labkeep.cli.lifecycle:restore",
        "undo": "labkeep.cli.undoing:undo",
        "purge": "labkeep.cli.lifecycle:purge",
        "lock": "labkeep.cli.lifecycle:lock",
        "unlock": "labkeep.cli.lifecycle:unlock",
        "hold": "labkeep.cli.holds:hold",
        "rules": "labkeep.cli.rules:rules",
        "trashed": "labkeep.cli.deletions:trashed",
        "deletions": "labkeep.cli.deletions:deletions",
        "policy": "labkeep.cli.policies:policy",
        "remove": "labkeep.cli.removals:remove",
        "removals": "labkeep.cli.removals:removals",
        "erasure": "labkeep.cli.erasures:erasure",
    },
    "Records": {
        "audit": "labkeep.cli.audits:audit",
        "receipt": "labkeep.cli.receipts:receipt",
        "jobs": "labkeep.cli.jobs:jobs",
        "du": "labkeep.cli.records:du",
        "webhook": "labkeep.cli.webhooks:webhook",
    },
    "Access": {
        "login": "labkeep.cli.accounts:login",
        "whoami": "labkeep.cli.accounts:whoami",
        "connect": "labkeep.cli.connections:connect",
        "workspace": "labkeep.cli.accounts:workspace",
        "key": "labkeep.cli.accounts:key",
        "member": "labkeep.cli.accounts:member",
    },
    "Server": {
        "serve": "labkeep.cli.server:serve",
        "worker": "labkeep.cli.server:worker",
        "check": "labkeep.cli.server:check",
        "sweep": "labkeep.cli.server:sweep",
        "keygen": "labkeep.cli.master_keys:keygen",
        "rotate-master-key": "labkeep.cli.master_keys:rotate_master_key",
        "settings": "labkeep.cli.server:settings",
        "completion": "labkeep.cli.completion:completion",
    },
}
"""Heading → command → where it is."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Root(LazyGroup):
    """The whole command line: whatever is raised on purpose ends as one line on standard error and an exit code."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """Notes that JSON is wanted before anything can fail."""
        wanted = "--json" in args
        ctx = super().make_context(info_name, args, *rest, **extra)
        ctx.meta["labkeep.json"] = wanted
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        wants_json = ctx.meta["labkeep.json"]
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise  # a noun by itself shows its help
        except (LabkeepError, click.ClickException) as error:
            raise Failure(error, as_json=wants_json) from error
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise  # whoever read the output has seen enough; click ends quietly
        except OSError as error:
            raise Failure(LabkeepError(str(error)), as_json=wants_json) from error


@click.group(
    cls=Root,
    sections=SECTIONS,
    examples=(
        "labkeep serve",
        "labkeep login",
        "labkeep runs ls --project digits --order 'summary.acc desc'",
        "labkeep trash --project digits -q 'status = crashed' --dry-run",
        "labkeep --dir ./labkeep-data runs ls",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--url", metavar="URL", help="The server.  [default: $LABKEEP_URL, then what `labkeep login` kept]")
@click.option("--dir", "folder", metavar="DIR", help="A folder instead of a server; needs no key.")
@click.option("--workspace", metavar="NAME", help="Workspace, by name or id.  [default: the key's own]")
@click.version_option(__version__, prog_name="labkeep")
@click.pass_context
def main(ctx: click.Context, url: str | None, folder: str | None, workspace: str | None) -> None:
    """Keep experiments and eval runs, under one honest lifecycle.

    Commands talk to the server in LABKEEP_URL with the key in LABKEEP_API_KEY, or to the one that `labkeep login`
    kept. On a terminal they print tables; in a pipe, tab-separated lines without a header (times in UTC, sizes in
    bytes); with --json, what the API answers.
    """
    session = ctx.ensure_object(Session)
    session.url, session.dir, session.workspace = url, folder, workspace
    ctx.call_on_close(session.close)
