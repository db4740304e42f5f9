"""How the command line talks: tables and panels for people, JSON for scripts, errors on stderr with an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from synth.errors import AwaitingApproval, SluiceError

REFUSED, AWAITING, TRY_LATER = 1, 3, 75

console = Console()
errors = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def print_json(value: Any) -> None:
    """One JSON document on stdout, nothing else."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def reported() -> Iterator[None]:
    """Turns errors raised on purpose into a text on stderr and an exit code."""
    try:
        yield
    except SluiceError as error:
        waiting = isinstance(error, AwaitingApproval)
        title = "waiting" if waiting else type(error).__name__
        errors.print(f"[bold {'yellow' if waiting else 'red'}]{title}[/]", highlight=False)
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(AWAITING if waiting else TRY_LATER if error.retry else REFUSED) from None
