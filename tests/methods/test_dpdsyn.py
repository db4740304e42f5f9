"""Certified DPDSyn: what a finished model draws, how it is calibrated, and that odd tables do not break it.

Models are fitted with real noise. Tolerances are more than twice the largest deviation seen in forty fits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from synth.contract import Contract
from synth.methods.tabular.dpdsyn import Dpdsyn, DpdsynModel
from synth.methods.tabular.drawing import TabularModel
from synth.methods.tabular.label_model import (
    CONFIDENCE_BINS,
    LabelModel,
    calibrate,
    calibration_cells,
    softmax,
)
from synth.methods.tabular.marginals import (
    estimate_distributions,
    project_to_simplex,
    systematic_labels,
    systematic_sample,
)
from synth.plan import ReleasePlan
from synth.progress import silent
from synth.schema import Codes, Schema
from tests.chance import ALPHA, rate_p
from tests.example_contract import contract, planned
from tests.sealed import sealed_codes, uncharged

MULTICLASS = {"task": {"target": "tier", "kind": "multiclass"}}
ARGMAX = {"privacy.epsilon": 0.5, "method.options.labels": "argmax"}


def private_codes(schema: Schema, rows: int, seed: int = 0) -> Codes:
    """Rows whose target follows the first column; an eighth of the nullable cells are null, some of the others too."""
    generator = np.random.default_rng(seed)
    columns = [generator.integers(0, c.cells, rows) for c in schema.columns]
    target = schema.names.index(next((t for t in schema.targets if not schema[t].is_numeric), "ill"))
    signal = columns[0] / schema.columns[0].cells + generator.normal(0, 0.15, rows)
    columns[target] = np.clip((signal * schema.columns[target].cells).astype(int), 0, schema.columns[target].cells - 1)
    codes = np.column_stack(columns).astype(np.int32)
    for i, column in enumerate(schema.columns):
        if column.nullable:
            codes[generator.random(rows) < 0.125, i] = column.null_code
    codes[: rows // 20, 0] = schema.columns[0].null_code  # could not be parsed
    return codes


def fit(
    changes: dict[str, Any], rows: int, plan: ReleasePlan | None = None
) -> tuple[DpdsynModel, Contract, Schema, Codes]:
    chosen = contract(changes)
    schema = Schema.from_contract(chosen)
    codes = private_codes(schema, rows)
    plan = plan or planned(changes)
    model = Dpdsyn().fit(sealed_codes(codes), chosen, schema, plan, uncharged, silent)
    return model, chosen, schema, codes


@pytest.fixture(scope="module")
def fitted() -> tuple[DpdsynModel, Contract, Schema, Codes]:
    return fit({}, 1600)


def drawn(model: TabularModel, rows: int, seed: int = 1) -> pd.DataFrame:
    return pd.concat(list(model.frames(rows, seed)), ignore_index=True)


def test_a_restored_model_draws_the_same_rows(fitted: Any) -> None:
    model, chosen, schema, _ = fitted
    again = Dpdsyn().restore(model.arrays(), chosen, schema)
    pd.testing.assert_frame_equal(drawn(again, 700), drawn(model, 700))
    assert again.temperature == model.temperature


def test_columns_have_their_declared_types_and_no_null_where_none_is_allowed(fitted: Any) -> None:
    model, _, schema, _ = fitted
    frame = drawn(model, 2000)
    assert tuple(frame.columns) == schema.names
    for column in schema.columns:
        assert column.nullable or not frame[column.name].isna().any()
    assert frame["age"].between(0, 99).all()


def test_null_occurs_about_as_often_as_it_was_measured(fitted: Any) -> None:
    model, _, schema, codes = fitted
    frame = drawn(model, 4000)
    for name in ("income", "city"):
        index = schema.names.index(name)
        measured = model.distributions[index][-1]
        assert frame[name].isna().mean() == pytest.approx(measured, abs=1 / 4000)
        assert measured == pytest.approx((codes[:, index] == schema[name].null_code).mean(), abs=0.08)


def test_labels_follow_features_as_they_do_in_the_private_table(fitted: Any) -> None:
    model, _, schema, codes = fitted
    frame = drawn(model, 4000)
    labels = codes[:, schema.target_index]
    for low, high in ((0, 25), (40, 60), (75, 99)):
        ages = schema["age"].representatives[codes[:, 0]]
        private = labels[(ages >= low) & (ages <= high)].mean()
        assert frame.loc[frame["age"].between(low, high), "ill"].mean() == pytest.approx(private, abs=0.25)


def test_probabilities_have_the_label_share_on_private_rows(fitted: Any) -> None:
    model, _, schema, codes = fitted
    released = model.distributions[schema.target_index]
    labels = codes[:, schema.target_index]
    assert released[1] == pytest.approx((labels == 1).mean(), abs=0.06)
    assert model.probabilities(codes)[:, 1].mean() == pytest.approx(released[1], abs=0.1)


def test_argmax_gives_each_row_its_likeliest_label() -> None:
    model, _, schema, _ = fit(ARGMAX, 1600)
    for codes, _ in model.codes(500, 1):
        np.testing.assert_array_equal(codes[:, schema.target_index], model.probabilities(codes).argmax(axis=1))


def test_sampled_labels_follow_the_probabilities(fitted: Any) -> None:
    model, _, schema, _ = fitted
    ((codes, _),) = model.codes(4000, 1)
    probability = model.probabilities(codes)[:, 1]
    labels = codes[:, schema.target_index]
    for low, high in ((0.0, 0.4), (0.4, 0.6), (0.6, 1.0)):
        among = (probability >= low) & (probability < high)
        assert labels[among].mean() == pytest.approx(probability[among].mean(), abs=0.06)


def test_more_than_two_classes_work() -> None:
    model, _, schema, _ = fit({**MULTICLASS, "privacy.epsilon": 3.0}, 1600, planned())
    frame = drawn(model, 3000)
    assert set(frame["tier"].unique()) == {1, 2, 3}
    share = np.bincount(next(model.codes(3000, 1))[0][:, schema.target_index], minlength=3) / 3000
    expected = model.probabilities(next(model.codes(3000, 1))[0]).mean(axis=0)
    np.testing.assert_allclose(share, expected, atol=0.03)
    assert (
        frame.loc[frame["age"] > 80, "tier"].astype(int).mean()
        > frame.loc[frame["age"] < 20, "tier"].astype(int).mean()
    )
    assert model.probabilities(np.zeros((4, 6), np.int32)).shape == (4, 3)


def test_a_hidden_layer_works() -> None:
    model, chosen, schema, _ = fit({"method.options.hidden_units": 8}, 800, planned())
    again = Dpdsyn().restore(model.arrays(), chosen, schema)
    pd.testing.assert_frame_equal(drawn(again, 100), drawn(model, 100))


@pytest.mark.parametrize("rows", [0, 1, 50])
@pytest.mark.parametrize("labels", ["sampled", "argmax"])
def test_tiny_and_empty_branches_give_a_release_all_the_same(rows: int, labels: str) -> None:
    """Whether a run succeeds must not depend on who is in the table."""
    changes = {} if labels == "sampled" else ARGMAX
    model, _, schema, _ = fit(changes, rows)
    frame = drawn(model, 333)
    assert len(frame) == 333
    assert not frame[[c.name for c in schema.columns if not c.nullable]].isna().any(axis=None)


def test_one_row_can_be_drawn(fitted: Any) -> None:
    assert len(drawn(fitted[0], 1)) == 1


def test_mechanisms_run_through_the_door_in_the_order_of_the_plan() -> None:
    """And what is committed is used: a model fitted on committed outputs needs no private row."""
    chosen, schema = contract(), Schema.from_contract(contract())
    committed: dict[str, Any] = {}

    def first(name: str, compute: Any) -> Any:
        committed[name] = uncharged(name, compute)
        return committed[name]

    model = Dpdsyn().fit(sealed_codes(private_codes(schema, 400)), chosen, schema, planned(), first, silent)
    assert list(committed) == ["marginals", "label_model", "calibration"]
    nobody = np.zeros((0, len(schema.columns)), np.int32)
    again = Dpdsyn().fit(sealed_codes(nobody), chosen, schema, planned(), lambda name, _: committed[name], silent)
    pd.testing.assert_frame_equal(drawn(again, 200), drawn(model, 200))


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_systematic_draws_are_within_one_of_what_is_expected(count: int) -> None:
    generator = np.random.default_rng(0)
    for cells in (1, 2, 30):
        distribution = generator.dirichlet(np.ones(cells) * 0.3)
        distribution[cells // 2] = 0 if cells > 2 else distribution[cells // 2]
        distribution /= distribution.sum()
        codes = systematic_sample(distribution, count, generator)
        counts = np.bincount(codes, minlength=cells)
        assert (np.abs(counts - count * distribution) <= 1 + 1e-9).all()
        assert (counts[distribution == 0] == 0).all()


@pytest.mark.statistical
def test_draws_come_in_random_order() -> None:
    """First half against second half; fails once in a million runs."""
    codes = systematic_sample(np.array([0.5, 0.5]), 20_000, np.random.default_rng())
    assert rate_p(int(codes[:10_000].sum()), 10_000, 0.5) >= ALPHA
    assert rate_p(int(np.sort(codes)[:10_000].sum()), 10_000, 0.5) < ALPHA


def test_labels_of_like_rows_come_in_their_probabilities() -> None:
    probabilities = np.repeat([[0.2, 0.3, 0.5], [0.9, 0.1, 0.0]], 500, axis=0)
    labels = systematic_labels(probabilities, np.random.default_rng(0))
    for group in (0, 1):
        counts = np.bincount(labels[500 * group : 500 * (group + 1)], minlength=3)
        np.testing.assert_allclose(counts / 500, probabilities[500 * group], atol=0.02)
    assert systematic_labels(np.zeros((0, 3)), np.random.default_rng(0)).shape == (0,)


def test_projection_finds_the_closest_distribution() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        values = generator.normal(0.1, 0.5, 6)
        closest = project_to_simplex(values)
        assert closest.min() >= 0
        assert closest.sum() == pytest.approx(1)
        others = generator.dirichlet(np.ones(6), 200)
        assert (np.linalg.norm(others - values, axis=1) >= np.linalg.norm(closest - values) - 1e-9).all()
    np.testing.assert_allclose(project_to_simplex([-5.0, -5.0]), [0.5, 0.5])


@pytest.mark.parametrize("level", [-1000, -3, 0])
def test_noise_that_drowns_all_counts_still_gives_distributions(level: int) -> None:
    schema = Schema.from_contract(contract())
    found, rows = estimate_distributions(schema, [np.full(c.size, level) for c in schema.columns])
    assert rows == 1
    for column, distribution in zip(schema.columns, found, strict=True):
        assert distribution.sum() == pytest.approx(1)
        assert column.nullable or distribution[-1] == 0


def simulated(temperature: float, rows: int, classes: int) -> tuple[npt.NDArray[np.float64], Codes]:
    """Logits that are ``temperature`` times as sure as they should be, and labels from the right probabilities."""
    generator = np.random.default_rng(4)
    logits = generator.normal(0, 1.5, (rows, classes)) * temperature
    right = softmax(logits / temperature).cumsum(axis=1)
    return logits, (generator.random((rows, 1)) > right).sum(axis=1).astype(np.int32)


def histogram(logits: npt.NDArray[np.float64], labels: Codes, sigma: float) -> npt.NDArray[np.int64]:
    counts = np.bincount(calibration_cells(logits, labels), minlength=2 * CONFIDENCE_BINS * logits.shape[1])
    return counts + np.round(np.random.default_rng(5).normal(0, sigma, counts.shape)).astype(np.int64)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("sigma", [1.0, 20.0])
def test_calibration_recovers_a_known_temperature(temperature: float, classes: int, sigma: float) -> None:
    """The noise is seeded: its size is what is tried, not its chance."""
    logits, labels = simulated(temperature, 20_000, classes)
    share = np.bincount(labels, minlength=classes) / len(labels)
    found, offsets = calibrate(histogram(logits, labels, sigma), sigma, logits, share)
    assert found == pytest.approx(temperature, rel=0.15)
    np.testing.assert_allclose(offsets, 0, atol=0.1)


def test_calibration_corrects_a_shifted_class() -> None:
    logits, labels = simulated(2.0, 20_000, 3)
    share = np.bincount(labels, minlength=3) / len(labels)
    shifted = logits + np.array([2.0, 0.0, 0.0])
    temperature, offsets = calibrate(histogram(shifted, labels, 2.0), 2.0, shifted, share)
    calibrated = softmax(shifted / temperature + offsets)
    np.testing.assert_allclose(calibrated.mean(axis=0), share, atol=0.02)
    confident = calibrated.max(axis=1) > 0.8
    right = (calibrated.argmax(axis=1) == labels)[confident].mean()
    assert right == pytest.approx(calibrated.max(axis=1)[confident].mean(), abs=0.05)


@pytest.mark.parametrize("level", [-50, 0, 2])
def test_calibration_on_nothing_but_noise_changes_nothing(level: int) -> None:
    logits, _ = simulated(3.0, 100, 2)
    found, offsets = calibrate(np.full(4 * CONFIDENCE_BINS, level), 5.0, logits, np.array([0.5, 0.5]))
    assert found == 1.0
    assert (offsets == 0).all()


def test_a_class_that_nobody_has_gets_finite_offsets() -> None:
    logits, labels = simulated(1.0, 2000, 3)
    _, offsets = calibrate(histogram(logits, labels, 1.0), 1.0, logits, np.array([0.6, 0.4, 0.0]))
    assert np.isfinite(offsets).all()


def test_features_of_a_row_depend_on_that_row_alone() -> None:
    schema = Schema.from_contract(contract())
    codes = private_codes(schema, 200)
    flat = [np.full(column.size, 1 / column.size) for column in schema.columns]
    model = LabelModel(schema, flat, 0)
    whole = model.features(codes)
    np.testing.assert_array_equal(model.features(codes[50:60]), whole[50:60])
    other = codes.copy()
    other[:, schema.target_index] = 1 - np.minimum(codes[:, schema.target_index], 1)
    np.testing.assert_array_equal(model.features(other), whole)
