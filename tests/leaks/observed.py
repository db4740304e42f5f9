"""Everything about a run that can be seen from outside its workspace, as numbers, and how two tables are told apart.

A run is seen as named numbers: which step ended how, each number and the length of each text in its facts, in the
ledger's entries and in the published documents, the size of each file, rows and row groups of tables. What is missing
in one run and there in another is a number, too.

Two tables are told apart by a number whose values in all runs on one table lie apart from its values in all runs on the
other (two-sample Kolmogorov-Smirnov at its maximum). With m runs on each, numbers of the same distribution do so with
probability 2 / C(2m, m) at most, and those that never vary not at all; so the false-positive rate is at most that
times the number of names that vary. What noise hides is not found, and need not be: how much a number may depend on one
person is what (ε, δ) bounds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from synth import steps
from synth.errors import SluiceError
from synth.run import Run
from tests.conftest import Deployment

# Random names: a version, a split.
_RANDOM = re.compile(r"\d{8}-[0-9a-f]{12}|[0-9a-f]{32}")
Numbers = dict[str, float]


@dataclass(frozen=True)
class Seen:
    """One run after it ended: its deployment, its facts by step, and how each step ended."""

    deployment: Deployment
    facts: dict[str, Any]
    states: dict[str, str]
    entries: list[Any]

    def numbers(self) -> Numbers:
        """All of it as numbers, by name."""
        found = dict(_of_value("facts", self.facts))
        found |= {f"state/{step}/{state}": 1.0 for step, state in self.states.items()}
        found["ledger/entries"] = float(len(self.entries))
        for entry in self.entries:
            found[f"ledger/kind/{entry.kind}"] = found.get(f"ledger/kind/{entry.kind}", 0.0) + 1
            found |= dict(_of_value(f"ledger/{entry.key}", {"payload": entry.payload, "balance": entry.balance}))
        for path in sorted(self.deployment.folder.rglob("*")):
            name = str(path.relative_to(self.deployment.folder))
            if path.is_file() and not name.startswith("runs/") and name != "people.csv":
                found |= {f"file/{name}": value for name, value in _of_file(name, path)}
        return {_RANDOM.sub("RANDOM", name): value for name, value in found.items()}


def carry_out(deployment: Deployment, run: Run) -> Seen:
    """All steps as a scheduler does them: the first that fails is the last, and settle always runs."""
    facts, states = {}, {}
    for step in steps.STEPS:
        try:
            facts[step.__name__] = step(run)
            states[step.__name__] = "success"
        except SluiceError as error:
            states[step.__name__] = type(error).__name__
            break
    facts["settle"] = steps.settle(run)
    return Seen(deployment, facts, states, run.ledger.entries(run.policy_name))


def told_apart(one: Sequence[Numbers], other: Sequence[Numbers]) -> dict[str, tuple[list[float], list[float]]]:
    """The numbers that separate the runs on one table from those on the other, with their values."""
    apart = {}
    for name in sorted(set().union(*one, *other)):
        left, right = (sorted(run.get(name, math.nan) for run in runs) for runs in (one, other))
        absent = [sum(math.isnan(value) for value in values) for values in (left, right)]
        if sorted(absent) == [0, len(one)] or (not any(absent) and (max(left) < min(right) or max(right) < min(left))):
            apart[name] = (left, right)
    return apart


def differing(runs: Sequence[Numbers]) -> set[str]:
    """The names whose number is not the same in all runs."""
    return {name for name in set().union(*runs) if len({run.get(name) for run in runs}) > 1}


def false_positive_rate(runs: int, names: int) -> float:
    """A bound on the probability that tables which are the same are told apart."""
    return min(1.0, names * 2 / math.comb(2 * runs, runs))


def _of_file(name: str, path: Path) -> Iterator[tuple[str, float]]:
    yield f"{name}/bytes", float(path.stat().st_size)
    if path.suffix == ".json":
        yield from _of_value(name, json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".parquet":
        about = pq.read_metadata(path)
        yield f"{name}/rows", float(about.num_rows)
        yield f"{name}/row groups", float(about.num_row_groups)
        yield f"{name}/metadata", float(about.serialized_size)


def _of_value(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        yield f"{name}/fields", float(len(value))
        for key, inner in value.items():
            yield from _of_value(f"{name}/{key}", inner)
    elif isinstance(value, list | tuple):
        yield f"{name}/items", float(len(value))
        for position, inner in enumerate(value):
            yield from _of_value(f"{name}/{position}", inner)
    elif isinstance(value, bool | int | float):
        yield name, float(value)
    elif value is not None:
        yield f"{name}/characters", float(len(str(value)))
