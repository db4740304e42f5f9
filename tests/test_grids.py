"""Decimal grids: cells in order over the declared range, one for each round number, from the contract alone."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from synth.errors import ContractError
from synth.schema import ColumnDomain, Schema
from tests.example_contract import contract

MIXTURE = {"method.options": {"structure": "mixture"}}


def domain(column: dict[str, Any], changes: dict[str, Any] | None = None) -> ColumnDomain:
    return Schema.from_contract(contract({**MIXTURE, "schema.x": column, **(changes or {})}))["x"]


@st.composite
def bounds(draw: st.DrawFn) -> dict[str, Any]:
    """Columns of all sizes, a few of them narrow and far from zero, or around it."""
    kind = draw(st.sampled_from(["integer", "number"]))
    exponent = draw(st.integers(0, 15) if kind == "integer" else st.integers(-6, 15))
    size = float(f"1e{exponent}")
    number = (
        st.integers(-int(size), int(size)) if kind == "integer" else st.floats(-1, 1).map(lambda x: round(x, 4) * size)
    )
    low, high = sorted(draw(st.tuples(number, number)))
    assume(high - low >= max(abs(low), abs(high)) * 1e-9 and high > low)
    scale = draw(st.sampled_from(["auto", "decimal"]))
    return {"type": kind, "min": low, "max": high, "scale": scale, "nullable": draw(st.booleans())}


@given(bounds())
@settings(max_examples=300, deadline=None)
def test_cells_are_in_order_share_no_number_and_cover_the_range(column: dict[str, Any]) -> None:
    """Two cells of real numbers may share an end in name; the number itself is in the later one."""
    x = domain(column)
    assert (x.lower[0], x.upper[-1]) == (column["min"], column["max"])
    assert all(low <= high for low, high in zip(x.lower, x.upper, strict=True))
    for (_, high), (low, _) in pairwise(zip(x.lower, x.upper, strict=True)):
        if column["type"] == "integer":
            assert low == high + 1
        else:
            assert high <= low <= math.nextafter(high, math.inf)
    assert all(before < after for before, after in pairwise(x.lower))
    if column["type"] == "integer":
        assert all(float(end).is_integer() for end in (*x.lower, *x.upper))


@given(bounds(), st.integers(0, 2**32), st.lists(st.floats(-1e16, 1e16), max_size=20))
@settings(max_examples=150, deadline=None)
def test_every_value_is_in_its_cell_and_a_drawn_one_is_encoded_back(
    column: dict[str, Any], seed: int, numbers: list[float]
) -> None:
    x = domain(column)
    generator = np.random.default_rng(seed)
    inside = generator.uniform(column["min"], column["max"], 50)
    values = x.parse(pa.array([*numbers, *inside, *x.lower, *x.upper]))
    codes = x.encode(values)
    clamped = np.clip(values, column["min"], column["max"])
    moved = np.round(clamped) if column["type"] == "integer" else clamped
    assert (np.asarray(x.lower)[codes] <= moved).all()
    assert (moved <= np.asarray(x.upper)[codes]).all()
    every = np.arange(x.size if x.nullable else x.cells, dtype=np.int32).repeat(4)
    drawn = pa.array(x.decode(every, generator), from_pandas=True)
    np.testing.assert_array_equal(x.encode(x.parse(drawn)), every)


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize(("low", "high"), [(0, 50_000), (-2000, 300), (1, 10**9), (-3, 700), (60, 10_000)])
def test_round_numbers_are_cells_of_their_own(kind: str, low: int, high: int) -> None:
    x = domain({"type": kind, "min": low, "max": high})
    spikes = {low for low, high in zip(x.lower, x.upper, strict=True) if low == high}
    top = math.floor(math.log10(max(-low, high)))
    sizes = [float(f"{n}e{e}") for e in range(top - 3 if kind == "number" else 0, top) for n in range(10, 100)]
    rounded = {s for size in sizes for s in (size, -size) if low <= s <= high and (low <= 0 or s >= 10 * low)}
    assert {s for s in rounded if kind == "number" or s.is_integer()} <= spikes
    assert {low, high} <= spikes
    assert low > 0 or 0 in spikes


def test_small_whole_numbers_have_a_cell_each() -> None:
    x = domain({"type": "integer", "min": -100, "max": 411})
    assert x.lower == x.upper == tuple(range(-100, 412))
    assert domain({"type": "integer", "min": -100, "max": 412}).cells < 412


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_a_narrow_range_far_from_zero_takes_more_digits_and_then_an_even_grid(kind: str) -> None:
    x = domain({"type": kind, "min": 1000, "max": 2000})
    assert {1010.0, 1990.0} <= {low for low, high in zip(x.lower, x.upper, strict=True) if low == high}
    far = domain({"type": kind, "min": 10**9, "max": 10**9 + 2000})
    even = domain({"type": kind, "min": 10**9, "max": 10**9 + 2000, "scale": "log" if kind == "integer" else "auto"})
    assert far == even
    widths = np.diff(far.lower)
    assert widths.max() <= widths.min() + 1
    assert 8 <= far.cells <= 64


@given(bounds())
@settings(max_examples=50, deadline=None)
def test_a_grid_over_many_decades_has_a_few_thousand_cells_at_most(column: dict[str, Any]) -> None:
    assert domain(column).cells < 6000


@given(bounds())
@settings(max_examples=30, deadline=None)
def test_a_decimal_grid_follows_from_the_columns_bounds_alone(column: dict[str, Any]) -> None:
    """Not from how many units there are, so that it stays when the data grows."""
    column = {**column, "scale": "decimal", "min": -50}
    assume(column["max"] > 600)
    assert domain(column) == domain(column, {"privacy.approximate_units": 90_000, "privacy.delta": 1e-6})


def test_the_structure_decides_what_auto_means_and_bins_or_a_scale_overrule_it() -> None:
    column = {"type": "number", "min": 0, "max": 900}
    independent = {"method.options": {"structure": "independent", "batch_size": 128, "steps": 30}}
    decimal, even = domain({**column, "scale": "decimal"}), domain({**column, "scale": "linear"})
    assert decimal.cells > 500 > 64 > even.cells
    assert domain(column) == decimal
    assert domain(column, independent) == even
    assert domain({**column, "scale": "decimal"}, independent) == decimal
    assert domain({**column, "bins": 20}).cells == 21  # zero is one more
    assert domain({**column, "scale": "linear"}) == even


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_bins_of_a_decimal_grid_are_a_fault_that_names_the_column(kind: str) -> None:
    with pytest.raises(ContractError, match=r"(?s)schema\.x.*leave bins out"):
        domain({"type": kind, "min": 0, "max": 900, "scale": "decimal", "bins": 20})
