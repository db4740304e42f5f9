"""The tables benchmark that a sceptic would run: ours and the peers that install, same rows, same machine, same run.

``make bench-tables`` runs everything; narrowed by the environment, as in ``make bench-tables ONLY=adult EPS=1 SEEDS=1
PEERS=0``. ONLY: data sets, EPS: values of ε, both with commas; SEEDS: releases of ours at each ε; PEERS: 0, 1 or names
with commas, ``sluice-aim``, ``sluice-mst`` and ``sluice-independent`` among them; CAP: seconds that a peer may take.
Peers and these three run at ε = 1, once. Results are written after every row, to tables.json, tables.md and two
pictures, all in build/bench. With RESUME=1 rows of the same code that are in tables.json already are kept, those of
other data sets too, so that a long grid can be run in pieces; what failed runs again.

Times and memory are those of a process of each method's own. ``fit_s`` of ours holds the calibration of the noise, and
none of encoding (``encode_s``), which peers are given. ``peak_mb`` is the whole process, ``imports_mb`` what of it was
there when all was imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pandas as pd

from tests.benchmarks.common import RESULTS, console
from tests.benchmarks.machine import code_version, machine
from tests.benchmarks.tables.data import SECOND_TARGETS, BenchTable
from tests.benchmarks.tables.methods import (
    CAP_S,
    OURS_BY_NAME,
    PEERS,
    Peer,
    Released,
    named,
    ours,
    over_cap,
    peer,
)
from tests.benchmarks.tables.plots import OURS, against_distance, against_epsilon
from tests.benchmarks.tables.references import REFERENCES
from tests.benchmarks.tables.rendering import markdown
from tests.benchmarks.tables.scores import Fidelity, Scores, label_scores, utility

PEERS_EPSILON = 1.0
Row = dict[str, Any]
Key = tuple[str, str, float | None, int | None]
_MODELS = tuple(
    f"{model}_{score}"
    for model in ("hgb", "logistic", "mlp", "direct")
    for score in ("accuracy", "auc", "balanced_accuracy", "macro_f1")
)
_COLUMNS = (
    *_MODELS,
    "second1_auc",
    "second2_auc",
    *("tvd1", "tvd2", "tvd3", "tvd2_codes", "tvd3_codes"),
    *("encode_s", "fit_s", "sample_s", "cpu_s", "peak_mb", "imports_mb"),
)
_PICTURES = {"tables_epsilon.svg": against_epsilon, "tables_distance.svg": against_distance}


@dataclass(frozen=True)
class Selection:
    """What of the benchmark runs."""

    data: tuple[str, ...]
    epsilons: tuple[float, ...]
    seeds: int
    peers: tuple[Peer, ...]
    cap_s: float
    resume: bool = False
    baselines: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls) -> Selection:
        """From ONLY, EPS, SEEDS, PEERS, CAP and RESUME; an empty variable is one that is not set."""
        data = _listed("ONLY", ",".join(SECOND_TARGETS))
        if unknown := set(data) - set(SECOND_TARGETS):
            raise SystemExit(f"bench-tables: ONLY={','.join(sorted(unknown))}; accepted: {', '.join(SECOND_TARGETS)}")
        chosen = _listed("PEERS", "1")
        names = {*OURS_BY_NAME, *(known.name for known in PEERS)}
        if chosen not in (("0",), ("1",)) and set(chosen) - names:
            raise SystemExit(f"bench-tables: PEERS={','.join(chosen)}; accepted: 0, 1, {', '.join(sorted(names))}")
        peers = tuple(known for known in PEERS if chosen == ("1",) or known.name in chosen)
        baselines = tuple(name for name in OURS_BY_NAME if chosen == ("1",) or name in chosen)
        epsilons = tuple(float(value) for value in _listed("EPS", "0.2,1,3,10"))
        cap_s, resume = float(*_listed("CAP", str(CAP_S))), _listed("RESUME", "0") != ("0",)
        return cls(data, epsilons, int(*_listed("SEEDS", "3")), peers, cap_s, resume, baselines)


def main() -> None:
    """Run what is selected; print and write after every row."""
    selection = Selection.from_environment()
    tables = [BenchTable.named(name) for name in selection.data]
    rows = kept_rows(selection.cap_s) if selection.resume else []
    if rows:
        console.print(f"[dim]{len(rows)} rows of this code are kept[/]")
    for table in tables:
        for row in rows_of(table, selection, {key_of(row) for row in rows}):
            rows.append(row)
            console.print(_line(row))
            write(rows)
    write(rows)
    console.print((RESULTS / "tables.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    console.print(*(RESULTS / name for name in ("tables.json", "tables.md", *_PICTURES)), sep="\n")


def kept_rows(cap_s: float) -> list[Row]:
    """Rows of an earlier run of the same code that another run would not better."""
    path = RESULTS / "tables.json"
    found: list[Row] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    final = ("ok", over_cap(cap_s))
    return [row for row in found if row.get("code") == code_version() and row["status"] in final]


def key_of(row: Row) -> Key:
    """What a row is about, of one version of the code."""
    return row["data"], row["method"], row["epsilon"], row["seed"]


def rows_of(table: BenchTable, selection: Selection, done: Collection[Key] = ()) -> Iterator[Row]:
    """The rows of one data set that are not done yet: references, ours, peers."""
    bench = _Bench(table)
    for method, epsilon, seed, scored in bench.all_of(selection):
        if (table.name, method, epsilon, seed) not in done:
            status, scores = scored()
            yield _row(table, method, epsilon, seed, status, scores)


@dataclass(frozen=True)
class _Bench:
    """One data set, whose real rows are read when the first scores need them."""

    table: BenchTable

    @cached_property
    def fidelity(self) -> Fidelity:
        return Fidelity(self.table)

    def all_of(
        self, selection: Selection
    ) -> Iterator[tuple[str, float | None, int | None, Callable[[], tuple[str, Scores]]]]:
        """Method, ε, seed, and what runs it."""
        for name, scores in REFERENCES.items():
            yield name, None, None, lambda scores=scores: ("ok", scores(self.table, self.fidelity))
        for epsilon in selection.epsilons:
            for seed in range(selection.seeds):
                yield OURS, epsilon, seed, lambda at=(epsilon, seed): self._scored(ours(self.table, *at))
        for name in selection.baselines:
            at = (name, self.table, PEERS_EPSILON, 0, selection.cap_s)
            yield name, PEERS_EPSILON, 0, lambda at=at: self._scored(named(*at))
        for chosen in selection.peers:
            at = (self.table, PEERS_EPSILON, 0, selection.cap_s)
            yield chosen.name, PEERS_EPSILON, 0, lambda chosen=chosen, at=at: self._scored(peer(chosen, *at))

    def _scored(self, released: Released) -> tuple[str, Scores]:
        if released.frame is None:
            return released.status, {}
        return released.status, _scored(self.table, self.fidelity, released.frame, released)


def _scored(table: BenchTable, fidelity: Fidelity, frame: pd.DataFrame, released: Released) -> Scores:
    scores = {**released.facts, **utility(table, frame), **fidelity.of(frame)}
    if released.direct is not None:
        target = table.schema[table.schema.target]
        labels = target.encode(table.test[target.name].to_numpy())
        known = labels != target.null_code
        # Where the target may be null, the label model may hold null as one class more; no row here is labelled so.
        direct = label_scores(labels[known], released.direct[known, : target.cells], range(target.cells))
        scores |= {f"direct_{name}": value for name, value in direct.items()}
    return scores


def _row(table: BenchTable, method: str, epsilon: float | None, seed: int | None, status: str, scores: Scores) -> Row:
    first, second = table.second_targets
    about = {"data": table.name, "method": method, "epsilon": epsilon, "seed": seed, "status": status}
    values = {column: scores.get(column) for column in _COLUMNS}
    taken = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "code": code_version()}
    return {**about, **values, "second1": first, "second2": second, **taken}


def write(rows: Sequence[Row]) -> None:
    """All rows as JSON and Markdown, and the pictures."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    half = (
        RESULTS / "tables.json.half"
    )  # a run that is broken off while it writes must not lose what a resumed one keeps
    half.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    half.replace(RESULTS / "tables.json")
    (RESULTS / "tables.md").write_text(markdown(rows), encoding="utf-8")
    for name, draw in _PICTURES.items():
        draw(rows, RESULTS / name)


def _line(row: Row) -> str:
    shown = ("hgb_accuracy", "hgb_auc", "tvd2", "tvd3", "fit_s", "sample_s", "cpu_s", "peak_mb")
    values = " ".join(f"{name} {row[name]:.4g}" for name in shown if row[name] is not None)
    epsilon = "" if row["epsilon"] is None else f" ε={row['epsilon']:g} seed {row['seed']}"
    return f"{row['data']} {row['method']}{epsilon}: {values if row['status'] == 'ok' else row['status']}"


def _listed(name: str, default: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in (os.environ.get(name) or default).split(",") if part.strip())


if __name__ == "__main__":
    main()
