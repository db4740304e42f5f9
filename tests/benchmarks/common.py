"""What benchmarks share: a fresh deployment in a folder, the data sets, and where results go."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from synth.ledger import Ledger
from synth.officer import register
from synth.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "bench"
CONTRACTS = Path(__file__).parent / "contracts"

console = Console(highlight=False)


@dataclass(frozen=True)
class DataSet:
    """A contract and its policy."""

    name: str
    contract: Path
    policy: Path


def data_sets() -> list[DataSet]:
    """The demonstration's, and Adult where the folder in ``SLUICE_DATA`` has it."""
    known = [DataSet("rand_hie", ROOT / "dags/contracts/rand_hie.yaml", ROOT / "dags/policies/rand_hie.yaml")]
    if adult_is_there():
        known.append(DataSet("adult", CONTRACTS / "adult.yaml", CONTRACTS / "adult_policy.yaml"))
    return known


def adult_is_there() -> bool:
    """Whether Adult can be read; says loudly if not."""
    folder = os.environ.get("SLUICE_DATA")
    if folder and (Path(folder) / "tabular" / "adult_train.parquet").exists():
        os.environ["SLUICE_DATA"] = str(Path(folder).resolve())
        return True
    console.print(
        "[bold yellow]SKIPPED: adult[/] - SLUICE_DATA does not name a folder that holds tabular/adult_*.parquet"
    )
    return False


@contextmanager
def deployment(data: DataSet) -> Iterator[Path]:
    """A fresh home, bucket and ledger with the data set's policy registered; environment set for as long."""
    from synth.contract import load_policy

    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        places = {
            "SLUICE_HOME": str(folder / "sluice"),
            "SLUICE_DEMO_DATA": str(folder / "data"),
            "SLUICE_DEMO_BUCKET": str(folder / "bucket"),
            "SLUICE_BENCH_BUCKET": str(folder / "bucket"),
            "SLUICE_CONTRACTS": str(data.contract.parent),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        before = {key: os.environ.get(key) for key in places}
        os.environ.update(places)
        try:
            _copy_demo_table(folder / "data")
            settings = Settings.from_environment()
            with Ledger.open(settings.ledger_url) as ledger:
                register(ledger, settings, load_policy(data.policy), by="benchmark")
            yield folder
        finally:
            for key, value in before.items():
                os.environ.pop(key, None)
                if value is not None:
                    os.environ[key] = value


def report(name: str, title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table and write them to build/bench/NAME.json."""
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    console.print(table)
    console.print(f"[dim]{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}[/]")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _copy_demo_table(folder: Path) -> None:
    package = find_spec("statsmodels")
    if package is None or package.origin is None:
        raise SystemExit("the demonstration's table comes with statsmodels: pip install 'sluice-dp[demo]'")
    folder.mkdir(parents=True)
    shutil.copyfile(Path(package.origin).parent / "datasets/randhie/src/randhie.csv", folder / "rand_hie.csv")
