"""Selecting categories: what is shown, how often, and to whom that could matter. Broken twins meet the same tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from synth import accounting
from synth.contract import OpenCategoricalColumn
from synth.events import ThresholdedHistogram
from synth.mechanisms import noisy_integers
from synth.partition_selection import common_values, resolved, select
from synth.plan import cells
from synth.randomness import seeded
from synth.records import Records
from synth.schema import Schema
from tests.chance import ALPHA, delta_at_least, discrete_gaussian_pmf, rate_p
from tests.example_contract import contract, planned

COLUMN = OpenCategoricalColumn(type="open_categorical", max_categories=50)
OPEN = {
    "schema.city": {"type": "open_categorical", "max_categories": 3, "nullable": True, "other": "elsewhere"},
    "schema.job": {"type": "open_categorical", "max_categories": 400},
}
TRIALS = 3000


def values(**counts: int) -> npt.NDArray[Any]:
    return np.array([text for text, count in counts.items() for _ in range(count)], dtype=object)


def passes(count: int, sigma: float, threshold: int) -> float:
    pmf = discrete_gaussian_pmf(sigma)
    return sum(pmf(noise) for noise in range(threshold - count, threshold - count + 400))


def shown_rate(found: npt.NDArray[Any], text: str, sigma: float, threshold: int) -> int:
    return sum(text in common_values(found, COLUMN, sigma, threshold) for _ in range(TRIALS))


@pytest.mark.statistical
@pytest.mark.parametrize("count", [1, 8, 12, 16])
def test_a_value_is_shown_as_often_as_its_noise_passes_the_threshold(count: int) -> None:
    """Fails once in a million runs."""
    found = values(gouda=count, brie=9)
    assert rate_p(shown_rate(found, "gouda", 4.0, 12), TRIALS, passes(count, 4.0, 12)) >= ALPHA


def test_half_of_the_noise_would_be_found() -> None:
    assert rate_p(shown_rate(values(gouda=8), "gouda", 2.0, 12), TRIALS, passes(8, 4.0, 12)) < ALPHA


@pytest.mark.statistical
@pytest.mark.parametrize("spread", [(1, 1, 1), (2, 1), (3,)])
@pytest.mark.parametrize("sigma", [0.8, 6.0])
def test_values_of_one_person_alone_are_shown_with_probability_delta_at_most(
    spread: tuple[int, ...], sigma: float
) -> None:
    """At a δ that can be seen; among others' values, which are shown or not. Fails once in a million runs."""
    delta = 0.02
    event = ThresholdedHistogram.for_deltas(sigma, 3, (delta,))
    own = {f"own{number}": count for number, count in enumerate(spread)}
    found = values(gouda=40, brie=7, **own)
    times = sum(
        any(text in own for text in common_values(found, COLUMN, sigma, event.thresholds[0])) for _ in range(TRIALS)
    )
    assert times / TRIALS <= delta or rate_p(times, TRIALS, delta) >= ALPHA
    # One less would be too much for some way to spread the records.
    with pytest.raises(ValueError, match="probability"):
        ThresholdedHistogram(sigma, 3, (event.thresholds[0] - 1,), delta)


SIGMA, SELECTION, DELTA = 6.0, 0.02, 0.05
EVENT = ThresholdedHistogram.for_deltas(SIGMA, 1, (SELECTION,))
EPSILON = accounting.epsilon([EVENT], DELTA)
Selection = Callable[[npt.NDArray[Any]], tuple[str, ...]]


def audited(selection: Selection, shared: int) -> float:
    """A lower bound on δ at the claimed ε, from one person more with a value of their own, or a shared one."""
    worst = 0.0
    for own in ("gouda", "own"):
        without = values(gouda=shared, brie=80)
        tables = (np.append(without, np.array([own], dtype=object)), without)
        samples = []
        for table in tables:
            shown = [selection(table) for _ in range(TRIALS)]
            samples.append(np.array([2 * ("own" in texts) + ("gouda" in texts) for texts in shown]))
        worst = max(worst, delta_at_least(samples[0], samples[1], EPSILON, [0.5, 1.5]))
    return worst


def claimed(table: npt.NDArray[Any]) -> tuple[str, ...]:
    return common_values(table, COLUMN, SIGMA, EVENT.thresholds[0])


def without_noise(table: npt.NDArray[Any]) -> tuple[str, ...]:
    texts, counts = np.unique(table, return_counts=True)
    return tuple(texts[counts >= EVENT.thresholds[0]])


def with_a_low_threshold(table: npt.NDArray[Any]) -> tuple[str, ...]:
    return common_values(table, COLUMN, SIGMA, 4)


def read_off_the_data(table: npt.NDArray[Any]) -> tuple[str, ...]:
    texts, counts = np.unique(table, return_counts=True)
    noisy_integers(counts, SIGMA)
    return tuple(texts)


@pytest.mark.statistical
def test_the_selection_keeps_its_claim() -> None:
    """Fails less than once in a million runs."""
    assert audited(claimed, EVENT.thresholds[0] - 1) <= DELTA


@pytest.mark.parametrize("twin", [without_noise, with_a_low_threshold, read_off_the_data])
def test_a_selection_that_is_broken_is_caught(twin: Selection) -> None:
    assert audited(twin, EVENT.thresholds[0] - 1) > DELTA


def test_of_too_many_values_those_with_the_largest_noisy_counts_are_kept_in_the_order_of_their_texts() -> None:
    found = values(z=900, a=700, m=800, b=300, c=200)
    few = COLUMN.model_copy(update={"max_categories": 3})
    assert common_values(found, few, 2.0, 20) == ("a", "m", "z")


def test_neither_order_nor_noise_tell_where_rows_are() -> None:
    """The same counts and the same draws give the same values, however rows are ordered."""
    generator = np.random.default_rng(5)
    found = np.array([f"v{number}" for number in generator.zipf(1.3, 4000) if number < 300], dtype=object)
    shown = []
    for _ in range(3):
        with seeded(11, "train"):
            shown.append(common_values(generator.permutation(found), COLUMN, 3.0, 14))
    assert shown[0] == shown[1] == shown[2]
    assert len(shown[0]) > 5


@pytest.mark.parametrize(
    "text", ["", "x" * 101, "line\nbreak", "\x1b[31mred", "(other)", None, float("nan")], ids=repr
)  # fmt: skip
def test_what_may_be_no_category_is_none_however_common_it_is(text: Any) -> None:
    found = np.array([text] * 500 + ["gouda"] * 500, dtype=object)
    assert set(common_values(found, COLUMN, 1.0, 30)) <= {"gouda", ""}
    if text != "":
        assert common_values(found, COLUMN, 1.0, 30) == ("gouda",)


def test_of_no_rows_nothing_is_shown() -> None:
    assert common_values(np.array([], dtype=object), COLUMN, 2.0, 14) == ()
    assert common_values(np.array([None, None], dtype=object), COLUMN, 2.0, 14) == ()


def opened_records(owners: npt.NDArray[np.int64]) -> Records:
    cities = np.resize(np.array(["Bern", "Graz", "Übersee", None], dtype=object), len(owners))
    return Records(pd.DataFrame({"city": cities, "job": "baker"}, dtype=object), owners)


def test_what_is_committed_gives_the_categories_back() -> None:
    chosen = contract(OPEN)
    event = ThresholdedHistogram.for_deltas(2.0, 1, (1e-6, 1e-6))
    selected = select(opened_records(np.arange(800)), chosen, event)
    schema = resolved(Schema.from_contract(chosen), selected)
    assert schema["city"].categories == ("Bern", "Graz", "Übersee", "elsewhere")
    assert schema["job"].categories == ("baker", "(other)")
    assert not schema.awaits_selection
    assert schema["age"] == Schema.from_contract(chosen)["age"]
    codes = schema["city"].encode(np.array(["Graz", "elsewhere", "Rome", None, ""], dtype=object))
    assert codes.tolist() == [1, 3, 3, 4, 4]


def test_a_unit_with_more_rows_than_is_charged_for_ends_the_release() -> None:
    event = ThresholdedHistogram.for_deltas(2.0, 1, (1e-6, 1e-6))
    with pytest.raises(ValueError, match="at most 1 rows a unit"):
        select(opened_records(np.repeat(np.arange(400), 2)), contract(OPEN), event)
    with pytest.raises(ValueError, match="one threshold a column"):
        select(opened_records(np.arange(9)), contract(OPEN), ThresholdedHistogram.for_deltas(2.0, 1, (1e-6,)))


def test_before_the_selection_nothing_can_be_encoded() -> None:
    schema = Schema.from_contract(contract(OPEN))
    assert schema["city"].parse(pd.array(["x "], dtype="string").__arrow_array__()).tolist() == ["x"]
    with pytest.raises(ValueError, match="'city' is open"):
        schema["city"].encode(np.array(["Bern"], dtype=object))


def test_noise_is_planned_for_as_many_categories_as_there_may_be() -> None:
    plan, schema = planned(OPEN), Schema.from_contract(contract(OPEN))
    assert (schema["city"].cells, schema["job"].cells) == (4, 401)
    assert cells(plan["marginals"]) == sum(column.size for column in schema.columns)
    assert plan.thresholds("categories").noise.compositions == 2
    assert plan["categories"].branches == ("train",)
