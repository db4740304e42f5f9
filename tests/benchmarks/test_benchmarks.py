"""The benchmarks still run, at toy size: a change of what they measure is noticed before somebody needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import ledger, noise


@pytest.mark.parametrize("hidden", [0, 3])
def test_the_training_whose_noise_is_timed_runs(hidden: int) -> None:
    spent = noise._train(rows=200, width=4, hidden=hidden, batch=16, steps=3)
    assert spent["parameters"] == (4 * 3 + 3 + 3 * 2 + 2 if hidden else 4 * 2 + 2)
    assert 0 < spent["noise"] + spent["mask"] < spent["whole"]


def test_clients_that_race_for_a_budget_overspend_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "RUNS", 4)
    row = ledger.under_load(ledger.OnSqlite(tmp_path), clients=2)
    assert (row["clients"], row["overspent"], row["lost"]) == (2, 0, 0)


def test_a_ledger_with_a_made_up_history_is_whole_and_takes_a_run(tmp_path: Path) -> None:
    with ledger.with_history(ledger.OnSqlite(tmp_path), 24) as made:
        assert {kind for kind, _, _ in ledger.one_run(made, "next")} == {"reserve", "start", "commit"}
        made.verify(ledger.POLICY)
