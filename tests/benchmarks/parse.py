"""What 50 share contracts cost the DAG processor, over a DAG file that holds one empty DAG.

Rows of {file, dags, parse_s, over_empty_s, serialise_s}. Each file is read as the DAG processor does it, in a fork of a
process that has Airflow loaded and nothing of Sluice: parsed, which is what Airflow reports as the duration of a file,
then serialised for its database. CPU seconds of the fork, because parsing waits for nothing and other users of the
machine would be measured too; medians of several forks, file by file in turn.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tests.benchmarks.common import ROOT, report

CONTRACTS = 50
TURNS = 7
_EMPTY = 'from airflow.sdk import DAG\n\ndag = DAG("empty")\n'


@dataclass(frozen=True)
class Reading:
    """How many DAGs a file gave, and the CPU seconds of it."""

    dags: int
    parse_s: float
    serialise_s: float


def measure() -> list[dict[str, Any]]:
    """The rows of the report."""
    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        os.environ |= {"AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        files = {"one empty DAG": _empty(folder), "1 contract": _sharing(folder, 1)}
        files[f"{CONTRACTS} contracts"] = _sharing(folder, CONTRACTS)
        _load_airflow()
        turns = [{title: _read_in_a_fork(path) for title, path in files.items()} for _ in range(TURNS)]
    empty = statistics.median(turn["one empty DAG"].parse_s for turn in turns)
    rows = []
    for title in files:
        parse_s = statistics.median(turn[title].parse_s for turn in turns)
        serialise_s = statistics.median(turn[title].serialise_s for turn in turns)
        rows.append(
            {
                "file": title,
                "dags": turns[0][title].dags,
                "parse_s": parse_s,
                "over_empty_s": parse_s - empty,
                "serialise_s": serialise_s,
            }
        )
    return rows


def _empty(folder: Path) -> Path:
    path = folder / "empty" / "empty.py"
    path.parent.mkdir()
    path.write_text(_EMPTY)
    return path


def _sharing(folder: Path, contracts: int) -> Path:
    """A copy of the shipped DAG file beside so many copies of the shipped contract, each with a name of its own."""
    path = folder / f"share-{contracts}" / "share.py"
    (path.parent / "contracts").mkdir(parents=True)
    shutil.copyfile(ROOT / "dags" / "share.py", path)
    document = yaml.safe_load((ROOT / "dags" / "contracts" / "rand_hie.yaml").read_text())
    for number in range(contracts):
        document["dataset"]["name"] = f"table_{number}"
        (path.parent / "contracts" / f"table_{number}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _load_airflow() -> None:
    import airflow.dag_processing.processor
    import airflow.serialization.serialized_objects  # noqa: F401


def _read_in_a_fork(path: Path) -> Reading:
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(path, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _read(path: Path, sender: Any) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    started = time.process_time()
    bag = DagBag(path)
    parsed = time.process_time()
    assert not bag.import_errors, bag.import_errors
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)
    sender.send(Reading(len(bag.dags), parsed - started, time.process_time() - parsed))


if __name__ == "__main__":
    report("parse", f"Reading DAG files: CPU seconds, median of {TURNS}", measure())
