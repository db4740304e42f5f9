"""Units with several records: kept up to the cap, counted and clipped as one, in one branch."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from synth import dpsgd, mechanisms, validation
from synth.contract import Contract, contract_from_document
from synth.dpsgd import SecureDPOptimizer, TrainingSettings, train
from synth.errors import ContractError
from synth.events import DiscreteGaussian, PoissonGaussian
from synth.mechanisms import noisy_histogram, noisy_marginals
from synth.records import HOLDOUT, TRAIN, CodedRecords, Ownership, Records, numbered
from synth.release import wording
from synth.run import plan_release
from synth.schema import Schema
from synth.source import read_snapshot, rows_kept
from tests.chance import ALPHA, rate_p
from tests.dpsgd_runs import gradients
from tests.example_contract import contract, document, planned

KEY = b"k" * 32


# Contract


def test_a_row_has_one_record_and_no_id() -> None:
    for changes in ({"privacy.max_records": 2}, {"privacy.null_ids": "row"}):
        with pytest.raises(ContractError, match="unit row has one record each"):
            contract_from_document(document({"privacy.unit": "row", **changes}))
    with pytest.raises(ContractError, match="max_records"):
        contract_from_document(document({"privacy.unit": {"column": "person"}, "privacy.max_records": 21}))


@pytest.mark.parametrize("unit", [["sender", "receiver"], {"columns": ["sender", "receiver"]}, {"column": ["a", "b"]}])
def test_records_with_several_owners_are_refused_with_the_reason(unit: Any) -> None:
    with pytest.raises(ContractError, match=r"several owners.*one row for each record and owner") as caught:
        contract_from_document(document({"privacy.unit": unit}))
    assert "accepted" in str(caught.value).lower()


# Source


def declared(path: Path, **privacy: Any) -> Contract:
    return contract(
        {
            "source.uri": str(path),
            "privacy.unit": {"column": "person"},
            "schema": {
                "age": {"type": "integer", "min": 0, "max": 999_999},
                "city": {"type": "categorical", "categories": ["Bern", "Graz"], "nullable": True},
                "ill": {"type": "boolean"},
            },
            "task": {"target": "ill", "kind": "binary"},
            **{f"privacy.{name}": value for name, value in privacy.items()},
        }
    )


def snapshot(table: pd.DataFrame, released: str = "", **privacy: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        table.to_parquet(path)
        chosen = declared(path, **privacy)
        schema = Schema.from_contract(chosen)
        return read_snapshot(chosen, schema, split_key=KEY, holdout_fraction=0.3, window=released)


def people(records: int) -> pd.DataFrame:
    """200 people with 1, 2, … ``records`` rows in turn, shuffled; ``age`` tells the rows apart."""
    owners = np.repeat(np.arange(200), np.arange(200) % records + 1)
    table = pd.DataFrame({"person": [f"p{i}" for i in owners], "age": np.arange(len(owners)), "city": "Bern", "ill": 1})
    return table.sample(frac=1, random_state=4)


@pytest.mark.parametrize("most", [1, 2, 5, 20])
def test_a_unit_keeps_as_many_rows_as_it_may_all_in_one_branch(most: int) -> None:
    table = people(7)
    owner = dict(zip(table["age"], table["person"], strict=True))
    taken = snapshot(table, max_records=most)
    kept = Counter(owner[int(age)] for age in taken.frame["age"])
    had = table["person"].value_counts()
    assert kept == Counter({person: min(count, most) for person, count in had.items()})
    branches: dict[str, set[str]] = {}
    for branch in (TRAIN, HOLDOUT):
        records = taken.records(branch)
        names = np.array([owner[int(age)] for age in records.parsed["age"]])
        assert len(set(records.owners)) == len(set(names)) == Ownership(records.owners).units
        for unit in set(records.owners):
            assert len(set(names[records.owners == unit])) == 1
        branches[branch] = set(names)
    assert not branches[TRAIN] & branches[HOLDOUT]


@pytest.mark.statistical
def test_which_rows_a_unit_keeps_is_uniform() -> None:
    """Two of five, over 4,000 units: each row in two of five cases; fails once in a million runs."""
    units = np.array([f"u{i // 5}" for i in range(20_000)], dtype=object)
    kept = rows_kept(units, 2)
    for place in range(5):
        assert rate_p(int((kept % 5 == place).sum()), 4000, 0.4) >= ALPHA / 5


def test_a_unit_more_changes_at_most_its_own_rows_whatever_the_cap() -> None:
    table = people(4)
    more = pd.concat([table, pd.DataFrame({"person": "new", "age": range(9000, 9009), "city": "Graz", "ill": 0})])
    for most in (1, 3, 20):
        before, after = snapshot(table, max_records=most), snapshot(more, max_records=most)
        assert len(after.frame) - len(before.frame) == min(most, 9)
        if most == 20:  # nothing is left to chance
            assert Counter(after.frame["age"]) - Counter(before.frame["age"]) == Counter(range(9000, 9009))


def test_rows_without_an_id_are_left_out_or_units_of_their_own_as_declared() -> None:
    table = pd.DataFrame({"person": ["a", "a", None, None, None], "age": [1, 2, 7, 7, 8], "city": "Bern", "ill": 1})
    dropped = snapshot(table, max_records=2)
    assert sorted(dropped.frame["age"]) == [1, 2]
    alone = snapshot(table, max_records=2, null_ids="row")
    assert sorted(alone.frame["age"]) == [1, 2, 7, 7, 8]
    assert np.bincount(alone.owners).tolist().count(1) == 3
    assert np.bincount(alone.owners).max() == 2


def test_a_row_without_an_id_moves_no_other_between_branches() -> None:
    table = pd.DataFrame({"person": [None] * 300, "age": np.arange(300) // 2, "city": "Bern", "ill": 1})

    def placed(rows: pd.DataFrame) -> Counter:
        taken = snapshot(rows, null_ids="row")
        return Counter((float(age), bool(held)) for age, held in zip(taken.frame["age"], taken.holdout, strict=True))

    whole = placed(table)
    for gone in (0, 57, 299):
        assert (whole - placed(table.drop(index=gone))).total() == 1


def test_no_id_is_a_row_s() -> None:
    """Whatever text an id holds, nobody shares a unit with a row that has none."""
    table = pd.DataFrame(
        {"person": ["\\ud8000\x1e7.0\x1fBern\x1f1.0", "0\x1e7.0", None], "age": 7, "city": "Bern", "ill": 1}
    )
    assert Ownership(snapshot(table, null_ids="row", max_records=5).owners).units == 3


# Windows


def test_only_rows_of_the_window_are_read_each_by_its_own_date() -> None:
    days = [
        "2026-06-30",
        "2026-07-01",
        "2026-09-30T23:59:00",
        " 2026-08-15 ",
        "2026-10-01",
        "sometime",
        None,
        "2026-13-01",
    ]
    table = pd.DataFrame({"person": "p", "age": range(len(days)), "city": "Bern", "ill": 1, "seen": days})
    rule = {"column": "seen", "every": "quarter"}
    assert sorted(snapshot(table, "2026-Q3", window=rule, max_records=20).frame["age"]) == [1, 2, 3]
    table["seen"] = pd.to_datetime(["2026-08-31", None, "2026-07-31"] + ["2025-08-01"] * 5)
    taken = snapshot(table, "2026-08", window={"column": "seen", "every": "month"}, max_records=20)
    assert sorted(taken.frame["age"]) == [0]
    assert list(taken.frame.columns) == ["age", "city", "ill"]


# Mechanisms


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mechanisms, "noisy_integers", lambda values, sigma: np.asarray(values, dtype=np.int64))


@pytest.mark.usefixtures("exact")
def test_a_unit_moves_a_histogram_by_at_most_its_cap() -> None:
    owners = np.repeat(np.arange(40), np.random.default_rng(1).integers(1, 4, 40))
    codes = np.random.default_rng(2).integers(0, 5, (len(owners), 2)).astype(np.int32)
    event = DiscreteGaussian(1.0, 3, 2)
    whole = noisy_marginals(codes, [5, 5], event, owners)
    for unit in range(40):
        left = owners != unit
        fewer = noisy_marginals(codes[left], [5, 5], event, numbered(owners[left]))
        assert all(np.linalg.norm(a - b) <= 3 for a, b in zip(whole, fewer, strict=True))


def test_a_unit_with_more_records_than_are_charged_for_ends_the_release() -> None:
    codes, owners = np.zeros(5, np.int32), np.array([0, 0, 0, 1, 1])
    noisy_histogram(codes, 2, DiscreteGaussian(1.0, 3), owners)
    with pytest.raises(ValueError, match="contributions were not bounded"):
        noisy_histogram(codes, 2, DiscreteGaussian(1.0, 2), owners)
    with pytest.raises(ValueError, match="contributions were not bounded"):
        noisy_marginals(codes[:, None], [2], DiscreteGaussian(1.0, 2, 1), owners)
    with pytest.raises(ValueError, match="one owner a row"):
        noisy_histogram(codes, 2, DiscreteGaussian(1.0, 5), owners[:3])


@pytest.mark.usefixtures("exact")
def test_a_unit_violates_an_expectation_once_however_many_rows_do() -> None:
    chosen = contract(
        {"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "age", "max_value": 50}}]}
    )
    frame = pd.DataFrame({"age": [60.0, 70.0, 10.0, 80.0, 20.0, 30.0]})
    owners = np.array([0, 0, 0, 1, 2, 2])
    assert validation.measure(Records(frame, owners), chosen, DiscreteGaussian(1.0, 1, 2)).tolist() == [3, 2]
    nobody = Records(frame[:0], owners[:0])
    assert validation.measure(nobody, chosen, DiscreteGaussian(1.0, 1, 2)).tolist() == [0, 0]


def test_every_count_of_records_is_charged_for_the_cap_and_every_count_of_units_for_one() -> None:
    chosen = contract({"privacy.unit": {"column": "person"}, "privacy.max_records": 4})
    plan = plan_release(chosen, 0.2)
    single = planned({"privacy.unit": {"column": "person"}})
    assert {m.name: m.event.sensitivity for m in plan.mechanisms if isinstance(m.event, DiscreteGaussian)} == {
        "validation": 1,
        "marginals": 4,
        "calibration": 4,
        "gate_outcomes": 4,
        "gate_pairs": 16 * 4,
    }
    assert plan.epsilon == pytest.approx(single.epsilon, rel=5e-3)
    for name in ("marginals", "calibration", "gate_outcomes"):
        assert plan.counts(name).sigma == pytest.approx(4 * single.counts(name).sigma, rel=0.03)
    assert plan.counts("validation").sigma == pytest.approx(single.counts("validation").sigma, rel=0.03)


# DP-SGD

SETTINGS = TrainingSettings(clipping_norm=0.7, expected_batch=1.0, learning_rate=0.01, steps=1)
NOISELESS = PoissonGaussian(1.0, 1.0, 1)


def gradient_of(owners: Any, features: Any, physical_batch: int = 4096) -> Any:
    """What Adam is handed for one step on everyone, without noise."""
    layer = nn.Linear(features.shape[1], 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    rows = torch.tensor(features, dtype=torch.float32)
    labels = torch.ones(len(rows), dtype=torch.int64)
    settings = TrainingSettings(**{**vars(SETTINGS), "physical_batch": physical_batch})
    with gradients() as seen:
        train(nn.Sequential(layer), Ownership(owners), lambda c: (rows[c], labels[c]), NOISELESS, settings)
    return seen[0]


def check_one_unit_moves_the_sum_by_at_most_the_clipping_norm(records: int) -> None:
    generator = np.random.default_rng(records)
    features = np.concatenate([generator.normal(size=(30, 6)) * 5, np.tile(generator.normal(size=6) * 5, (records, 1))])
    owners = np.concatenate([np.repeat(np.arange(10), 3), np.full(records, 10)])
    moved = gradient_of(owners, features) - gradient_of(owners[:30], features[:30])
    assert np.linalg.norm(moved) <= 0.7 * (1 + 1e-5)
    assert np.linalg.norm(moved) >= 0.69


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpsgd, "standard_normal", np.zeros)


@pytest.mark.usefixtures("no_noise")
@pytest.mark.parametrize("records", [1, 2, 5, 20])
def test_a_unit_moves_the_summed_gradient_by_at_most_the_clipping_norm(records: int) -> None:
    check_one_unit_moves_the_sum_by_at_most_the_clipping_norm(records)


@pytest.mark.usefixtures("no_noise")
def test_clipping_row_by_row_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    by_unit = SecureDPOptimizer.clip_and_accumulate

    def by_row(self: SecureDPOptimizer) -> None:
        self.owners = torch.arange(len(self.owners))
        by_unit(self)

    monkeypatch.setattr(SecureDPOptimizer, "clip_and_accumulate", by_row)
    check_one_unit_moves_the_sum_by_at_most_the_clipping_norm(1)
    with pytest.raises(AssertionError):
        check_one_unit_moves_the_sum_by_at_most_the_clipping_norm(5)


@pytest.mark.usefixtures("no_noise")
def test_gradients_of_a_unit_that_overflow_together_count_as_zero_and_spoil_nobody_else_s() -> None:
    features = np.concatenate([np.ones((4, 2)), np.full((2, 2), 3e38)])
    owners = np.array([0, 1, 2, 3, 4, 4])
    moved = gradient_of(owners, features) - gradient_of(owners[:4], features[:4])
    assert np.isfinite(moved).all()
    assert np.linalg.norm(moved) <= 0.7 * (1 + 1e-5)


@pytest.mark.usefixtures("no_noise")
def test_parts_of_a_batch_cut_no_unit() -> None:
    generator = np.random.default_rng(0)
    owners = np.repeat(np.arange(12), generator.integers(1, 6, 12))
    features = generator.normal(size=(len(owners), 4)) * 4
    assert gradient_of(owners, features, physical_batch=7) == pytest.approx(gradient_of(owners, features), abs=1e-5)


def test_a_batch_takes_whole_units_each_by_its_own_coin() -> None:
    owners = np.repeat(np.arange(500), 3)
    asked: list[Any] = []

    def batch(chosen: Any) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(chosen)
        return torch.zeros(len(chosen), 2), torch.zeros(len(chosen), dtype=torch.int64)

    settings = TrainingSettings(**{**vars(SETTINGS), "steps": 40})
    train(nn.Sequential(nn.Linear(2, 2)), Ownership(owners), batch, PoissonGaussian(1.0, 0.2, 40), settings)
    drawn = 0
    for chosen in asked:
        assert set(Counter(owners[chosen]).values()) <= {3}
        drawn += len(chosen) // 3
    assert rate_p(drawn, 40 * 500, 0.2) >= ALPHA


def test_records_keep_their_owners_when_some_are_left_out() -> None:
    kept = CodedRecords(np.arange(10).reshape(5, 2), np.array([0, 0, 1, 2, 2])).where(
        np.array([False, True, False, True, True])
    )
    assert kept.codes[:, 0].tolist() == [2, 6, 8]
    assert kept.owners.tolist() == [0, 1, 1]


# Statement


def test_the_statement_says_how_many_records_and_which_window() -> None:
    privacy = {"privacy.unit": {"column": "person"}, "privacy.max_records": 4, "privacy.null_ids": "row"}
    chosen = contract({**privacy, "privacy.window": {"column": "seen", "every": "quarter"}})
    bound = wording.contribution(chosen)
    assert bound["max_records_per_unit"] == 4
    assert "at most 4 are kept" in bound["text"]
    assert "moves them by 4 in all" in bound["text"]
    assert "units of their own" in bound["text"]
    text = wording.unit(chosen, "2026-Q3")
    assert "of the window 2026-Q3" in text
    assert "a person present in k windows has k times the loss" in text
    assert "k times the loss" in wording.cumulative("2026-Q3", 0.0)
    assert "2026-Q3" in json.dumps(wording.not_protected(chosen, "2026-Q3"))
    once = wording.contribution(contract({"privacy.unit": {"column": "person"}}))
    assert "one is kept" in once["text"]
    assert "dropped" in once["text"]
