"""The gate of a number: one person moves the sums by what is charged, and without noise they are mean errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from synth.events import DiscreteGaussian
from synth.guard import Sealed
from synth.plan import ReleasePlan
from synth.quality import gate, number_errors
from synth.quality.learners import train_learners
from synth.quality.results import Measurement, NoisyCount
from synth.records import HOLDOUT, Records
from synth.schema import Schema
from tests.example_contract import contract, planned
from tests.sealed import own_units, uncharged

NUMBER: dict[str, Any] = {
    "method.options": {},
    "task": {"target": "income", "kind": "regression"},
    "quality": {"max_error_gradient_boosting": 0.3},
}
NONE: dict[str, Any] = {"method.options": {}, "task": {"kind": "none"}}
SCHEMA = Schema.from_contract(contract(NUMBER))
INCOME = SCHEMA.names.index("income")
SPREAD = [0.0 if i < 100 or i >= 500 else 1 / 400 for i in range(SCHEMA["income"].size)]


class Off:
    """Predicts what is off by so much from what the age column holds."""

    def __init__(self, by: float) -> None:
        self._by = by

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """From each row alone."""
        return features[:, 0] * 500 + self._by


LEARNERS = (Off(1000), Off(-4000))


def rows(count: int, seed: int) -> Any:
    """Parsed rows in which the income is 500 times the age, where it is known."""
    generator = np.random.default_rng(seed)
    frame = SCHEMA.decode(
        np.column_stack([generator.integers(0, c.cells, count) for c in SCHEMA.columns]).astype(np.int32), generator
    )
    frame = frame.astype({"smoker": float, "ill": float, "tier": float, "city": object, "age": float})
    return frame.assign(income=np.where(generator.random(count) < 0.2, np.nan, frame["age"] * 500))


def with_sigma(plan: ReleasePlan, sigma: float) -> ReleasePlan:
    changed = [
        replace(m, event=replace(m.event, sigma=sigma)) if isinstance(m.event, DiscreteGaussian) else m
        for m in plan.mechanisms
    ]
    return replace(plan, mechanisms=tuple(changed))


def measure(
    parsed: Any, sigma: float, changes: dict[str, Any] = NUMBER, learners: Any = LEARNERS, owners: Any = None
) -> tuple[dict[str, Measurement], dict[str, Any]]:
    """Measurements by name, and what each mechanism released."""
    released: dict[str, Any] = {}
    schema = Schema.from_contract(contract(changes))

    def once(name: str, compute: Callable[[Any], Any]) -> Any:
        released[name] = uncharged(name, compute)
        return released[name]

    measurements, _ = gate.measure(
        contract=contract(changes),
        schema=schema,
        plan=with_sigma(planned(changes), sigma),
        once=once,
        learners=dict.fromkeys(schema.targets, learners),
        label_model=lambda codes, target: np.full(len(codes), 25_000.0),
        holdout=Sealed(Records(parsed, own_units(len(parsed)) if owners is None else owners), (HOLDOUT,)),
        synthetic_codes=schema.encode(rows(300, 9)),
        distributions=[np.array(SPREAD) if c.name == "income" else np.full(c.size, 1 / c.size) for c in schema.columns],
    )
    return {m.name: m for m in measurements}, released


def check_sensitivity(patch: pytest.MonkeyPatch) -> None:
    """Without noise: every removal of one person, and of one whose answers are no numbers."""
    patch.setattr("synth.mechanisms.noisy_integers", lambda values, sigma: np.asarray(values, dtype=np.int64))
    allowed = planned(NUMBER).counts("gate_errors").sensitivity
    largest = 0
    for learners in ((Off(1000), Off(-4e9)), (Off(np.nan), Off(np.inf))):
        table = rows(40, 1)
        whole = measure(table, 1.0, learners=learners)[1]["gate_errors"]["sums"]
        for person in range(40):
            fewer = measure(table.drop(index=person), 1.0, learners=learners)[1]["gate_errors"]["sums"]
            moved = np.abs(whole - fewer)
            assert moved.max() <= allowed
            largest = max(largest, moved[:3].max())
    assert largest == allowed


def test_one_person_moves_each_sum_by_at_most_its_sensitivity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(NUMBER).counts("gate_errors").compositions == 4
    check_sensitivity(monkeypatch)


@pytest.mark.parametrize("changes", [NUMBER, NONE], ids=["a number", "no target"])
def test_a_unit_with_all_of_its_records_moves_each_statistic_by_at_most_its_sensitivity(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three records, all alike and as far off as counts: given the same number of records, as was released."""
    monkeypatch.setattr("synth.mechanisms.noisy_integers", lambda values, sigma: np.asarray(values, dtype=np.int64))
    monkeypatch.setattr(gate, "_count", lambda *_: NoisyCount(20.0, 1.0))
    changes = {**changes, "privacy.max_records": 3}
    table = rows(40, 1)
    first = table[table["income"].notna()].index[0]
    whole = pd.concat([table, table.loc[[first] * 3]], ignore_index=True)
    owners = np.append(np.arange(40), [40, 40, 40])
    here, there = (
        measure(t, 1.0, changes, (Off(-4e9), Off(-4e9)), own)[1] for t, own in ((whole, owners), (table, None))
    )
    for name in {"gate_errors", "gate_pairs"} & set(here):
        (found,) = here[name].values()
        moved = np.abs(found - next(iter(there[name].values()))).max()
        assert moved == planned(changes).counts(name).sensitivity


@pytest.mark.parametrize("changes", [NUMBER, NONE], ids=["a number", "no target"])
def test_more_records_of_a_unit_than_are_charged_for_end_the_release(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_count", lambda *_: NoisyCount(20.0, 1.0))
    with pytest.raises(ValueError, match="not bounded"):
        measure(rows(4, 1), 1.0, changes, owners=np.array([0, 1, 1, 2]))


def test_errors_without_a_bound_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def unbounded(true: Any, answer: Any, bound: float) -> Any:
        return np.where(np.isnan(true), 0, np.rint(np.nan_to_num(np.abs(true - answer) / bound) * 64)).astype(np.int64)

    monkeypatch.setattr(number_errors, "_errors", unbounded)
    with pytest.raises(AssertionError):
        check_sensitivity(monkeypatch)


def test_with_hardly_any_noise_the_numbers_are_the_exact_mean_errors() -> None:
    table = rows(400, 2)
    found, _ = measure(table, 0.05)
    known = table["income"].dropna()
    rounding = 0.5 / 64
    assert found["mae_gradient_boosting"].value == pytest.approx(1000 / 50_000, abs=rounding)
    assert found["mae_linear_regression"].value == pytest.approx(4000 / 50_000, abs=rounding)
    bound = number_errors.error_bound(SCHEMA["income"], np.array(SPREAD))
    own = np.minimum(np.abs(known - 25_000), bound).mean() / 50_000
    assert found["mae_label_model"].value == pytest.approx(own, abs=rounding)
    assert found["mae_gradient_boosting"].threshold == 0.3
    assert found["mae_gradient_boosting"].passed
    assert found["mae_gradient_boosting"].reference == pytest.approx(
        np.array(SPREAD)[:-1] @ np.abs(SCHEMA["income"].representatives[:-1] - 6000) / 50_000, abs=0.2
    )


@pytest.mark.statistical
def test_the_stated_noise_is_the_noise_of_the_errors() -> None:
    """200 measurements: standard deviations within a third; fails less than once in a million runs."""
    table = rows(200, 3)
    drawn = [measure(table, 400.0)[0] for _ in range(200)]
    for name in ("mae_gradient_boosting", "mae_linear_regression"):
        values, stated = np.array([m[name].value for m in drawn]), np.mean([m[name].noise_scale for m in drawn])
        assert 0.7 < values.std() / stated < 1.35


@pytest.mark.parametrize("count", [0, 1])
def test_a_holdout_of_nobody_is_measured(count: int) -> None:
    found, _ = measure(rows(count, 1), 300.0)
    assert all(0 <= m.low <= m.value <= m.high <= 1 and np.isfinite(m.noise_scale) for m in found.values())


def test_without_a_target_records_are_counted_and_only_distances_measured() -> None:
    found, released = measure(rows(120, 1), 0.05, NONE)
    assert set(found) == {"pair_distance"}
    assert released["gate_records"]["counts"].tolist() == [120]
    assert {m.name for m in planned(NONE).mechanisms if m.branches == (HOLDOUT,)} == {"gate_records", "gate_pairs"}


def test_learners_of_a_number_learn_it_and_leave_rows_without_one_out() -> None:
    table = rows(1500, 4)
    learners = train_learners(SCHEMA, table, SCHEMA.encode(table), "income")
    found, _ = measure(rows(300, 5), 0.05, learners=learners)
    for name in ("mae_gradient_boosting", "mae_linear_regression"):
        assert found[name].value < 0.05
    table["income"] = 7000.0
    for learner in train_learners(SCHEMA, table, SCHEMA.encode(table), "income"):
        assert learner.predict(np.zeros((2, 5))).tolist() == [7000.0, 7000.0]
