"""The targets' part of the plan: who is charged for what, and how two measurements of a table become one."""

from __future__ import annotations

import numpy as np
import pytest

from synth.contract import MixtureShares
from synth.events import DiscreteGaussian
from synth.mechanisms import noisy_pairs
from synth.methods.tabular.label_parts import (
    LabelPart,
    PairTables,
    divided,
    group_means,
    joined_cells,
    label_parts,
    pairs_with,
    split_cells,
)
from synth.schema import Schema
from tests.example_contract import contract

TASK = {
    "targets": [
        {"target": "tier", "kind": "multiclass", "share": 0.5},
        {"target": "ill", "kind": "binary", "share": 0.5},
    ]
}


def part(by_tables: bool, share: float) -> LabelPart:
    return LabelPart("m", "t", (0,), 3, by_tables, share)


def test_each_target_sees_the_columns_that_are_none_and_the_targets_before_it() -> None:
    chosen = contract({"task": TASK, "method.options": {}})
    tier, ill = label_parts(chosen, Schema.from_contract(chosen))
    names = list(chosen.columns)
    assert [names[i] for i in tier.hidden] == ["tier", "ill"]
    assert [names[i] for i in ill.hidden] == ["ill"]
    assert (tier.mechanism, ill.mechanism) == ("label_tables_1", "label_correction_2")


@pytest.mark.parametrize("parts", [[], [part(False, 1.0)], [part(True, 1.0)], [part(True, 0.3), part(False, 0.7)]])
def test_shares_are_divided_without_loss(parts: list[LabelPart]) -> None:
    shares = MixtureShares()
    found = divided(shares, parts)
    assert found.marginals + found.pairs + sum(found.labels) + shares.validation == pytest.approx(1)
    assert len(found.labels) == len(parts)


def test_a_table_measured_twice_is_the_mean_by_precision_and_others_stay() -> None:
    first = PairTables.of(np.arange(2 * 3 + 2 * 2 + 3 * 2), [2, 3, 2], 6.0)
    again = [np.full((2, 3), 100), np.full((3, 2), 100)]
    both = first.with_more(1, again, 3.0)
    assert pairs_with(1, 3) == [(0, 1), (1, 2)]
    np.testing.assert_allclose(both.tables[0], 0.2 * first.tables[0] + 0.8 * 100)
    np.testing.assert_array_equal(both.tables[1], first.tables[1])
    np.testing.assert_allclose(both.tables[2], 0.2 * first.tables[2] + 0.8 * 100)
    assert both.sigmas == pytest.approx([(1 / 36 + 1 / 9) ** -0.5, 6.0, (1 / 36 + 1 / 9) ** -0.5])


def test_tables_of_some_pairs_are_charged_for_these_alone() -> None:
    codes, sizes = np.zeros((5, 3), np.int32), [2, 3, 2]
    pairs = pairs_with(1, 3)
    tables = noisy_pairs(codes, sizes, DiscreteGaussian(0.05, 1, 2), None, pairs)
    assert [table.shape for table in tables] == [(2, 3), (3, 2)]
    assert [int(table[0, 0]) for table in tables] == [5, 5]
    with pytest.raises(ValueError, match="2 compositions"):
        noisy_pairs(codes, sizes, DiscreteGaussian(1.0, 1, 3), None, pairs)
    restored = split_cells(joined_cells(tables), [(2, 3), (3, 2)])
    assert all(np.array_equal(a, b) for a, b in zip(restored, tables, strict=True))


def test_a_numbers_groups_have_the_means_of_the_released_distribution() -> None:
    means, share = group_means(
        np.array([1.0, 3.0, 10.0, np.nan]), np.array([0, 0, 1, 2]), np.array([0.3, 0.1, 0.5, 0.1]), 2
    )
    assert means == pytest.approx([1.5, 10.0])
    assert share == pytest.approx([0.4, 0.5])
