"""Airflow with the demonstration's DAGs, ready to trigger and approve in the browser: ``make up``.

Everything is kept under ``build/up`` and stays on loopback. Beside the shipped contract there is one that asks a
person: ``admin`` triggers it, and ``olga``, whom the policy names, approves or rejects it. The passwords that are
printed are for this demonstration only.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console

from dags import playground
from dags.standalone import Standalone

_UP = playground.ROOT / "build" / "up"
_ACCOUNTS = {"admin": "admin", "olga": "user"}
_ASKING = "rand_hie_reviewed"

_console = Console(highlight=False)


def main() -> int:
    """Set up what is missing, start Airflow, say how to enter, and end it when interrupted."""
    standalone = prepare(_UP, int(os.environ.get("PORT", "8080")))
    signal.signal(signal.SIGTERM, _interrupt)
    _console.print("starting Airflow; the first time takes a minute or two ...")
    try:
        with standalone.running() as process:
            _welcome(standalone)
            process.wait()
    except KeyboardInterrupt:
        _console.print("ended; `make up` starts it again with everything that was there")
        return 0
    except RuntimeError as error:
        _console.print(f"[red]{error}[/]")
        return 1
    _console.print(f"[red]Airflow ended by itself[/]; its log: {standalone.log}")
    return 1


def prepare(folder: Path, port: int) -> Standalone:
    """All that the demonstration needs below a folder, and that deployment the environment of this process."""
    standalone = Standalone(folder / "airflow", port, _ACCOUNTS)
    ready = {"SLUICE_CONTRACTS": str(folder / "contracts"), "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False"}
    playground.enter(folder, standalone.environment | ready)
    playground.register_policy()
    write_contract_that_asks(folder / "contracts")
    return standalone


def write_contract_that_asks(folder: Path) -> Path:
    """The shipped contract under another name, with a person's approval."""
    text = playground.CONTRACT.read_text()
    text = re.sub(r"^  name: rand_hie$", f"  name: {_ASKING}", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^approval: .*$", "approval: {mode: human, timeout_hours: 8}", text, count=1, flags=re.MULTILINE)
    folder.mkdir(exist_ok=True)
    path = folder / f"{_ASKING}.yaml"
    path.write_text(text)
    return path


def _welcome(standalone: Standalone) -> None:
    _console.print(f"\n[bold]Airflow[/]   {standalone.url}")
    for name, password in standalone.passwords().items():
        _console.print(f"          account [bold]{name}[/], password [bold]{password}[/]")
    for number, line in enumerate(
        (
            f"as admin, trigger share_{_ASKING}: the form can only make it stricter",
            "when approve waits, log in as olga: who triggered a run cannot approve it",
            "give a reason and approve; the release is in build/up/bucket",
            "source build/up/env.sh; sluice budget show",
        ),
        start=1,
    ):
        _console.print(f"          {number}. {line}", soft_wrap=True)
    _console.print(f"          Ctrl-C ends it. Log: {standalone.log}\n", soft_wrap=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
