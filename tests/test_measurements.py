"""Intervals from a release's noisy counts hold the measured rows' own values as often as they say.

Noise is real. A check accepts a right interval but once in a million runs; intervals here miss a good deal less often
than they may, since their tail bound is no quantile. The twin believes in half of the noise and must be caught.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synth.measurements import Interval, Measurements, _in_range
from synth.mechanisms import noisy_integers
from synth.release.facts import PairCounts, ReleaseFacts
from synth.release.noisy_counts import write_measurements
from synth.schema import ColumnDomain, Schema
from tests.chance import ALPHA
from tests.release.conftest import contract, made

__all__ = ["contract", "made"]  # fixtures

SCHEMA = Schema(
    (
        ColumnDomain("size", "number", True, (0.0, 10.0, 20.0, 40.0), (10.0, 20.0, 40.0, 80.0)),
        ColumnDomain("place", "categorical", False, categories=("a", "b", "c", "d")),
        ColumnDomain("paid", "boolean", False, categories=(0, 1)),
    ),
    "paid",
)
GROUPS = {
    "size": np.array([0, 0, 1, 1, 2], np.int32),
    "place": np.array([0, 1, 1, 2, -1], np.int32),
    "paid": np.array([0, 1, -1], np.int32),
}
SIGMA, PAIR_SIGMA, ROWS, TRIALS = 5.0, 7.0, 400, 400


@pytest.fixture(scope="module")
def values() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    size = np.where(generator.random(ROWS) < 0.1, np.nan, generator.uniform(0, 80, ROWS))
    place = generator.choice(["a", "b", "c", "d"], ROWS, p=[0.6, 0.2, 0.15, 0.05])
    return pd.DataFrame({"size": size, "place": place, "paid": generator.random(ROWS) < 0.3})


@pytest.fixture(scope="module")
def exact(made: Any, values: pd.DataFrame) -> pd.DataFrame:
    """The file without any noise."""
    codes = SCHEMA.encode(values.assign(paid=values["paid"].astype(float)))
    marginals = {c.name: np.bincount(codes[:, i], minlength=c.size) for i, c in enumerate(SCHEMA.columns)}
    grouped = [GROUPS[name][codes[:, i]] for i, name in enumerate(SCHEMA.names)]
    sizes = [int(GROUPS[name].max()) + 1 for name in SCHEMA.names]
    tables = [
        np.bincount(grouped[i] * sizes[j] + grouped[j], minlength=sizes[i] * sizes[j])
        for i, j in combinations(range(3), 2)
    ]
    facts: ReleaseFacts = replace(
        made[0],
        schema=SCHEMA,
        marginals=marginals,
        marginal_sigma=SIGMA,
        pair_counts=PairCounts(GROUPS, np.concatenate(tables), PAIR_SIGMA),
    )
    buffer = io.BytesIO()
    write_measurements(buffer, facts)  # type: ignore[arg-type]
    return pd.read_parquet(buffer)


def noisy(frame: pd.DataFrame, trials: int) -> list[Measurements]:
    """As many releases of the same rows."""
    scales = frame["noise_scale"].to_numpy()
    noise = np.empty((trials, len(frame)), np.int64)
    for scale in np.unique(scales):
        noise[:, scales == scale] = noisy_integers(np.zeros((trials, (scales == scale).sum())), scale)
    return [Measurements(frame.assign(count=frame["count"] + each)) for each in noise]


@pytest.fixture(scope="module")
def releases(exact: pd.DataFrame) -> list[Measurements]:
    return noisy(exact, TRIALS)


Question = tuple[Callable[[Measurements], Interval], Callable[[pd.DataFrame], float]]

EXACT: dict[str, Question] = {
    "rows": (lambda m: m.rows(), len),
    "count": (lambda m: m.count({"place": "b"}), lambda v: (v["place"] == "b").sum()),
    "count of null": (lambda m: m.count({"size": None}), lambda v: v["size"].isna().sum()),
    "count of a range": (lambda m: m.count({"size": (0, 20)}), lambda v: (v["size"] < 20).sum()),
    "count in a pair": (
        lambda m: m.count({"paid": True, "size": (0, 20)}),
        lambda v: (v["paid"] & (v["size"] < 20)).sum(),
    ),
    "share": (lambda m: m.share({"paid": True}), lambda v: v["paid"].mean()),
    "share in a pair": (
        lambda m: m.share({"place": "a", "paid": True}),
        lambda v: ((v["place"] == "a") & v["paid"]).mean(),
    ),
}
BOUNDED: dict[str, Question] = {
    "mean": (lambda m: m.mean("size"), lambda v: v["size"].mean()),
    "count of a range that cuts cells": (
        lambda m: m.count({"size": (5, 33)}),
        lambda v: v["size"].between(5, 33).sum(),
    ),
    "share of one of several": (
        lambda m: m.share({"place": "c", "paid": False}),
        lambda v: ((v["place"] == "c") & ~v["paid"]).mean(),
    ),
}


def miss_p(releases: list[Measurements], question: Question, values: pd.DataFrame) -> float:
    """One-sided p-value that 95 % intervals miss no more than one time in twenty."""
    ask, truth = question
    value = float(truth(values))
    intervals = [ask(release) for release in releases]
    misses = sum(not interval.low - 1e-9 <= value <= interval.high + 1e-9 for interval in intervals)
    return float(stats.binomtest(misses, len(releases), 0.05, alternative="greater").pvalue)


@pytest.mark.parametrize("name", [*EXACT, *BOUNDED])
def test_an_interval_holds_the_rows_own_value_as_often_as_it_says(
    releases: list[Measurements], values: pd.DataFrame, name: str
) -> None:
    assert miss_p(releases, (EXACT | BOUNDED)[name], values) >= ALPHA


@pytest.mark.parametrize("name", EXACT)
def test_a_file_that_tells_half_of_its_noise_is_caught(exact: pd.DataFrame, values: pd.DataFrame, name: str) -> None:
    believed = []
    for release in noisy(exact, TRIALS):
        release._scale /= 2
        for part in (*release._columns.values(), *release._pairs.values()):
            part["noise_scale"] = part["noise_scale"] / 2
        believed.append(release)
    assert miss_p(believed, EXACT[name], values) < ALPHA


def test_without_noise_the_estimate_is_the_value_and_the_ends_are_the_tail_bound(
    exact: pd.DataFrame, values: pd.DataFrame
) -> None:
    found = Measurements(exact).count({"place": "a"})
    value = (values["place"] == "a").sum()
    assert (found.estimate_low, found.estimate_high) == (value, value)
    assert (found.high - value) / SIGMA == pytest.approx(math.sqrt(2 * math.log(40))) == pytest.approx(2.716, abs=1e-3)


def test_a_mean_is_bounded_by_both_ends_of_its_cells_however_little_noise_there_is(
    exact: pd.DataFrame, values: pd.DataFrame
) -> None:
    found = Measurements(exact.assign(noise_scale=1e-9)).mean("size")
    assert found.estimate_low < values["size"].mean() < found.estimate_high
    assert found.high - found.low == pytest.approx(found.estimate_high - found.estimate_low, rel=1e-6)
    assert found.high - found.low > 10


def test_a_range_that_cuts_a_cell_counts_it_as_empty_and_as_full(exact: pd.DataFrame, values: pd.DataFrame) -> None:
    found = Measurements(exact).count({"size": (5, 33)})
    assert found.estimate_low == values["size"].between(10, 20).sum()
    assert found.estimate_high == (values["size"] < 40).sum()


@pytest.mark.parametrize(
    ("wanted", "inside", "met"),
    [
        ((3, 4), 1, 2),  # a cell of one number, and a part of the next
        ((3, 5), 2, 2),
        ((4, 4.5), 0, 1),  # a part of the numbers between two marks
        ((0, 3), 1, 1),
        ((5, math.inf), 1, 1),  # the last cell has its upper end
        (3, 1, 1),
        (3.5, 0, 1),
        (9, 0, 1),
    ],
)
def test_the_upper_end_of_a_range_is_no_part_of_it_and_of_a_cell_only_where_none_starts(
    wanted: Any, inside: int, met: int
) -> None:
    after = math.nextafter(3, 4)
    lower, upper = np.array([0, 3, after, 5]), np.array([3, 3, 5, 9.0])
    found = _in_range(lower, upper, wanted)
    assert (found[0].sum(), found[1].sum()) == (inside, met)


def test_a_share_takes_the_number_of_rows_from_all_columns(exact: pd.DataFrame) -> None:
    alone = Measurements(exact[(exact["mechanism"] == "marginals") & (exact["column"] == "place")])
    together = Measurements(exact)
    assert _width(together.share({"place": "a"})) < _width(alone.share({"place": "a"}))


def test_noise_as_large_as_the_table_tells_nothing(exact: pd.DataFrame) -> None:
    drowned = Measurements(exact.assign(noise_scale=1e4))
    assert (drowned.share({"paid": True}).low, drowned.share({"paid": True}).high) == (0, 1)
    assert (drowned.mean("size").low, drowned.mean("size").high) == (0, 80)


def test_it_reads_the_file_of_a_release(exact: pd.DataFrame, tmp_path: Path) -> None:
    exact.to_parquet(tmp_path / "measurements.parquet")
    read = Measurements.read(tmp_path / "measurements.parquet")
    assert read.columns == SCHEMA.names
    assert read.rows() == Measurements(exact).rows()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda m: m.count({"colour": 1}), "one of the columns size, place, paid"),
        (lambda m: m.count({"place": "e"}), "a declared category of 'place'"),
        (lambda m: m.count({}), "on one column or on two, given 0"),
        (lambda m: m.mean("place"), "a column of numbers, given 'place'"),
        (lambda m: m.rows(1.0), "between 0 and 1"),
        (lambda m: m.count({"place": None, "paid": True}), "left out of pairs"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    exact: pd.DataFrame, ask: Callable[[Measurements], Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        ask(Measurements(exact))


def test_pairs_of_a_release_that_measured_none_are_refused(exact: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="measured no pairs"):
        Measurements(exact[exact["mechanism"] == "marginals"]).count({"place": "a", "paid": True})


def _width(interval: Interval) -> float:
    return interval.high - interval.low
