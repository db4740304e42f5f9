"""Subgroups: what one unit moves, what is charged for it, what the numbers are, and what is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from synth.contract import Quality
from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.plan import ReleasePlan
from synth.quality import subgroups
from synth.quality.results import WIDEST_JUDGED, Accuracy, Group, Subgroups
from synth.records import HOLDOUT, Owners, Records
from synth.schema import Codes, Schema
from tests.chance import ALPHA, rate_p
from tests.example_contract import contract, planned
from tests.quality.test_gate import LEARNERS, parsed, random_codes
from tests.sealed import own_units, uncharged

DECLARED = ["tier", "city", "smoker"]
CHANGES: dict[str, Any] = {"quality": {"subgroups": DECLARED}}
SEVERAL: dict[str, Any] = {**CHANGES, "privacy.max_records": 3}
SCHEMA = Schema.from_contract(contract(CHANGES))
Counts = Mapping[str, npt.NDArray[np.int64]]


def label_model(codes: Codes) -> Codes:
    return codes[:, 1] % 2


def with_sigma(plan: ReleasePlan, sigma: float) -> ReleasePlan:
    own = plan[subgroups.MECHANISM]
    assert isinstance(own.event, DiscreteGaussian)
    changed = replace(own, event=replace(own.event, sigma=sigma))
    return replace(plan, mechanisms=tuple(changed if m.name == own.name else m for m in plan.mechanisms))


def measure(
    holdout: Codes,
    *,
    sigma: float,
    owners: Owners | None = None,
    changes: dict[str, Any] = CHANGES,
    released: list[npt.NDArray[np.int64]] | None = None,
) -> tuple[Subgroups, ...]:
    """The subgroups; what the mechanism released is added to ``released``."""

    def once(name: str, compute: Callable[[Spend], Counts]) -> Any:
        result = uncharged(name, compute)
        if released is not None:
            released.append(result["counts"])
        return result

    own = own_units(len(holdout)) if owners is None else owners
    return subgroups.measure(
        contract=contract(changes),
        schema=SCHEMA,
        plan=with_sigma(planned(changes), sigma),
        once=once,
        learners={SCHEMA.target: LEARNERS},
        label_model=lambda codes, target: label_model(codes),
        holdout=Sealed(Records(parsed(holdout), own), (HOLDOUT,)),
    )


def answers(codes: Codes) -> dict[str, npt.NDArray[np.bool_]]:
    """Which rows each model labels right, by hand."""
    labels = codes[:, SCHEMA.target_index]
    by_feature = [np.nan_to_num(SCHEMA.columns[i].representatives[codes[:, i]]).astype(int) % 2 for i in (0, 3)]
    guesses = dict(zip(subgroups.PREDICTORS, [*by_feature, label_model(codes)], strict=True))
    return {name: guess == labels for name, guess in guesses.items()}


def test_with_hardly_any_noise_the_numbers_are_the_exact_ones() -> None:
    holdout = random_codes(700, 1, skewed=True)
    right = answers(holdout)
    found = measure(holdout, sigma=0.05)
    assert [own.column for own in found] == DECLARED
    for own in found:
        column, codes = SCHEMA[own.column], holdout[:, SCHEMA.names.index(own.column)]
        assert len(own.groups) == (column.size if column.nullable else column.cells)
        for code, group in enumerate(own.groups):
            inside = codes == code
            assert group.records == inside.sum()
            for name, accuracy in group.accuracies.items():
                assert accuracy.value == pytest.approx(right[name][inside].mean(), abs=1e-9)
        for name, accuracy in own.everybody.items():
            assert accuracy.value == pytest.approx(right[name].mean(), abs=1e-9)
    tier, city, smoker = found
    assert [group.label for group in tier.groups] == ["1", "2", "3"]
    assert [group.label for group in city.groups] == ["Bern", "Graz", "Linz", "null"]
    assert [group.label for group in smoker.groups] == ["false", "true"]


def check_sensitivity(patch: pytest.MonkeyPatch, changes: dict[str, Any] = SEVERAL) -> None:
    """Without noise: every removal of one unit, with all of its records, from several holdouts."""
    patch.setattr("synth.mechanisms.noisy_integers", lambda values, sigma: np.asarray(values, dtype=np.int64))
    event = planned(changes).counts(subgroups.MECHANISM)
    assert event.compositions == len(DECLARED)
    sizes = [SCHEMA[name].size * 8 for name in DECLARED]
    largest = 0
    for seed, rows in enumerate((3, 6, 18, 60)):
        holdout = random_codes(rows, seed, skewed=True)
        holdout[:3] = holdout[0]  # a unit whose records are all alike
        owners = np.repeat(np.arange(rows // event.sensitivity), event.sensitivity)
        released: list[npt.NDArray[np.int64]] = []
        measure(holdout, sigma=1.0, owners=owners, changes=changes, released=released)
        for unit in range(owners[-1] + 1):
            kept = owners != unit
            fewer = np.unique(owners[kept], return_inverse=True)[1]
            measure(holdout[kept], sigma=1.0, owners=fewer, changes=changes, released=released)
            moved = np.split(np.abs(released[0] - released[-1]), np.cumsum(sizes)[:-1])
            assert len(moved) == event.compositions
            assert all(own.sum() <= event.sensitivity for own in moved)
            largest = max(largest, *(int(own.max()) for own in moved))
    assert largest == event.sensitivity, "the bound is not used: it, or this test, is too loose"


@pytest.mark.parametrize("changes", [CHANGES, SEVERAL], ids=["one record", "three records"])
def test_one_unit_moves_the_histogram_of_each_column_by_what_is_charged(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    check_sensitivity(monkeypatch, changes)


def counted_once_more_for_each_model(patch: pytest.MonkeyPatch) -> None:
    """A record counts once for each model, as if each had a histogram of its own."""
    honest = subgroups.noisy_marginals

    def repeated(codes: Codes, sizes: Any, event: DiscreteGaussian, owners: Owners) -> Any:
        return [3 * counts for counts in honest(codes, sizes, event, owners)]

    patch.setattr(subgroups, "noisy_marginals", repeated)


def scaled_to_the_private_count(patch: pytest.MonkeyPatch) -> None:
    honest = subgroups.noisy_marginals

    def shares(codes: Codes, sizes: Any, event: DiscreteGaussian, owners: Owners) -> Any:
        return [np.round(1000 * counts / max(1, len(codes))) for counts in honest(codes, sizes, event, owners)]

    patch.setattr(subgroups, "noisy_marginals", shares)


@pytest.mark.parametrize("breaking", [counted_once_more_for_each_model, scaled_to_the_private_count])
def test_histograms_of_another_sensitivity_are_caught(
    monkeypatch: pytest.MonkeyPatch, breaking: Callable[[pytest.MonkeyPatch], None]
) -> None:
    breaking(monkeypatch)
    with pytest.raises(AssertionError):
        check_sensitivity(monkeypatch)


def test_more_records_of_a_unit_than_are_charged_for_end_the_release() -> None:
    with pytest.raises(ValueError, match="contributions were not bounded"):
        measure(random_codes(4, 1), sigma=5.0, owners=np.zeros(4, np.int64), changes=SEVERAL)


def test_the_mechanism_is_in_the_plan_where_subgroups_are_declared_and_the_gate_divides_in_three() -> None:
    without, with_them, several = planned(), planned(CHANGES), planned(SEVERAL)
    names = [mechanism.name for mechanism in without.mechanisms]
    assert [mechanism.name for mechanism in with_them.mechanisms] == [*names, subgroups.MECHANISM]
    own = with_them[subgroups.MECHANISM]
    assert (own.branches, own.parameters) == ((HOLDOUT,), {"columns": 3, "cells": 8 * (4 + 4 + 3)})
    event = with_them.counts(subgroups.MECHANISM)
    assert (event.sensitivity, event.compositions) == (1, 3)
    assert several.counts(subgroups.MECHANISM).sensitivity == 3
    gate = [with_them[name] for name in ("gate_outcomes", "gate_pairs", subgroups.MECHANISM)]
    assert [mechanism.share for mechanism in gate] == pytest.approx([1 / 3] * 3)
    costs = [with_them.counts(mechanism.name).rho for mechanism in gate]
    assert costs == pytest.approx([costs[0]] * 3)
    assert with_them.counts("gate_outcomes").sigma > without.counts("gate_outcomes").sigma
    assert with_them.epsilon_holdout <= with_them.epsilon <= 2.0


@pytest.mark.statistical
@pytest.mark.parametrize("drawn_with", [6.0, 3.0], ids=["as planned", "half of it"])
def test_the_noise_is_as_planned(drawn_with: float) -> None:
    """Some 3,500 draws: a deviation of 10 % is eight standard errors. Half of the noise is caught."""
    holdout, released = random_codes(200, 1), []
    for _ in range(40):
        measure(holdout, sigma=drawn_with, released=released)
    exact: list[npt.NDArray[np.int64]] = []
    measure(holdout, sigma=0.05, released=exact)
    noise = np.stack(released) - exact[0]
    assert (abs(noise.std() / 6.0 - 1) < 0.1) == (drawn_with == 6.0)
    assert abs(noise.mean()) < 6 * 6.0 / math.sqrt(noise.size)


def one_group(records: int, accuracy: float, sigma: float, generator: np.random.Generator, most: int = 1) -> Accuracy:
    """A drawn group: units of ``most`` records that are all alike, and rounded Gaussian noise on its cells."""
    right = most * generator.binomial(records // most, accuracy)
    cells = np.zeros(8)
    cells[1], cells[0] = right, records - right
    return subgroups._accuracies(cells + np.rint(generator.normal(0, sigma, 8)), sigma, most)["gradient_boosting"]


@pytest.mark.statistical
@pytest.mark.parametrize("records", [0, 3, 30, 120, 600, 6000])
@pytest.mark.parametrize(("accuracy", "most"), [(0.5, 1), (0.85, 1), (0.99, 1), (0.85, 3)])
def test_the_interval_holds_the_accuracy_of_the_population_whatever_the_size(
    records: int, accuracy: float, most: int
) -> None:
    """Of 2,000 groups no fewer than 95 % less a binomial's slip, which each case exceeds once in a million runs."""
    generator = np.random.default_rng(records)
    drawn = [one_group(records, accuracy, 6.0, generator, most) for _ in range(2000)]
    missed = sum(not own.low <= accuracy <= own.high for own in drawn)
    assert missed / 2000 <= 0.05 or rate_p(missed, 2000, 0.05) >= ALPHA
    assert all(0 <= own.low <= own.value <= own.high <= 1 for own in drawn)


@pytest.mark.statistical
def test_an_interval_for_privacy_noise_alone_would_miss() -> None:
    """The broken twin of the test before: without the sampling of the holdout."""
    generator = np.random.default_rng(0)
    drawn = [one_group(600, 0.85, 6.0, generator) for _ in range(2000)]
    missed = sum(abs(own.value - 0.85) > 1.96 * own.noise_scale for own in drawn)
    assert missed / 2000 > 0.05
    assert rate_p(missed, 2000, 0.05) < ALPHA


@pytest.mark.statistical
def test_nothing_is_told_of_groups_that_are_mostly_noise() -> None:
    """2,000 empty groups, and 2,000 of three records: hardly one passes for known, and then as an interval errs."""
    generator = np.random.default_rng(1)
    for records in (0, 3):
        known = sum(one_group(records, 0.85, 6.0, generator).is_known for _ in range(2000))
        assert known / 2000 < 0.01
    assert all(one_group(6000, 0.85, 6.0, generator).is_known for _ in range(100))


def known(value: float, half: float = 0.02) -> Accuracy:
    return Accuracy(value, half / 3, max(0.0, value - half), min(1.0, value + half))


def group(label: str, accuracy: Accuracy) -> Group:
    return Group(label, 500, dict.fromkeys(subgroups.PREDICTORS, accuracy))


def of(**accuracies: Accuracy) -> Subgroups:
    groups = tuple(group(label, accuracy) for label, accuracy in accuracies.items())
    return Subgroups("city", 17.0, groups, dict.fromkeys(subgroups.PREDICTORS, known(0.8)))


def test_thresholds_judge_the_worst_group_and_the_gap() -> None:
    found = [of(bern=known(0.9), graz=known(0.72), linz=known(0.8))]
    quality = Quality(subgroups=("city",), min_subgroup_accuracy=0.7, max_subgroup_gap=0.2)
    least, gap = subgroups.measurements(found, quality)
    assert (least.name, least.value, least.reference) == ("subgroup_accuracy_city", 0.72, 0.8)
    assert (gap.name, gap.value) == ("subgroup_gap_city", pytest.approx(0.18))
    assert gap.high - gap.value == pytest.approx(math.hypot(0.02, 0.02))
    assert least.passed
    assert gap.passed
    stricter = Quality(subgroups=("city",), min_subgroup_accuracy=0.73, max_subgroup_gap=0.17)
    assert not any(judged.passed for judged in subgroups.measurements(found, stricter))
    assert all(judged.passed for judged in subgroups.measurements(found, Quality(subgroups=("city",))))


def test_a_group_without_enough_records_is_neither_reached_nor_missed() -> None:
    quality = Quality(subgroups=("city",), min_subgroup_accuracy=0.7, max_subgroup_gap=0.1)
    wide = known(0.2, 1.01 * WIDEST_JUDGED)
    (least,) = subgroups.measurements([of(bern=known(0.9), graz=wide)], quality)
    assert (least.value, least.passed) == (0.9, True)
    assert subgroups.measurements([of(bern=wide, graz=wide)], quality) == ()
    assert not subgroups.measurements([of(bern=known(0.9), graz=known(0.2))], quality)[0].passed


def test_a_holdout_of_nobody_is_measured_and_nothing_told_of_it() -> None:
    for own in measure(random_codes(0, 1), sigma=5.0):
        assert own.known == ()
