"""`sluice budget`: what the privacy officer and the owner of the ledger's tables do and see."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from synth.accounting import ATTO
from synth.cli.output import AsJson, console, print_json, reported
from synth.cli.totals import covered, releases_left
from synth.contract import load_policy
from synth.ledger import Ledger, PolicyRecord
from synth.settings import Settings

app = typer.Typer(help="The privacy officer's policies and their budgets.", no_args_is_help=True)

PolicyName = Annotated[str, typer.Argument(help="A registered policy.")]


@app.command("register")
def register_policy(
    file: Annotated[Path, typer.Argument(help="A policy, YAML.", metavar="FILE")],
    by: Annotated[str | None, typer.Option(help="The officer; by default the user logged in.")] = None,
) -> None:
    """Register a policy: binds sources, unit and total budget for good."""
    from synth.officer import register

    with reported():
        settings = Settings.from_environment()
        with Ledger.open(settings.ledger_url) as ledger:
            registered = register(ledger, settings, load_policy(file), by=by or getpass.getuser())
        policy = registered.policy
        every = policy.window.every if policy.window else None
        console.print(
            f"[green]registered[/] {policy.name}: ε={policy.epsilon:g}, δ={policy.delta:g} {covered(every)}, "
            f"at most ε={policy.max_release_epsilon:g} a release; admission by Rényi DP at order "
            f"{registered.filter.order}",
            highlight=False,
        )
        if policy.window is not None:
            console.print(f"   a row belongs to the {every} of the date in its column {policy.window.column!r}")
        if policy.horizon is not None:
            releases = "1 release" if policy.horizon == 1 else f"{policy.horizon} releases"
            console.print(f"   {releases} {covered(every)}, and no more, are admitted")
        if policy.succeeds is not None:
            console.print(f"   it takes over all that {policy.succeeds} has spent, which admits nothing more")
        console.print(f"   keep a backup of its split key in {settings.keys}", highlight=False)


@app.command()
def show(name: Annotated[str | None, typer.Argument(help="By default all.")] = None, as_json: AsJson = False) -> None:
    """Show total, spent, reserved and left."""
    with reported(), _ledger() as ledger:
        records = [ledger.policy(name)] if name else ledger.policies()
        successors = {record.succeeds: record.name for record in ledger.policies()}
        rows = [
            _row(ledger, record, window, successors.get(record.name))
            for record in records
            for window in ledger.windows(record.name) or [""]
        ]
        if as_json:
            print_json(rows)
            return
        table = Table(title="Privacy budgets", title_justify="left", caption="shares of Rényi DP at a fixed order")
        for heading in ("policy", "total", "spent", "reserved", "left", "releases"):
            table.add_column(heading, justify="left" if heading == "policy" else "right")
        for row in rows:
            shares = (f"{row[key]:.1%}" for key in ("spent_share", "reserved_share", "left_share"))
            window = f", {row['window']}" if row["window"] else ""
            after = f" (now {row['succeeded_by']})" if row["succeeded_by"] else ""
            a_window = f" a {row['every']}" if row["every"] else ""
            planned = f", {row['releases_left']} of {row['horizon']} left" if row["horizon"] else ""
            if row["selection_delta"]:
                a_window += f", of δ {row['selection_delta_held']:.2g} of {row['selection_delta']:g} for categories"
            table.add_row(
                f"{row['policy']}{window}{after}",
                f"ε={row['epsilon']:g}, δ={row['delta']:g}{a_window}",
                *shares,
                f"{row['releases']}{planned}",
            )
        console.print(table)


@app.command()
def history(name: PolicyName, as_json: AsJson = False) -> None:
    """Show every run that reserved budget, and what became of it."""
    with reported(), _ledger() as ledger:
        capacity = ledger.policy(name).capacity
        rows: list[dict[str, Any]] = [
            {
                "run": run.run,
                "window": run.window,
                "reserved_at": run.reserved_at,
                "state": run.state,
                "share": max(run.cost_train, run.cost_holdout) / capacity,
                "attempts": ledger.attempts(name, run.run),
                "release": run.published,
                "not_private": "not_private" in run.details,
            }
            for run in ledger.runs(name)
        ]
        if as_json:
            print_json(rows)
            return
        table = Table(title=f"Runs under {name}", title_justify="left")
        for heading in ("reserved", "run", "state", "share", "ε", "release"):
            table.add_column(heading, justify="right" if heading in ("share", "ε") else "left", overflow="fold")
        for row in rows:
            release = row["release"] or {}
            charged = f"{release['epsilon']:.4f}" if release else ""
            table.add_row(
                row["reserved_at"][:16], row["run"],
                f"{row['state']}, NOT PRIVATE" if row["not_private"] else row["state"], f"{row['share']:.2%}", charged,
                release.get("version", ""),
            )  # fmt: skip
        console.print(table)


def _anchor(noted: str) -> tuple[int, str]:
    """What :func:`verify` printed earlier, read back."""
    sequence, _, digest = noted.partition(":")
    if not sequence.isdecimal() or not digest:
        raise typer.BadParameter(f"{noted!r} is not SEQUENCE:DIGEST, as an earlier `sluice budget verify` printed it")
    return int(sequence), digest


@app.command()
def verify(
    name: PolicyName,
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="A head that an earlier call printed; may be repeated.", metavar="N:DIGEST"),
    ] = None,
    release: Annotated[
        list[str] | None,
        typer.Option(
            help="A published release, whose statement tells the head of that moment; may be repeated.", metavar="URI"
        ),
    ] = None,
) -> None:
    """Recompute a policy's hash chain and balances from its entries, and compare it with every head that was noted.

    Noted are those in SLUICE_ANCHORS, and those given. The head that it prints is worth noting elsewhere.
    """
    from synth.anchors import merged, noted
    from synth.release.heads import head_of_release

    given: list[Mapping[int, str]] = [dict([_anchor(head)]) for head in anchor or ()]
    with reported(), _ledger() as ledger:
        place = Settings.from_environment().anchors
        known = [noted(place, name)] if place is not None else []
        anchors = merged(name, [*known, *given, *(head_of_release(uri, name) for uri in release or ())])
        last = ledger.verify(name, anchors=anchors)
        compared = f"compared with {len(anchors)} noted elsewhere, " if anchors else ""
        head = f"head {last.sequence}:{last.digest}"
        console.print(f"[green]intact[/] {name}, {compared}{head}", highlight=False, soft_wrap=True)


@app.command()
def migrate(
    officer: Annotated[
        str | None, typer.Option(help="A role of PostgreSQL: what registering takes is granted, the rest revoked.")
    ] = None,
    worker: Annotated[
        str | None, typer.Option(help="A role of PostgreSQL: what a workflow takes is granted, the rest revoked.")
    ] = None,
) -> None:
    """Bring the ledger's tables to this version's and grant roles their rights; needs the owner of the tables."""
    with reported():
        Ledger.migrate(Settings.from_environment().ledger_url, officer=officer, worker=worker)
        console.print("[green]current[/]")
        for role, may in ((officer, "register policies"), (worker, "add entries under registered policies")):
            if role is not None:
                console.print(f"   {role} may read and {may}, no more", markup=False, highlight=False)


def _row(ledger: Ledger, record: PolicyRecord, window: str, successor: str | None) -> dict[str, Any]:
    """What :func:`show` says about a policy in one window."""
    balance, policy = ledger.balance(record.name, window), record.document["policy"]
    horizon = policy.get("horizon")
    left = releases_left(ledger, record.name, horizon, window) if horizon and successor is None else None
    runs = [run for run in ledger.runs(record.name) if run.window == window]
    return {
        "policy": record.name,
        "window": window,
        "epsilon": policy["epsilon"],
        "delta": policy["delta"],
        "spent_share": balance.spent / balance.capacity,
        "reserved_share": balance.reserved / balance.capacity,
        "left_share": balance.left / balance.capacity,
        "selection_delta": balance.delta_capacity / ATTO,
        "selection_delta_held": balance.delta_held / ATTO,
        "releases": sum(run.published is not None for run in runs),
        "every": (policy.get("window") or {}).get("every"),
        "horizon": horizon,
        "releases_left": 0 if horizon and successor is not None else left,
        "sources": record.document["sources"],
        "succeeded_by": successor,
    }


def _ledger() -> Ledger:
    return Ledger.open(Settings.from_environment().ledger_url)
