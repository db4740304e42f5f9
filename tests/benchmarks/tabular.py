"""The tables benchmark that a sceptic would run: ours and the peers that install, same rows, same machine, same run.

``make bench-tables`` runs everything; narrowed by the environment, as in ``make bench-tables ONLY=adult EPS=1 SEEDS=1
PEERS=0``. ONLY: data sets, EPS: values of ε, both with commas; SEEDS: releases of ours at each ε; PEERS: 0, 1 or names
with commas; CAP: seconds that a peer may take. Peers run at ε = 1, once. Results are written after every row.

Times and memory are those of a process of each method's own. ``fit_s`` of ours holds the calibration of the noise, and
none of encoding (``encode_s``), which peers are given. ``peak_mb`` is the whole process, ``imports_mb`` what of it was
there when all was imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.common import RESULTS, console
from tests.benchmarks.tables.data import SECOND_TARGETS, BenchTable
from tests.benchmarks.tables.methods import CAP_S, PEERS, Peer, Released, ours, peer
from tests.benchmarks.tables.references import references
from tests.benchmarks.tables.rendering import markdown, plot
from tests.benchmarks.tables.scores import Fidelity, Scores, label_scores, utility

PEERS_EPSILON = 1.0
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


@dataclass(frozen=True)
class Selection:
    """What of the benchmark runs."""

    data: tuple[str, ...]
    epsilons: tuple[float, ...]
    seeds: int
    peers: tuple[Peer, ...]
    cap_s: float

    @classmethod
    def from_environment(cls) -> Selection:
        """From ONLY, EPS, SEEDS, PEERS and CAP; an empty variable is one that is not set."""
        data = _listed("ONLY", ",".join(SECOND_TARGETS))
        if unknown := set(data) - set(SECOND_TARGETS):
            raise SystemExit(f"bench-tables: ONLY={','.join(sorted(unknown))}; accepted: {', '.join(SECOND_TARGETS)}")
        chosen = _listed("PEERS", "1")
        names = {known.name for known in PEERS}
        if chosen not in (("0",), ("1",)) and set(chosen) - names:
            raise SystemExit(f"bench-tables: PEERS={','.join(chosen)}; accepted: 0, 1, {', '.join(sorted(names))}")
        peers = tuple(known for known in PEERS if chosen == ("1",) or known.name in chosen)
        epsilons = tuple(float(value) for value in _listed("EPS", "0.2,1,3,10"))
        return cls(data, epsilons, int(*_listed("SEEDS", "3")), peers, float(*_listed("CAP", str(CAP_S))))


def main() -> None:
    """Run what is selected; print and write after every row."""
    selection = Selection.from_environment()
    tables = [BenchTable.named(name) for name in selection.data]
    rows: list[dict[str, Any]] = []
    for table in tables:
        for row in rows_of(table, selection):
            rows.append(row)
            console.print(_line(row))
            _write(rows)
    console.print((RESULTS / "tables.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def rows_of(table: BenchTable, selection: Selection) -> Iterator[dict[str, Any]]:
    """All rows of one data set: references, ours, peers."""
    fidelity = Fidelity(table)
    for name, scores in references(table, fidelity):
        yield _row(table, name, None, None, "ok", scores)
    for epsilon in selection.epsilons:
        for seed in range(selection.seeds):
            released = ours(table, epsilon, seed)
            yield _row(table, "sluice", epsilon, seed, released.status, _scored(table, fidelity, released))
    for chosen in selection.peers:
        released = peer(chosen, table, PEERS_EPSILON, 0, selection.cap_s)
        yield _row(table, chosen.name, PEERS_EPSILON, 0, released.status, _scored(table, fidelity, released))


def _scored(table: BenchTable, fidelity: Fidelity, released: Released) -> Scores:
    if released.frame is None:
        return {}
    scores = {**released.facts, **utility(table, released.frame), **fidelity.of(released.frame)}
    if released.direct is not None:
        target = table.schema[table.schema.target]
        labels = target.encode(table.test[target.name].to_numpy())
        known = labels != target.null_code
        # Where the target may be null, the label model may hold null as one class more; no row here is labelled so.
        direct = label_scores(labels[known], released.direct[known, : target.cells], range(target.cells))
        scores |= {f"direct_{name}": value for name, value in direct.items()}
    return scores


def _row(
    table: BenchTable, method: str, epsilon: float | None, seed: int | None, status: str, scores: Scores
) -> dict[str, Any]:
    first, second = table.second_targets
    about = {"data": table.name, "method": method, "epsilon": epsilon, "seed": seed, "status": status}
    values = {column: scores.get(column) for column in _COLUMNS}
    return {**about, **values, "second1": first, "second2": second}


def _write(rows: Sequence[dict[str, Any]]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "tables.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "tables.md").write_text(markdown(rows), encoding="utf-8")
    plot(rows, RESULTS / "tables.png")


def _line(row: dict[str, Any]) -> str:
    shown = ("hgb_accuracy", "hgb_auc", "tvd2", "tvd3", "fit_s", "sample_s", "cpu_s", "peak_mb")
    values = " ".join(f"{name} {row[name]:.4g}" for name in shown if row[name] is not None)
    epsilon = "" if row["epsilon"] is None else f" ε={row['epsilon']:g} seed {row['seed']}"
    return f"{row['data']} {row['method']}{epsilon}: {values if row['status'] == 'ok' else row['status']}"


def _listed(name: str, default: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in (os.environ.get(name) or default).split(",") if part.strip())


if __name__ == "__main__":
    main()
