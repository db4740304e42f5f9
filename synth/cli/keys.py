"""`sluice keys`: keys that are drawn by hand."""

from __future__ import annotations

import typer

app = typer.Typer(help="Keys of a deployment.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Keys of a deployment."""


@app.command("new-workspace")
def new_workspace_key() -> None:
    """Print a fresh workspace key and nothing else: keep it as SLUICE_WORKSPACE_KEY or in Airflow's connection."""
    from synth.settings import new_workspace_key

    typer.echo(new_workspace_key())
