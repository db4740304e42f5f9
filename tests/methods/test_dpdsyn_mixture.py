"""Certified DPDSyn with structure: what a finished model draws, what its plan counts, and odd tables.

Models are fitted with real noise. Tolerances are more than twice the largest deviation seen in twenty fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.contract import Contract
from synth.methods.tabular import label_correction, label_regression
from synth.methods.tabular.dpdsyn_mixture import DpdsynMixture
from synth.methods.tabular.groups import Groups
from synth.methods.tabular.label_parts import label_parts
from synth.methods.tabular.mixture_model import DpdsynMixtureModel
from synth.plan import cells
from synth.progress import silent
from synth.schema import Codes, Schema
from tests.example_contract import contract, planned
from tests.methods import test_dpdsyn
from tests.methods.test_dpdsyn import drawn
from tests.sealed import own_units, sealed_codes, uncharged

MIXTURE: dict[str, Any] = {"method.options": {"structure": "mixture", "components": 20}}
ARGMAX = {"method.options": {"structure": "mixture", "components": 20, "labels": "argmax"}}
MULTICLASS = {**MIXTURE, "task": {"target": "tier", "kind": "multiclass"}}
NULLABLE_TARGET = {**MIXTURE, "schema.ill.nullable": True}
NUMBER = {**MIXTURE, "task": {"target": "income", "kind": "regression"}}
SEVERAL = {
    **MIXTURE,
    "task": {
        "targets": [
            {"target": "ill", "kind": "binary", "share": 0.5},
            {"target": "tier", "kind": "multiclass", "share": 0.25},
            {"target": "age", "kind": "regression", "share": 0.25},
        ]
    },
}
WITHOUT_TARGET = {**MIXTURE, "task": {"kind": "none"}}
TWO_COLUMNS = {**MIXTURE, "schema": {"age": {"type": "integer", "min": 0, "max": 99}, "ill": {"type": "boolean"}}}


def private_codes(schema: Schema, rows: int, seed: int = 0) -> Codes:
    """Rows whose target follows the first column, and smoking the third tier; incomes are even over their range."""
    codes = test_dpdsyn.private_codes(schema, rows, seed)
    if "income" in schema.names:
        income, at = schema["income"], schema.names.index("income")
        known = codes[:, at] != income.null_code
        codes[known, at] = income.encode(np.random.default_rng(seed).uniform(0, 50_000, known.sum()))
    if {"smoker", "tier"} <= set(schema.names):
        follows = np.random.default_rng(seed).random(rows) < 0.9
        smoker, tier = schema.names.index("smoker"), schema.names.index("tier")
        codes[follows, smoker] = codes[follows, tier] == 2
    return codes


def fit(
    changes: dict[str, Any], codes: Codes | int, records: int = 1
) -> tuple[DpdsynMixtureModel, Contract, Schema, Codes]:
    """On given codes, or so many rows; each unit has ``records`` of them."""
    chosen = contract(changes)
    schema = Schema.from_contract(chosen)
    codes = private_codes(schema, codes) if isinstance(codes, int) else codes
    sealed = sealed_codes(codes, own_units(len(codes)) // records)
    model = DpdsynMixture().fit(sealed, chosen, schema, planned(changes), uncharged, silent)
    return model, chosen, schema, codes


@pytest.fixture(scope="module", autouse=True)
def fewer_drawn_rows() -> Iterator[None]:
    """A quarter of the rows that the label regression is fitted to, to save its seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_regression, "_ROWS", 5000)
        yield


@pytest.fixture(scope="module")
def fitted() -> tuple[DpdsynMixtureModel, Contract, Schema, Codes]:
    return fit(MIXTURE, 1600)


def is_a_release(model: DpdsynMixtureModel, schema: Schema, rows: int = 333) -> pd.DataFrame:
    """Rows of the declared columns and types, null where it may be, and a label in each."""
    frame = drawn(model, rows)
    assert len(frame) == rows
    assert tuple(frame.columns) == schema.names
    for column in schema.columns:
        assert (column.nullable and column.name not in schema.targets) or not frame[column.name].isna().any()
    return frame


@pytest.mark.parametrize(
    "changes", [MIXTURE, MULTICLASS, NULLABLE_TARGET, TWO_COLUMNS, NUMBER, SEVERAL, WITHOUT_TARGET]
)
def test_a_restored_model_draws_the_same_rows(changes: dict[str, Any]) -> None:
    model, chosen, schema, codes = fit(changes, 400)
    again = DpdsynMixture().restore(model.arrays(), chosen, schema)
    pd.testing.assert_frame_equal(drawn(again, 700), drawn(model, 700))
    for target in schema.targets:
        np.testing.assert_array_equal(again.probabilities(codes, target), model.probabilities(codes, target))
        np.testing.assert_array_equal(again.predict(codes, target), model.predict(codes, target))
    assert again.facts() == model.facts()


def test_columns_have_their_declared_types_and_no_null_where_none_is_allowed(fitted: Any) -> None:
    model, _, schema, _ = fitted
    frame = is_a_release(model, schema, 2000)
    assert frame["age"].between(0, 99).all()
    assert frame["ill"].dtype == bool


def test_each_column_has_about_the_shares_of_the_private_table(fitted: Any) -> None:
    """Income's 624 cells have three rows each: the noise of so many adds up to a tenth of the rows."""
    model, _, schema, codes = fitted
    ((released, _),) = model.codes(4000, 1)
    for i, column in enumerate(schema.columns):
        shares = [np.bincount(table[:, i], minlength=column.size) / len(table) for table in (released, codes)]
        if not column.is_numeric:
            assert np.abs(shares[0] - shares[1]).max() < 0.08
        furthest = np.abs(np.cumsum(shares[0]) - np.cumsum(shares[1])).max()
        assert furthest < (0.4 if column.name == "income" else 0.13)


def test_labels_follow_features_as_they_do_in_the_private_table(fitted: Any) -> None:
    model, _, schema, codes = fitted
    frame, labels = drawn(model, 4000), codes[:, schema.target_index]
    for low, high in ((0, 25), (40, 60), (75, 99)):
        ages = schema["age"].representatives[codes[:, 0]]
        private = labels[(ages >= low) & (ages <= high)].mean()
        assert frame.loc[frame["age"].between(low, high), "ill"].mean() == pytest.approx(private, abs=0.3)


def test_features_follow_each_other_as_they_do_in_the_private_table(fitted: Any) -> None:
    """Which independent features would not: a third of all smoke."""
    model, _, schema, codes = fitted
    frame = drawn(model, 4000)
    smoker, tier = codes[:, schema.names.index("smoker")], codes[:, schema.names.index("tier")]
    for value in (1, 2, 3):
        private = smoker[tier == value - 1].mean()
        assert frame.loc[frame["tier"] == value, "smoker"].mean() == pytest.approx(private, abs=0.12)


def test_probabilities_have_the_label_share(fitted: Any) -> None:
    model, _, schema, codes = fitted
    released = model.distributions[schema.target_index]
    assert released[1] == pytest.approx((codes[:, schema.target_index] == 1).mean(), abs=0.06)
    ((rows, _),) = model.codes(4000, 1)
    assert model.probabilities(rows)[:, 1].mean() == pytest.approx(released[1], abs=0.02)
    assert rows[:, schema.target_index].mean() == pytest.approx(released[1], abs=0.03)


def test_labels_for_utility_are_surer_than_those_for_fidelity_at_the_same_share(fitted: Any) -> None:
    model = fitted[0]
    ((rows, _),) = model.codes(4000, 1)
    groups = model.groups.of(rows)
    plain, surer = (of.probabilities(groups)[:, 1] for of in (model.label_models[0], model.labellers[0]))
    assert plain.mean() == pytest.approx(surer.mean(), abs=0.02)
    assert np.abs(surer - 0.5).mean() > 1.05 * np.abs(plain - 0.5).mean()
    model = fit({"method.options": {**ARGMAX["method.options"], "labels": "fidelity"}}, 800)[0]
    assert model.labellers == model.label_models


def test_argmax_gives_each_row_its_likeliest_label() -> None:
    model, _, schema, _ = fit(ARGMAX, 800)
    for codes, _ in model.codes(500, 1):
        np.testing.assert_array_equal(codes[:, schema.target_index], model.probabilities(codes).argmax(axis=1))
        np.testing.assert_array_equal(codes[:, schema.target_index], model.predict(codes))


def test_a_rows_label_depends_on_that_row_alone(fitted: Any) -> None:
    model, _, schema, codes = fitted
    whole = model.probabilities(codes)
    np.testing.assert_array_equal(model.probabilities(codes[50:60]), whole[50:60])
    other = codes.copy()
    other[:, schema.target_index] = 0
    np.testing.assert_array_equal(model.probabilities(other), whole)


def test_more_than_two_classes_work() -> None:
    model, _, schema, _ = fit({**MULTICLASS, "privacy.epsilon": 3.0}, 1600)
    frame = is_a_release(model, schema, 3000)
    assert set(frame["tier"].unique()) == {1, 2, 3}
    old, young = (frame.loc[among, "tier"].astype(int).mean() for among in (frame["age"] > 80, frame["age"] < 20))
    assert old > young + 0.5
    assert model.probabilities(np.zeros((4, 6), np.int32)).shape == (4, 3)


def test_a_number_follows_the_columns_as_it_does_in_the_private_table() -> None:
    """Ages of the ill, which are high, and the mean of all of them."""
    model, _, schema, codes = fit({**MIXTURE, "task": {"target": "age", "kind": "regression"}}, 1600)
    frame, ages = is_a_release(model, schema, 4000), schema["age"].representatives[codes[:, 0]]
    ill = codes[:, schema.names.index("ill")] == 1
    assert frame["age"].mean() == pytest.approx(np.nanmean(ages), abs=4)
    for value in (False, True):
        private = np.nanmean(ages[ill == value])
        assert frame.loc[frame["ill"] == value, "age"].mean() == pytest.approx(private, abs=8)
        assert model.predict(codes)[ill == value].mean() == pytest.approx(private, abs=8)


def test_a_number_by_argmax_is_its_median_group() -> None:
    model = fit({**ARGMAX, "task": {"target": "age", "kind": "regression"}}, 800)[0]
    for codes, _ in model.codes(300, 1):
        below = np.cumsum(model.probabilities(codes), axis=1)
        drawn_groups = model.groups.of(codes)[:, 0]
        assert (below[np.arange(300), drawn_groups] >= 0.5 - 1e-9).all()


def test_later_targets_follow_earlier_ones_and_earlier_ones_do_not_look_at_them() -> None:
    model, _, schema, codes = fit({**SEVERAL, "privacy.epsilon": 4.0}, 1600)
    frame = is_a_release(model, schema, 4000)
    ages = [frame.loc[frame["ill"] == ill, "age"].mean() for ill in (False, True)]
    assert ages[1] > ages[0] + 15
    other = codes.copy()
    other[:, schema.names.index("age")] = 0
    other[:, schema.names.index("tier")] = 0
    np.testing.assert_array_equal(model.probabilities(other, "ill"), model.probabilities(codes, "ill"))
    other[:, schema.names.index("ill")] = 1 - np.minimum(codes[:, schema.names.index("ill")], 1)
    assert not np.array_equal(model.probabilities(other, "age"), model.probabilities(codes, "age"))


def test_each_target_has_its_line_of_the_plan_with_its_share() -> None:
    shares = {m.name: m.share for m in planned(SEVERAL).mechanisms}
    assert {name for name in shares if name.startswith("label")} == {
        "label_correction_1", "label_tables_2", "label_correction_3"
    }  # fmt: skip
    assert shares["label_correction_1"] == pytest.approx(2 * shares["label_correction_3"])
    trained = [m for m in planned(SEVERAL).mechanisms if "train" in m.branches]
    assert sum(m.share for m in trained) == pytest.approx(1)


def test_without_a_target_all_goes_to_histograms_and_pairs() -> None:
    trained = {m.name: m.share for m in planned(WITHOUT_TARGET).mechanisms if "train" in m.branches}
    assert set(trained) == {"validation", "marginals", "pairs"}
    assert sum(trained.values()) == pytest.approx(1)
    assert trained["pairs"] > {m.name: m.share for m in planned(MIXTURE).mechanisms}["pairs"]


def test_no_label_is_null_even_where_the_target_may_be() -> None:
    """A row that nobody could learn from; the share of null is released with the marginals."""
    model, _, schema, codes = fit(NULLABLE_TARGET, 1600)
    assert (codes[:, schema.target_index] == 2).mean() > 0.1
    is_a_release(model, schema)
    assert model.probabilities(codes).shape == (1600, 2)
    assert set(model.predict(codes)) == {0, 1}
    frame = drawn(model, 4000)
    assert frame.loc[frame["age"] > 75, "ill"].mean() > frame.loc[frame["age"] < 25, "ill"].mean() + 0.3


@pytest.mark.parametrize("rows", [0, 1, 50])
@pytest.mark.parametrize("changes", [MIXTURE, ARGMAX, MULTICLASS, NULLABLE_TARGET, NUMBER, SEVERAL, WITHOUT_TARGET])
def test_tiny_and_empty_branches_give_a_release_all_the_same(rows: int, changes: dict[str, Any]) -> None:
    """Whether a run succeeds must not depend on who is in the table."""
    model, _, schema, _ = fit(changes, rows)
    is_a_release(model, schema)


def all_null(codes: Codes, schema: Schema) -> None:
    for i, column in enumerate(schema.columns):
        codes[:, i] = column.null_code


def income_null(codes: Codes, schema: Schema) -> None:
    codes[:, schema.names.index("income")] = schema["income"].null_code


def age_unparsed(codes: Codes, schema: Schema) -> None:
    codes[:, 0] = schema["age"].null_code


def one_age(codes: Codes, schema: Schema) -> None:
    codes[:, 0] = 40


def one_label(codes: Codes, schema: Schema) -> None:
    codes[:, schema.target_index] = 1


@pytest.mark.parametrize("odd", [all_null, income_null, age_unparsed, one_age, one_label])
def test_odd_tables_give_a_release_all_the_same(odd: Any) -> None:
    schema = Schema.from_contract(contract(MIXTURE))
    codes = private_codes(schema, 800)
    odd(codes, schema)
    frame = is_a_release(fit(MIXTURE, codes)[0], schema)
    if odd is one_age:
        assert (frame["age"] == 40).mean() > 0.6
    if odd is one_label:
        assert frame["ill"].mean() > 0.85
    if odd is income_null:
        assert frame["income"].isna().mean() > 0.75


@pytest.mark.parametrize(
    "changes",
    [
        TWO_COLUMNS,
        {**MIXTURE, "schema.only": {"type": "categorical", "categories": ["one"]}},
        {**MIXTURE, "schema.only": {"type": "categorical", "categories": ["one"], "nullable": True}},
    ],
    ids=["two columns", "one category", "one category or null"],
)
def test_narrow_schemas_give_a_release_all_the_same(changes: dict[str, Any]) -> None:
    model, _, schema, _ = fit(changes, 400)
    is_a_release(model, schema)


def test_one_row_can_be_drawn_and_none(fitted: Any) -> None:
    assert len(drawn(fitted[0], 1)) == 1
    assert list(fitted[0].frames(0, 1)) == []


@pytest.mark.parametrize("records", [3, 5])
def test_units_with_several_records_are_charged_for_them(records: int) -> None:
    changes = {**MIXTURE, "privacy.max_records": records}
    model, _, schema, _ = fit(changes, 600 * records, records)
    is_a_release(model, schema)
    plan = planned(changes)
    sensitivities = [plan.counts(name).sensitivity for name in ("marginals", "pairs", "label_correction")]
    assert sensitivities == [records, records, records * label_correction.MOST]
    with pytest.raises(ValueError, match=f"at most {records} rows a unit"):
        fit(changes, 600, records + 1)


def test_mechanisms_run_through_the_door_in_the_order_of_the_plan() -> None:
    """And what is committed is used: a model fitted on committed outputs needs no private row."""
    chosen = contract(MIXTURE)
    schema, plan = Schema.from_contract(chosen), planned(MIXTURE)
    committed: dict[str, Any] = {}

    def first(name: str, compute: Any) -> Any:
        committed[name] = uncharged(name, compute)
        return committed[name]

    model = DpdsynMixture().fit(sealed_codes(private_codes(schema, 400)), chosen, schema, plan, first, silent)
    assert list(committed) == ["marginals", "pairs", "label_correction"]
    assert [m.name for m in plan.mechanisms if m.name in committed] == list(committed)
    nobody = np.zeros((0, len(schema.columns)), np.int32)
    again = DpdsynMixture().fit(sealed_codes(nobody), chosen, schema, plan, lambda name, _: committed[name], silent)
    pd.testing.assert_frame_equal(drawn(again, 200), drawn(model, 200))


MANY_CLASSES = {
    **MIXTURE,
    "privacy.epsilon": 0.2,
    "schema.grade": {"type": "categorical", "categories": list(range(12))},
    "task": {"target": "grade", "kind": "multiclass"},
}
MANY_NULLS = {
    **MIXTURE,
    "schema": {
        **{f"flag{i}": {"type": "boolean", "nullable": True} for i in range(8)},
        "ill": {"type": "boolean"},
    },
}
DECLARED = [
    MIXTURE, MULTICLASS, NULLABLE_TARGET, TWO_COLUMNS, MANY_CLASSES, MANY_NULLS, NUMBER, SEVERAL, WITHOUT_TARGET
]  # fmt: skip


@given(
    st.sampled_from(DECLARED), st.integers(0, 2**32), st.sampled_from([0.02, 0.3, 5.0]), st.sampled_from([50, 10**6])
)
@settings(max_examples=200, deadline=None)
def test_the_plan_never_declares_fewer_cells_than_are_drawn(
    changes: dict[str, Any], seed: int, rough: float, units: int
) -> None:
    """Whatever is measured: groups follow from released marginals, which may be any distribution."""
    chosen = contract(changes)
    schema, generator = Schema.from_contract(chosen), np.random.default_rng(seed)
    demands = {demand.name: demand.parameters for demand in DpdsynMixture().demands(chosen, schema, units)}
    shares = []
    for column in schema.columns:
        allowed = column.size if column.nullable else column.cells
        share = np.maximum(generator.dirichlet(np.full(allowed, rough)), 1e-12)
        shares.append(np.pad(share / share.sum(), (0, column.size - allowed)))
    groups = Groups.from_marginals(schema, shares, demands["pairs"]["smallest_share"])
    assert sum(a * b for a, b in combinations(groups.sizes, 2)) <= demands["pairs"]["cells"]
    for part in label_parts(chosen, schema):
        own = groups.sizes[part.place]
        tables = own * (sum(groups.sizes) - own)
        sums = sum(label_correction.summed_sizes(groups.sizes, part.hidden))
        assert (tables if part.by_tables else sums) <= demands[part.mechanism]["cells"]


@pytest.mark.parametrize("changes", DECLARED)
def test_a_fit_draws_no_more_noise_than_the_plan_declares(changes: dict[str, Any]) -> None:
    chosen = contract(changes)
    schema, plan = Schema.from_contract(chosen), planned(changes)
    drawn_cells: dict[str, int] = {}

    def counted(name: str, compute: Any) -> Any:
        found = uncharged(name, compute)
        drawn_cells[name] = sum(array.size for kind, array in found.items() if kind in ("counts", "sums"))
        return found

    DpdsynMixture().fit(sealed_codes(private_codes(schema, 300)), chosen, schema, plan, counted, silent)
    assert drawn_cells["marginals"] == cells(plan["marginals"])
    assert all(drawn <= cells(plan[name]) for name, drawn in drawn_cells.items())


def test_options_of_the_other_structure_are_refused() -> None:
    chosen = contract({"method.options": {"structure": "independent", "batch_size": 128, "steps": 30}})
    with pytest.raises(TypeError, match="structure 'mixture', given 'independent'"):
        DpdsynMixture().demands(chosen, Schema.from_contract(chosen), 1600)
