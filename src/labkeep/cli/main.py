"""The command line: ``labkeep --help``."""

from __future__ import annotations

import click

from labkeep import __version__
from labkeep.cli.server import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="labkeep")
def main() -> None:
    """Keep experiments and eval runs, under one honest lifecycle."""


main.add_command(serve)
