"""The commands on contracts, runs and releases; those on budgets are in :mod:`synth.cli.budget`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from synth import __version__
from synth.cli import budget, keys, sampling
from synth.cli.output import TRY_LATER, AsJson, console, errors, print_json, reported
from synth.contract import Contract, Privacy, load_contract
from synth.errors import ContractError, SluiceError
from synth.settings import Settings

app = typer.Typer(
    name="sluice",
    help="Publish private tables as differentially private synthetic data.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
contract_app = typer.Typer(help="Share contracts: the data owner's public facts.", no_args_is_help=True)
app.add_typer(contract_app, name="contract")
app.add_typer(budget.app, name="budget")
app.add_typer(keys.app, name="keys")
app.command()(sampling.sample)

ContractFile = Annotated[Path, typer.Argument(help="A share contract, YAML.", metavar="FILE")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluice {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Publish private tables as differentially private synthetic data."""


@contract_app.command("check")
def check_contract(file: ContractFile, as_json: AsJson = False) -> None:
    """Report every fault of a contract, without touching data."""
    with reported():
        try:
            contract = load_contract(file)
            if contract.constraints:
                _require_witness(contract)
        except ContractError as error:
            if as_json:
                faults: Sequence[Any] = error.faults
                print_json({"ok": False, "faults": [asdict(fault) for fault in faults]})
            raise
        if as_json:
            print_json({"ok": True, "dataset": contract.dataset.name, "digest": contract.digest()})
            return
        privacy = contract.privacy
        console.print(f"[green]ok[/] {contract.dataset.name}: {contract.dataset.title}")
        console.print(
            f"   a release is planned to be (ε={privacy.epsilon:g}, δ={privacy.delta:g})-DP {_protected(privacy)}",
            highlight=False,
            markup=False,
        )
        if privacy.window is not None:
            which = privacy.window.release or "the last one that is over when budget is reserved"
            console.print(
                f"   it reads the rows of one {privacy.window.every} by column {privacy.window.column!r}: {which}",
                highlight=False,
                markup=False,
            )
        console.print(
            f"   {len(contract.columns)} columns, {_count(contract.rows, 'row')}, "
            f"{_count(len(contract.expectations), 'expectation')}",
            highlight=False,
        )


def _require_witness(contract: Contract) -> None:
    from synth.constraints.witness import require_witness
    from synth.schema import Schema

    require_witness(contract, Schema.from_contract(contract))


def _protected(privacy: Privacy) -> str:
    """For whom the guarantee is, and what is kept of them."""
    if privacy.unit == "row":
        return "for each row"
    without = "left out" if privacy.null_ids == "drop" else "a unit each"
    return (
        f"for each person: one value of {privacy.unit.column!r}, at most {_count(privacy.max_records, 'row')} of each; "
        f"rows without one are {without}"
    )


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"


@contract_app.command("schema")
def contract_schema() -> None:
    """Print the JSON Schema of share contracts, for editors."""
    print_json(Contract.model_json_schema(by_alias=True))


@app.command()
def plan(file: ContractFile, as_json: AsJson = False) -> None:
    """Show the mechanisms of a release, their noise and their cost, without touching data."""
    from synth.cli.plans import plan_document, show_plan

    with reported():
        document = plan_document(load_contract(file))
        if as_json:
            print_json(document)
        else:
            show_plan(document)


@app.command()
def run(
    file: ContractFile,
    run_id: Annotated[str | None, typer.Option(help="Goes on with a run of this id if there is one.")] = None,
    unsafe_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="NOT PRIVATE. Draws all noise from this seed, so that a test can repeat the run; anyone can take such "
            "noise off. Stamped into every output, charged like any run, never approved or published.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run all steps to a published release, without Airflow."""
    from synth import steps
    from synth.cli.progress import step_progress
    from synth.run import Run

    with reported():
        contract = load_contract(file)
        run_id = run_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        facts: dict[str, Any] = {"run_id": run_id}
        with (
            step_progress(errors, quiet=as_json) as progress,
            Run(contract, run_id, progress=progress.within, unsafe_seed=unsafe_seed) as one,
        ):
            try:
                for step in steps.STEPS if unsafe_seed is None else steps.BEFORE_APPROVAL:
                    with progress.step(step.__name__):
                        facts[step.__name__] = step(one)
            except KeyboardInterrupt:
                _show_ways_on(file, run_id)
                raise
            except SluiceError as error:
                if error.retry:
                    _show_ways_on(file, run_id)
                else:
                    errors.print(f"run {run_id}", highlight=False)
                    if "preflight" in facts:
                        steps.settle(one)
                raise
            facts["settle"] = steps.settle(one)
            if unsafe_seed is not None:
                facts["folder"] = str(one.workspace.folder("bundle"))
        if as_json:
            print_json(facts)
        elif unsafe_seed is not None:
            console.print(f"[bold red]{facts['settle']['notice']}[/]\nthe folder: {facts['folder']}", highlight=False)
        else:
            _show_release(facts)


def _show_ways_on(file: Path, run_id: str) -> None:
    """Of a run that is not over: its private rows wait in the workspace."""
    errors.print(
        f"run {run_id} is not over\n"
        f"go on: sluice run {file} --run-id {run_id}\n"
        f"give up, and erase its private rows: sluice settle {file} {run_id}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@app.command()
def decide(
    file: ContractFile,
    run_id: Annotated[str, typer.Argument(help="The run that waits.")],
    decision: Annotated[Literal["approve", "reject"], typer.Argument()],
    by: Annotated[str, typer.Option(help="The approver's name, as in the policy.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")],
) -> None:
    """Approve or refuse the artifact of a run that waits; then go on with `sluice run FILE --run-id RUN_ID`."""
    from synth.approval import decide as enter_decision
    from synth.run import Run

    with reported(), Run(load_contract(file), run_id) as one:
        enter_decision(one, approved=decision == "approve", by=by, reason=reason)
        console.print(f"recorded: {decision} by {by}", highlight=False)


@app.command()
def settle(
    file: ContractFile,
    run_id: Annotated[str, typer.Argument(help="A run that was broken off.")],
) -> None:
    """End a run that was broken off: give back what never started, erase its private rows."""
    from synth import steps
    from synth.run import Run

    with reported(), Run(load_contract(file), run_id) as one:
        freed = steps.settle(one)["never_started"]
        console.print(f"settled; given back: {', '.join(freed) or 'nothing'}", highlight=False)


@app.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Settle runs that were broken off long ago, erase their private rows, and remove old workspaces."""
    from synth import housekeeping

    with reported():
        done = housekeeping.sweep(Settings.from_environment(), dry_run=dry_run)
    if as_json:
        print_json(done.counts())
    else:
        for name, count in done.counts().items():
            console.print(f"  {name.replace('_', ' ')}: {count}", highlight=False)
    for failure in done.failures:
        errors.print(f"[red]✗[/] could not be swept: {escape(failure)}", highlight=False, soft_wrap=True)
    if done.failures:
        raise typer.Exit(TRY_LATER)


@app.command()
def verify(uri: Annotated[str, typer.Argument(help="A release folder.")], as_json: AsJson = False) -> None:
    """Check a release's files, schema and statement, recompute its ε, and print the claim."""
    from synth.release.verify import verify_release

    with reported():
        result = verify_release(uri)
        if as_json:
            print_json({"ok": result.ok, **asdict(result)})
        else:
            for problem in result.problems:
                errors.print(f"[red]✗[/] {problem}", highlight=False)
            for name, value in result.facts.items():
                console.print(f"  {name}: {value}", highlight=False, markup=False)
            console.print("[green]verified[/]" if result.ok else "[bold red]not verified[/]")
        if not result.ok:
            raise typer.Exit(1)


def _show_release(facts: dict[str, Any]) -> None:
    published = facts["publish"]
    table = Table(title="Released", show_header=False, title_justify="left")
    table.add_row("release", published["uri"])
    table.add_row("privacy", f"ε={published['epsilon']:.4f}, δ={published['delta']:g}")
    table.add_row("rows", f"{published['rows']:,}")
    for name, value in facts["check"]["quality"].items():
        table.add_row(name, f"{value:.3f} (under DP, before selection by the gate)")
    table.add_row("next", f"sluice verify {published['uri']}")
    console.print(table)
