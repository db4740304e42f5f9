"""What a fitted mixture keeps of columns as they come: nulls with a reason, orders, spikes, tails, many categories.

Real noise at a generous ε, so that what is missing is the method's and not the noise's. Tolerances are about twice the
largest deviation seen in ten fits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from synth.contract import contract_from_document
from synth.methods.tabular import label_regression
from synth.methods.tabular.dpdsyn_mixture import DpdsynMixture
from synth.methods.tabular.groups import Groups, most_groups, share_that_fits
from synth.progress import silent
from synth.run import plan_release
from synth.schema import Schema
from tests.example_contract import contract, document
from tests.methods.test_dpdsyn import drawn
from tests.sealed import own_units, sealed_codes, uncharged

ROWS = 6000
COLUMNS: dict[str, Any] = {
    "married": {"type": "categorical", "categories": ["no", "yes", "widowed"]},
    "spouse_since": {"type": "date", "min": "1980-01-01", "max": "2019-12-31", "nullable": True},
    "gain": {"type": "integer", "min": 0, "max": 1_000_000},
    "pay": {"type": "number", "min": 0, "max": 1_000_000, "decimals": 2},
    "town": {"type": "categorical", "categories": [f"town {i}" for i in range(400)]},
    "grade": {"type": "categorical", "categories": [f"g{i:02}" for i in range(24)], "ordered": True},
    "ill": {"type": "boolean"},
}


def private_table() -> pd.DataFrame:
    generator = np.random.default_rng(7)
    married = generator.choice(["no", "yes", "widowed"], ROWS, p=[0.45, 0.4, 0.15])
    since = pd.Timestamp("1980-01-01") + pd.to_timedelta(generator.integers(0, 14_600, ROWS), unit="D")
    grade = np.clip(np.round(generator.normal(12, 5, ROWS)), 0, 23).astype(int)
    return pd.DataFrame(
        {
            "married": married,
            "spouse_since": pd.Series(since).where(married == "yes"),  # null exactly where nobody is married
            "gain": np.where(generator.random(ROWS) < 0.9, 0, generator.lognormal(9, 1.5, ROWS)).astype(int),
            "pay": np.round(10_000 * generator.pareto(1.5, ROWS), 2),
            "town": [f"town {min(399, int(i))}" for i in generator.geometric(0.15, ROWS) - 1],
            "grade": [f"g{i:02}" for i in grade],
            "ill": generator.random(ROWS) < grade / 30,
        }
    )


@pytest.fixture(scope="module")
def fitted() -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """Private rows, released rows, and the model."""
    changes = {
        "schema": COLUMNS,
        "method.options": {"structure": "mixture", "components": 100},
        "privacy.epsilon": 20.0,
        "privacy.delta": 1e-6,
        "privacy.approximate_units": ROWS,
    }
    chosen, table = contract(changes), private_table()
    schema = Schema.from_contract(chosen)
    codes = schema.encode(schema.parse(pa.Table.from_pandas(table)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_regression, "_ROWS", 5000)
        sealed = sealed_codes(codes, own_units(ROWS))
        model = DpdsynMixture().fit(sealed, chosen, schema, plan_release(chosen, 0.2), uncharged, silent)
    return table, drawn(model, ROWS), model


def test_a_null_that_another_column_explains_stays_where_that_column_explains_it(fitted: Any) -> None:
    _, released, _ = fitted
    null = released["spouse_since"].isna()
    assert null[released["married"] == "yes"].mean() < 0.06
    assert null[released["married"] != "yes"].mean() > 0.94
    assert null.mean() == pytest.approx(0.6, abs=0.03)


def test_a_spike_at_zero_and_a_heavy_tail_stay(fitted: Any) -> None:
    table, released, _ = fitted
    assert (released["gain"] == 0).mean() == pytest.approx((table["gain"] == 0).mean(), abs=0.02)
    for share in (0.25, 0.5, 0.9, 0.99):
        assert released["pay"].quantile(share) == pytest.approx(table["pay"].quantile(share), rel=0.35)
    assert released["pay"].max() <= 1_000_000


def test_of_hundreds_of_categories_the_frequent_ones_keep_their_shares_and_the_empty_ones_stay_nearly_empty(
    fitted: Any,
) -> None:
    table, released, model = fitted
    private, shares = (each["town"].value_counts(normalize=True) for each in (table, released))
    for town in private.index[:8]:
        assert shares[town] == pytest.approx(private[town], abs=0.02)
    assert shares.reindex([f"town {i}" for i in range(80, 400)]).sum() < 0.04
    groups = dict(zip(model.schema.names, model.groups.sizes, strict=True))
    assert groups["town"] < 40


def test_neighbours_of_an_ordered_column_go_together_and_keep_their_slope(fitted: Any) -> None:
    table, released, model = fitted
    of_codes = model.groups.of_codes[model.schema.names.index("grade")][:-1]
    assert (np.diff(of_codes) >= 0).all()
    assert of_codes.max() < 23
    rank = released["grade"].cat.codes
    assert rank.corr(released["ill"].astype(float)) == pytest.approx(
        table["grade"].str[1:].astype(int).corr(table["ill"].astype(float)), abs=0.12
    )


def test_without_an_order_rare_categories_go_together_wherever_they_stand() -> None:
    """The broken twin: what ``ordered`` changes is which codes share a group, and nothing else."""
    share = np.array([0.01, 0.3, 0.01, 0.3, 0.01, 0.36, 0.01, 0.0])
    found = {}
    for ordered in (False, True):
        column = {"type": "categorical", "categories": list("abcdefg"), "ordered": ordered}
        schema = Schema.from_contract(contract({"schema": {"x": column, "ill": {"type": "boolean"}}}))
        groups = Groups.from_marginals(schema, [share, np.array([0.5, 0.5, 0.0])], 0.05)
        found[ordered] = groups.of_codes[0][:-1].tolist()
    assert found[False] == [3, 0, 3, 1, 3, 2, 3]
    assert found[True] == [0, 1, 2, 2, 3, 3, 3]  # what is too little joins the frequent one after it, or the last


def wide(columns: int) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"type": "boolean"},
        {"type": "categorical", "categories": list(range(6))},
        {"type": "integer", "min": 0, "max": 10_000},
        {"type": "date", "min": "2015-01-01", "max": "2024-12-31", "nullable": True},
    ]
    found = document({"method.options": {"structure": "mixture"}})
    found["schema"] = {f"c{i}": kinds[i % len(kinds)] for i in range(columns - 1)} | {"ill": {"type": "boolean"}}
    return found


@pytest.mark.parametrize(("columns", "units"), [(15, 30_000), (40, 10**6), (60, 10**6), (200, 10**7)])
def test_a_wide_table_is_measured_more_coarsely_rather_than_refused(columns: int, units: int) -> None:
    found = wide(columns)
    found["privacy"] |= {"approximate_units": units, "delta": 1e-9, "epsilon": 10.0}
    chosen = contract_from_document(found)
    schema, method = Schema.from_contract(chosen), DpdsynMixture()
    pairs = next(demand for demand in method.demands(chosen, schema, 0.8 * units) if demand.name == "pairs")
    least = pairs.parameters["smallest_share"]
    assert sum(most_groups(column, least) for column in schema.columns) <= 4100
    assert pairs.parameters["cells"] < 9_000_000
    advice = method.advice(chosen, schema, 0.8 * units)
    assert ("pairs are measured more coarsely" in advice) == (columns > 100)
    assert share_that_fits(schema, least) == least


def test_a_small_table_is_told_what_it_would_need() -> None:
    found = wide(21)
    found["privacy"] |= {"approximate_units": 800, "epsilon": 1.0}
    chosen = contract_from_document(found)
    advice = DpdsynMixture().advice(chosen, Schema.from_contract(chosen), 640)
    assert "expect little beyond single columns and the label" in advice
    assert " units, or at ε=" in advice
