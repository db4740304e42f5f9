"""The label regression: whole residuals within their bound, and a correction that follows sums and ignores noise.

Everything here is seeded: the fit and the correction depend on their input alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.methods.tabular import label_correction, label_regression
from synth.methods.tabular.label_correction import MOST, Residuals, corrected, summed_codes, summed_sizes
from synth.methods.tabular.label_regression import LabelRegression
from synth.methods.tabular.marginals import softmax, systematic_labels
from synth.methods.tabular.mixture import Mixture
from synth.schema import Codes

TARGET, SIZES = 1, [6, 3, 4]
ROWS = 20_000


TWO = Residuals.of_two_classes()


def number(groups: int) -> Residuals:
    return Residuals.of_number(np.arange(groups) ** 2.0, np.full(groups, 1 / groups))


def regression_of(logits: npt.NDArray[np.float64]) -> LabelRegression:
    """Whose only other column has these logits, shape (groups, classes)."""
    weights = np.vstack([logits, np.zeros(logits.shape[1])])
    return LabelRegression((0,), weights, np.array([0]), np.zeros(logits.shape[1]))


@given(
    st.integers(2, 10).flatmap(
        lambda classes: st.lists(
            st.tuples(*[st.one_of(st.floats(-1e4, 1e4), st.sampled_from([-690.7, 0.0, 690.7]))] * classes),
            min_size=1,
            max_size=5,
        )
    ),
    st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_a_rows_whole_number_is_never_above_the_most(logits: list[tuple[float, ...]], label: int) -> None:
    """However sure the regression is, of two classes and of numbers."""
    model = regression_of(np.array(logits))
    rows = np.column_stack([np.zeros(len(logits)), np.arange(len(logits))]).astype(np.int32)
    labels = np.full(len(rows), label % model.classes, np.int32)
    kinds = [number(model.classes), *([TWO] if model.classes == 2 else [])]
    for residuals in kinds:
        whole = residuals.whole(model, rows, labels)
        assert whole.shape == (len(rows), 1)
        assert np.abs(whole.astype(int)).max() <= MOST


def test_a_row_that_is_surely_wrong_has_the_most_and_one_that_is_right_nothing() -> None:
    rows, labels = np.array([[0, 0], [0, 0], [0, 1]], np.int32), np.array([0, 1, 0], np.int32)
    assert TWO.whole(regression_of(np.array([[50.0, 0.0], [0.0, 0.0]])), rows, labels).ravel().tolist() == [
        0,
        -MOST,
        MOST,  # half wrong is more than the bound
    ]
    sure_of_the_least = regression_of(np.array([[50.0] + 9 * [0.0]]))
    low, high = number(10).whole(sure_of_the_least, np.array([[0, 0], [0, 0]], np.int32), np.array([0, 9], np.int32))
    assert (low[0], high[0]) == (0, MOST)


def test_without_the_bound_a_row_would_have_more() -> None:
    """The bound does something: the largest residuals there are would weigh more."""
    assert TWO.unit > MOST
    assert np.ptp(number(10).scores) * number(10).unit > MOST


def test_logits_of_a_row_depend_on_that_row_alone_and_not_on_its_label() -> None:
    generator = np.random.default_rng(0)
    model = LabelRegression((TARGET,), generator.normal(0, 1, (11, 3)), np.array([0, 6]), generator.normal(0, 1, 3))
    rows = np.column_stack([generator.integers(-1, size, 50) for size in SIZES]).astype(np.int32)
    whole = model.logits(rows)
    np.testing.assert_array_equal(model.logits(rows[20:30]), whole[20:30])
    other = rows.copy()
    other[:, TARGET] = 0
    np.testing.assert_array_equal(model.logits(other), whole)


def test_null_where_none_is_allowed_adds_nothing() -> None:
    model = LabelRegression((TARGET,), np.arange(33.0).reshape(11, 3), np.array([0, 6]), np.zeros(3))
    assert model.logits(np.array([[-1, 0, -1], [2, 0, -1]], np.int32)).tolist() == [[30, 31, 32], [36, 38, 40]]


def test_sums_are_by_group_and_those_of_null_where_none_is_allowed_are_left_out() -> None:
    sizes = summed_sizes(SIZES, [TARGET])
    assert sizes == [7, 5, 1]
    assert summed_codes(np.array([[-1, 2, 3], [5, 0, -1]], np.int32), sizes, [TARGET]).tolist() == [
        [6, 3, 0],
        [5, 4, 0],
    ]
    kept = label_correction.without_disallowed(np.arange(13)[:, None], sizes).ravel()
    assert kept.tolist() == [*range(6), *range(7, 11), 12]


def truth(classes: int = 3, extra: int = 0) -> Mixture:
    generator = np.random.default_rng(8)
    sizes = [6, classes + extra, 4]
    return Mixture(np.array([0.5, 0.3, 0.2]), tuple(generator.dirichlet(np.full(size, 0.8), 3) for size in sizes))


def exact_sums(
    model: LabelRegression, rows: Codes, residuals: Residuals = TWO, extra: int = 0
) -> npt.NDArray[np.int64]:
    sizes = summed_sizes([table.shape[1] for table in truth(model.classes, extra).tables], [TARGET])
    codes, whole = summed_codes(rows, sizes, [TARGET]), residuals.whole(model, rows, rows[:, TARGET])[:, 0]
    found = [np.bincount(codes[:, i], whole, size) for i, size in enumerate(sizes)]
    return label_correction.without_disallowed(np.concatenate(found).astype(np.int64), sizes)


def known(classes: int) -> tuple[Mixture, LabelRegression, Codes]:
    """A mixture, a regression that is the truth, and rows with labels drawn from that."""
    mixture = truth(classes)
    right = label_regression.fit(mixture, [TARGET], classes)
    generator = np.random.default_rng(1)
    rows = mixture.rows(ROWS, generator)
    rows[:, TARGET] = systematic_labels(right.probabilities(rows), generator)
    return mixture, right, rows


def residuals_of(classes: int) -> Residuals:
    return TWO if classes == 2 else number(classes)


def correct(
    model: LabelRegression, sums: npt.NDArray[np.int64], sigma: float, mixture: Mixture, rows: Codes
) -> LabelRegression:
    shares = [mixture.weights @ table for table in mixture.tables]
    shares[TARGET] = np.bincount(rows[:, TARGET], minlength=model.classes) / len(rows)
    return corrected(model, residuals_of(model.classes), sums, sigma, mixture, len(rows), [6, 0, 0], shares)


def distance(model: LabelRegression, other: LabelRegression, rows: Codes) -> float:
    return float(np.abs(model.probabilities(rows) - other.probabilities(rows)).sum(axis=1).mean() / 2)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fit_to_the_mixture_has_its_label_shares_in_every_group(classes: int) -> None:
    """What pairs with the label say: a regression without interactions can hold them."""
    mixture = truth(classes)
    model = label_regression.fit(mixture, [TARGET], classes)
    rows = label_regression.drawn_rows(mixture)
    expected, found = mixture.conditional(TARGET, rows), model.probabilities(rows)
    for column in (0, 2):
        for group in range(SIZES[column]):
            among = rows[:, column] == group
            assert found[among].mean(axis=0) == pytest.approx(expected[among].mean(axis=0), abs=0.01)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_correction_by_exact_sums_moves_a_wrong_regression_to_the_truth(classes: int) -> None:
    """In the one step: less than a fifth of the way is left. Five are groups of a number."""
    mixture, right, rows = known(classes)
    residuals, shift = residuals_of(classes), np.zeros(len(right.weights))
    shift[[0, 1, 7]] = 0.4, -0.3, 0.3
    wrong = replace(right, weights=right.weights + np.outer(shift, residuals.scores))
    found = correct(wrong, exact_sums(wrong, rows, residuals), 64.0, mixture, rows)
    assert distance(wrong, right, rows) > 0.015
    assert distance(found, right, rows) < distance(wrong, right, rows) * 0.2


@pytest.mark.parametrize("classes", [2, 5])
def test_a_correction_of_what_is_right_hardly_changes_it(classes: int) -> None:
    mixture, right, rows = known(classes)
    sums = exact_sums(right, rows, residuals_of(classes))
    assert distance(correct(right, sums, 64.0, mixture, rows), right, rows) < 0.003


@pytest.mark.parametrize("classes", [2, 5])
def test_noise_alone_hardly_moves_it_unless_it_is_taken_for_less(classes: int) -> None:
    """As much noise as a fifth of the rows would make; the twin that believes in a tenth of it is carried away."""
    mixture, right, rows = known(classes)
    exact, sigma = exact_sums(right, rows, residuals_of(classes)), MOST * ROWS / 5
    moved, carried_away = [], []
    for seed in range(4):
        noisy = exact + np.round(np.random.default_rng(seed).normal(0, sigma, exact.shape)).astype(np.int64)
        moved.append(distance(correct(right, noisy, sigma, mixture, rows), right, rows))
        carried_away.append(distance(correct(right, noisy, sigma / 10, mixture, rows), right, rows))
    assert np.mean(moved) < 0.05 < 0.1 < np.mean(carried_away)


def test_offsets_meet_the_released_label_share() -> None:
    mixture = truth()
    model = label_regression.fit(mixture, [TARGET], 3)
    share = np.array([0.6, 0.3, 0.1])
    found = model.at_share(label_regression.drawn_rows(mixture), share)
    assert found.probabilities(label_regression.drawn_rows(mixture)).mean(axis=0) == pytest.approx(share, abs=0.005)
    singles = [mixture.weights @ table for table in mixture.tables]
    sums = np.zeros(len(model.weights), np.int64)
    found = corrected(model, number(3), sums, 1e9, mixture, ROWS, [0, 0, 0], [singles[0], share, singles[2]])
    assert found.probabilities(label_regression.drawn_rows(mixture)).mean(axis=0) == pytest.approx(share, abs=0.005)


def test_rows_without_a_label_neither_teach_nor_correct() -> None:
    """A target that may be null: the same regression as that of the rows that have a label, and no class for null."""
    mixture = truth(3, extra=1)
    model = label_regression.fit(mixture, [TARGET], 3)
    assert model.classes == 3
    rows = mixture.rows(4 * ROWS, np.random.default_rng(1))
    labelled = rows[rows[:, TARGET] < 3]
    assert len(labelled) < 0.9 * len(rows)
    for group in range(4):
        among = labelled[:, 2] == group
        weight = mixture.conditional(TARGET, labelled[among])[:, :3]
        expected = (weight / weight.sum(axis=1, keepdims=True)).mean(axis=0)
        assert model.probabilities(labelled[among]).mean(axis=0) == pytest.approx(expected, abs=0.03)
    sums = exact_sums(model, labelled, number(3), extra=1)
    shares = [mixture.weights @ table for table in mixture.tables]
    shares[TARGET] = np.append(np.bincount(labelled[:, TARGET], minlength=3) / len(rows), 1 - len(labelled) / len(rows))
    found = corrected(model, number(3), sums, 64.0, mixture, len(rows), [6, 0, 0], shares)
    as_if_all = corrected(model, number(3), sums, 64.0, truth(3), len(rows), [6, 0, 0], shares)
    assert distance(found, model, labelled) < 0.02
    assert distance(as_if_all, model, labelled) > distance(found, model, labelled)


def test_a_regression_that_does_not_see_a_column_does_not_learn_from_it() -> None:
    mixture = truth(3)
    model = label_regression.fit(mixture, [TARGET, 2], 3)
    rows = mixture.rows(500, np.random.default_rng(0))
    other = rows.copy()
    other[:, 2] = (rows[:, 2] + 1) % 4
    assert len(model.weights) == 6 + 1
    np.testing.assert_array_equal(model.logits(rows), model.logits(other))
    expected = mixture.conditional(TARGET, rows, [2])
    np.testing.assert_allclose(mixture.conditional(TARGET, other, [2]), expected)
    assert np.abs(model.probabilities(rows) - expected).sum(axis=1).mean() < 0.05


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_expected_of_the_sums_is_their_mean_over_labels(classes: int) -> None:
    """With the cutting to whole numbers, so that a right model is not corrected for that."""
    generator, residuals = np.random.default_rng(0), residuals_of(classes)
    given = softmax(generator.normal(0, 1, (7, classes)))
    model = regression_of(np.log(given))
    labels = (generator.random((7, 40_000, 1)) > given.cumsum(axis=1)[:, None]).sum(axis=2)
    found = [
        residuals.whole(model, np.tile([[0, group]], (40_000, 1)).astype(np.int32), row.astype(np.int32)).mean()
        for group, row in enumerate(labels)
    ]
    np.testing.assert_allclose(found, residuals.expected(given), atol=0.6)
