"""What pairs, label sums and groups claim, against neighbours that differ by one unit; broken twins meet the same test.

The audit knows where the unit's rows are and adds up what they moved, the most telling statistic there is. It finds a
lower bound on δ at the claimed ε, with confidence. Claims are at δ = 0.01, where 1,500 releases can tell: a mechanism
whose noise is for a third of what it moves is caught.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from synth import accounting
from synth.events import DiscreteGaussian
from synth.mechanisms import noisy_integers, noisy_marginals, noisy_pairs, noisy_weighted_histograms
from synth.methods.tabular import label_correction
from synth.methods.tabular.groups import Groups
from synth.methods.tabular.label_correction import MOST, Residuals, summed_codes, summed_sizes
from synth.methods.tabular.label_regression import LabelRegression
from synth.methods.tabular.marginals import estimate_distributions
from synth.schema import Codes, Schema
from tests.chance import delta_at_least
from tests.example_contract import contract

CAP, ROWS = 3, 10  # rows that a unit may have, and those that this one brought
RHO, DELTA, TRIALS = 0.125, 0.01, 1500
SIZES = [3, 2, 2]
Table = tuple[Codes, npt.NDArray[np.int64]]
Statistic = Callable[[Table], float]


def neighbours(rows: int) -> tuple[Table, Table]:
    """With a unit of so many rows, all alike, and without it."""
    generator = np.random.default_rng(7)
    rest = np.column_stack([generator.integers(0, size, 40) for size in SIZES]).astype(np.int32)
    unit = np.tile([2, 1, 1], (rows, 1)).astype(np.int32)
    owners = np.concatenate([np.arange(40), np.full(rows, 40)])
    return (np.vstack([rest, unit]), owners), (rest, owners[:40])


def audited(statistic: Statistic, event: DiscreteGaussian, rows: int) -> float:
    """A lower bound on δ at the ε that the event claims. The statistic is in standard deviations."""
    samples = [np.array([statistic(table) for _ in range(TRIALS)]) for table in neighbours(rows)]
    middle = float(np.median(samples[1]))
    thresholds = middle + np.linspace(-2, 6, 17)
    return delta_at_least(samples[0], samples[1], accounting.epsilon([event], DELTA), thresholds.tolist())


PAIRS = DiscreteGaussian(1.0, CAP, 3).scaled_to(RHO)


def moved_pairs(tables: list[npt.NDArray[np.int64]], event: DiscreteGaussian) -> float:
    return float(sum(int(table[cell]) for table, cell in zip(tables, ((2, 1), (2, 1), (1, 1)), strict=True))) / (
        event.sigma * 3**0.5
    )


def capped_pairs(table: Table) -> float:
    return moved_pairs(noisy_pairs(table[0], SIZES, PAIRS, table[1]), PAIRS)


def uncapped_pairs(table: Table) -> float:
    """Nobody says whose the rows are, so nothing holds the unit to its cap."""
    return moved_pairs(noisy_pairs(table[0], SIZES, PAIRS), PAIRS)


@pytest.mark.statistical
def test_pairs_keep_their_claim() -> None:
    """For a unit with as many rows as it may have. Fails less than once in a million runs."""
    assert audited(capped_pairs, PAIRS, CAP) <= DELTA


def test_pairs_of_a_unit_with_more_rows_than_the_cap_are_caught() -> None:
    """And are refused where the units are known."""
    assert audited(uncapped_pairs, PAIRS, ROWS) > DELTA
    with pytest.raises(ValueError, match="at most 3 rows a unit"):
        capped_pairs(neighbours(ROWS)[0])


SUMS = DiscreteGaussian(1.0, MOST * CAP, 3).scaled_to(RHO)
SURE = LabelRegression(
    (2,), np.array([[4.0, 0], [4, 0], [4, 0], [3, 0], [3, 0], [0, 0]]), np.array([0, 3]), np.zeros(2)
)
TWO = Residuals.of_two_classes()
SUMMED = summed_sizes(SIZES, [2])


def moved_sums(sums: npt.NDArray[np.int64]) -> float:
    """The unit's label is one of which the regression is sure that it is not."""
    return -float(sums[[2, 5, 7], 0].sum()) / (SUMS.sigma * 3**0.5)


def bounded_sums(table: Table) -> float:
    codes, owners = table
    weights = TWO.whole(SURE, codes, codes[:, 2])
    return moved_sums(noisy_weighted_histograms(summed_codes(codes, SUMMED, [2]), SUMMED, weights, MOST, SUMS, owners))


def unbounded_weights(codes: Codes) -> npt.NDArray[np.int64]:
    residuals = (codes[:, 2] == 0) - SURE.probabilities(codes)[:, 0]
    return np.trunc(residuals * MOST / label_correction._BOUND).astype(np.int64)[:, None]


def unbounded_sums(table: Table) -> float:
    codes = summed_codes(table[0], SUMMED, [2])
    weights = unbounded_weights(table[0])[:, 0]
    exact = [np.bincount(codes[:, i], weights, size) for i, size in enumerate(SUMMED)]
    return moved_sums(noisy_integers(np.concatenate(exact).astype(np.int64)[:, None], SUMS.sigma))


def test_the_audited_unit_moves_the_sums_by_all_that_is_charged() -> None:
    codes, _ = neighbours(CAP)[0]
    assert TWO.whole(SURE, codes, codes[:, 2])[-CAP:, 0].tolist() == [-MOST] * CAP
    assert summed_codes(codes, SUMMED, [2])[-1].tolist() == [2, 1, 0]


@pytest.mark.statistical
def test_label_sums_keep_their_claim() -> None:
    """Fails less than once in a million runs."""
    assert audited(bounded_sums, SUMS, CAP) <= DELTA


def test_label_sums_without_a_bound_on_each_row_are_caught() -> None:
    """And are refused by the mechanism."""
    assert audited(unbounded_sums, SUMS, CAP) > DELTA
    codes, owners = neighbours(CAP)[0]
    with pytest.raises(ValueError, match="weights of at most 64 a row"):
        noisy_weighted_histograms(
            summed_codes(codes, SUMMED, [2]), SUMMED, unbounded_weights(codes), MOST, SUMS, owners
        )


SCHEMA = Schema.from_contract(
    contract(
        {
            "schema": {
                "ward": {"type": "categorical", "categories": ["A", "B", "C"]},
                "smoker": {"type": "boolean"},
                "ill": {"type": "boolean"},
            },
            "method": {"options": {"structure": "mixture"}},
        }
    )
)
MARGINALS = DiscreteGaussian(1.0, CAP, 3).scaled_to(RHO)
LEAST = 0.45  # the unit's rows carry ward C over it


def groups_of_wards(counts: list[npt.NDArray[np.int64]]) -> float:
    """A table's shape tells it, so what decides it must have been released."""
    distributions, _ = estimate_distributions(SCHEMA, counts)
    return float(Groups.from_marginals(SCHEMA, distributions, LEAST).sizes[0] > 1)


def released_groups(table: Table) -> float:
    return groups_of_wards(noisy_marginals(table[0], [4, 3, 3], MARGINALS, table[1]))


def exact_groups(table: Table) -> float:
    return groups_of_wards([np.bincount(table[0][:, i], minlength=size) for i, size in enumerate((4, 3, 3))])


@pytest.mark.statistical
def test_groups_keep_the_claim_of_the_marginals_that_decide_them() -> None:
    """Fails less than once in a million runs."""
    assert audited(released_groups, MARGINALS, CAP) <= DELTA


def test_groups_decided_from_exact_counts_are_caught() -> None:
    """Whatever else is noisy: the shape of a table would tell that the unit is there."""
    assert audited(exact_groups, MARGINALS, CAP) > 0.9
