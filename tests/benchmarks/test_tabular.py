"""The tables benchmark still runs, on a made-up table: ours in its own process, a peer by the protocol, all scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks import tabular
from tests.benchmarks.peers.exchange import rho_for
from tests.benchmarks.tables import methods
from tests.benchmarks.tables.data import SECOND_TARGETS, BenchTable
from tests.benchmarks.tables.plots import against_distance, against_epsilon
from tests.benchmarks.tables.rendering import markdown
from tests.benchmarks.tables.scores import Fidelity, label_scores

_PEER = """
from exchange import serve
serve(lambda job, codes: lambda rows: codes[:rows] % job.sizes)
"""


@pytest.fixture
def table(tmp_path: Path) -> BenchTable:
    """Two numbers, two categories and a label that follows from them; some cells of a number are null."""
    paths = []
    for part, rows in (("train", 1200), ("test", 400)):
        generator = np.random.default_rng(rows)
        age = generator.integers(18, 90, rows)
        town = generator.choice(["north", "south", "west"], rows)
        score = np.where(generator.random(rows) < 0.1, np.nan, age / 10 + generator.normal(0, 1, rows))
        owns = np.where(generator.random(rows) < 0.8, age > 50, age < 30).astype(int)
        label = np.where(generator.random(rows) < 0.9, age + 20 * (town == "west") > 60, owns == 1)
        frame = pd.DataFrame({"age": age, "town": town, "score": score, "owns": owns, "label": label.astype(int)})
        paths.append(tmp_path / f"{part}.parquet")
        frame.to_parquet(paths[-1])
    document = {
        "version": 1,
        "dataset": {"name": "made_up", "title": "t", "owner": "o", "description": "d", "licence": "l"},
        "source": {"uri": f"file://{paths[0]}"},
        "privacy": {"unit": "row", "epsilon": 1.0, "delta": 1e-5, "approximate_units": 1200},
        "schema": {
            "age": {"type": "integer", "min": 18, "max": 100},
            "town": {"type": "categorical", "categories": ["north", "south", "west"]},
            "score": {"type": "number", "min": 0, "max": 20, "nullable": True},
            "owns": {"type": "categorical", "categories": [0, 1]},
            "label": {"type": "categorical", "categories": [0, 1]},
        },
        "task": {"target": "label", "kind": "binary"},
        "rows": 1000,
        "approval": {"mode": "automatic"},
        "publish": {"uri": f"file://{tmp_path}/bucket"},
    }
    return BenchTable("made_up", document, paths[0], paths[1], ("owns", "town"))


@pytest.fixture
def copying_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> methods.Peer:
    """A peer that gives private rows back, in the environment of the tests."""
    monkeypatch.setenv("SLUICE_BENCH_ENVS", str(tmp_path))
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").symlink_to(sys.executable)
    script = tmp_path / "with_copy.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(methods._SCRIPTS)!r})\n{_PEER}", encoding="utf-8")
    return methods.Peer("copy", "env", str(script), ("copy",), {})


def test_rows_of_all_kinds_are_measured_and_shown(
    table: BenchTable, copying_peer: methods.Peer, tmp_path: Path
) -> None:
    absent = methods.Peer("absent", "no_such", "", ("some-package==1",), {})
    selection = tabular.Selection(("made_up",), (1.0,), 1, (copying_peer, absent), 60)
    rows = {row["method"]: row for row in tabular.rows_of(table, selection)}
    assert list(rows) == ["real rows", "independent columns", "majority", "sluice", "copy", "absent"]
    measured = (name for name in tabular._COLUMNS)
    assert [name for name in measured if rows["sluice"][name] is None] == []
    assert rows["sluice"]["peak_mb"] > rows["sluice"]["imports_mb"] > 0
    assert rows["real rows"]["tvd3"] == 0 < rows["independent columns"]["tvd2"]
    assert rows["majority"]["hgb_auc"] == 0.5 < rows["real rows"]["hgb_auc"]
    assert rows["copy"]["status"] == "ok"
    assert rows["copy"]["tvd2_codes"] < 0.1
    assert rows["absent"]["hgb_auc"] is None
    assert rows["absent"]["status"].startswith("not installed: uv venv")
    named = {"data", "method", "epsilon", "seed", "hgb_accuracy", "hgb_auc", "tvd2", "tvd3", "fit_s", "sample_s"}
    assert {*named, "peak_mb", "date", "machine", "code"} <= rows["sluice"].keys()
    text = markdown([*rows.values()])
    for shown in ("some-package==1", "macro F1", "MLP balanced", "label model AUC", "third target AUC", "peak MB"):
        assert shown in text
    for shown in (rows["sluice"]["machine"], rows["sluice"]["code"], "scikit-learn", "| real rows |", "| majority |"):
        assert shown in text
    assert f"{rows['sluice']['mlp_balanced_accuracy']:.3f}" in text
    again = [row | {"seed": 1, "hgb_auc": 0.5} for row in rows.values() if row["method"] == "sluice"]
    for draw in (against_epsilon, against_distance):
        draw([*rows.values(), *again], tmp_path / "picture.svg")
        picture = (tmp_path / "picture.svg").read_text(encoding="utf-8")
        for label in ("real rows", "independent columns", "copy", "made_up"):
            assert f"<!-- {label} -->" in picture


def row_of(method: str, seed: int | None, **changes: Any) -> dict[str, Any]:
    epsilon = None if seed is None else 1.0
    about = {"data": "made_up", "method": method, "epsilon": epsilon, "seed": seed, "status": "ok"}
    return {**about, "code": tabular.code_version(), **changes}


def test_a_resumed_grid_keeps_the_rows_of_the_same_code_and_runs_the_others(
    table: BenchTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "RESULTS", tmp_path)
    assert tabular.kept_rows(60) == []
    done = [
        *(row_of(name, None) for name in tabular.REFERENCES),
        row_of("sluice", 0),
        row_of("slow", 0, status="over the cap of 60 s"),
        row_of("sluice", 0, data="another"),
    ]
    undone = [
        row_of("sluice", 1, code="0123456789ab"),
        row_of("absent", 0, status="not installed: uv venv"),
        row_of("patient", 0, status="over the cap of 10 s"),
        row_of("broken", 0, status="failed with exit status 1: x"),
    ]
    (tmp_path / "tables.json").write_text(json.dumps([*done, *undone]), encoding="utf-8")
    kept = tabular.kept_rows(60)
    assert kept == done
    peers = tuple(methods.Peer(name, "no_such", "", ("some-package==1",), {}) for name in ("slow", "absent"))
    selection = tabular.Selection(("made_up",), (1.0,), 2, peers, 60, resume=True)
    monkeypatch.setattr(tabular, "ours", lambda *asked: methods.Released("not run"))
    rows = tabular.rows_of(table, selection, {tabular.key_of(row) for row in kept})
    assert [(row["method"], row["seed"]) for row in rows] == [("sluice", 1), ("absent", 0)]


def test_without_a_word_nothing_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, resumed in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv("RESUME", given)
        assert tabular.Selection.from_environment().resume is resumed


def test_a_peer_that_takes_too_long_or_fails_is_told_of(
    table: BenchTable, copying_peer: methods.Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(copying_peer.script)
    script.write_text("import time; time.sleep(60)", encoding="utf-8")
    assert methods.peer(copying_peer, table, 1.0, 0, cap_s=1).status == "over the cap of 1 s"
    script.write_text("raise ValueError('no such domain')", encoding="utf-8")
    status = methods.peer(copying_peer, table, 1.0, 0, cap_s=60).status
    assert status == "failed with exit status 1: ValueError: no such domain"


def test_distance_tells_shuffled_columns_from_the_real_ones(table: BenchTable) -> None:
    fidelity = Fidelity(table)
    other = table.train.copy()
    other["owns"] = 1 - other["owns"]
    scores: Any = fidelity.of(other)
    moved = 2 * abs(table.train["owns"].mean() - 0.5)
    assert scores["tvd1"] == pytest.approx(moved / 5)
    assert scores["tvd1"] <= scores["tvd2"] <= scores["tvd3"]


def test_a_class_that_a_release_lacks_counts_as_never_predicted() -> None:
    labels = np.array([0, 0, 1, 2])
    scores = label_scores(labels, np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]]), [0, 1])
    assert scores["accuracy"] == 0.75
    assert scores["balanced_accuracy"] == pytest.approx(2 / 3)


def test_peers_get_all_of_epsilon_under_zero_concentrated_dp() -> None:
    rho = rho_for(1.0, 1e-5)
    assert rho == pytest.approx(0.0306, abs=0.0002)
    assert rho_for(2.0, 1e-5) > 2 * rho


@pytest.mark.parametrize("name", sorted(SECOND_TARGETS))
def test_contracts_of_the_tables_are_valid_without_their_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setenv("SLUICE_DATA", "/nowhere")
    table = BenchTable.named(name)
    assert set(table.second_targets) < set(table.schema.names) - {table.schema.target}
    for target in table.second_targets:
        assert not table.schema[target].is_numeric
    table.contract(1.0)


def test_a_missing_folder_of_data_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_DATA", raising=False)
    with pytest.raises(SystemExit, match="SLUICE_DATA is not set"):
        BenchTable.named("adult")


def test_an_unknown_selection_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY", "adults")
    with pytest.raises(SystemExit, match="ONLY=adults; accepted: adult"):
        tabular.Selection.from_environment()
