"""Commands that run or look after a server."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--data", help="Folder of the embedded store.  [default: ./labkeep-data]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one.  [default: 8080]")
@click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Settings file (TOML).")
def serve(data: str | None, host: str | None, port: int | None, config: Path | None) -> None:
    """Start the server.

    On an empty store it makes the organization and workspace "default" and an owner "admin", and prints the
    owner's key once. LABKEEP_ADMIN_KEY sets that key instead.

    \b
    Examples:
      labkeep serve
      labkeep serve --data /srv/labkeep --host 0.0.0.0 --port 80
      LABKEEP_DATABASE_URL=postgresql+psycopg://labkeep@db/labkeep labkeep serve
    """
    from labkeep import server, settings  # the client must not pay for the server's imports

    def announce(url: str, key: str | None) -> None:
        click.echo(f"Labkeep is at {url}  (API: {url}/docs)")
        if key is not None:
            click.echo(f"The administrator's key, shown this once:\n\n    export LABKEEP_URL={url} LABKEEP_API_KEY={key}\n")
        sys.stdout.flush()

    server.serve(settings.load(config, data=data, host=host, port=port), announce)
