"""``sluice sample``: further rows from the model of a published release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synth.cli.output import AsJson, console, print_json, reported
from synth.contract import load_contract


def sample(
    file: Annotated[Path, typer.Argument(help="The share contract of the run, YAML.", metavar="FILE")],
    run_id: Annotated[str, typer.Option(help="A run whose release was published.")],
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")],
    out: Annotated[Path, typer.Option(help="A new Parquet file.", metavar="FILE.parquet")],
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="All rows meet it: 'education = Masters', 'age >= 40', 'age between 30 and 40', 'region in (a, b)', "
            "'income is not null'. Give it again for another.",
        ),
    ] = None,
    balance: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Equal shares of each category or label of this column.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Gives the same rows again; by default a fresh one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw further rows from a published release's model, under conditions if wanted. Costs no privacy.

    Rows are post-processing of the release, share its claim, and keep the contract's constraints; the file's metadata
    says so. With a condition or balance, shares are changed on purpose.
    """
    from synth.further_rows import write_further_rows
    from synth.run import Run

    with reported(), Run(load_contract(file), run_id) as one:
        about = write_further_rows(one, out, rows=rows, where=where or (), balance=balance, seed=seed)
        if as_json:
            print_json({**about, "file": str(out)})
            return
        console.print(f"{out}: {rows:,} rows", highlight=False, markup=False)
        console.print(about["notice"], highlight=False, markup=False)
        for text, share in about.get("shares_in_the_model", {}).items():
            console.print(f"  {text}: about {share:.2%} of the model's rows", highlight=False, markup=False)
