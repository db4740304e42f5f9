"""Chains of conditional tables: drawing, conditioning and adding up agree with the distribution written out in full."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from synth.methods.tabular.network import Network

SIZES = (3, 2, 4, 2)
PARENTS = {2: (), 0: (2,), 3: (2, 0), 1: (0,)}


def network() -> tuple[Network, npt.NDArray[np.float64]]:
    """A chain, and the whole distribution that it stands for."""
    generator = np.random.default_rng(5)
    whole, tables = np.ones(SIZES), []
    for child, parents in PARENTS.items():
        table = generator.random([SIZES[i] for i in (*parents, child)]) ** 3
        tables.append(table / table.sum(axis=-1, keepdims=True))
        whole = np.einsum(whole, range(4), tables[-1], (*parents, child), range(4))
    return Network(tuple(PARENTS), tuple(PARENTS.values()), tuple(tables)), whole


def test_marginals_of_any_columns_are_exact() -> None:
    chain, whole = network()
    wanted = [*combinations(range(4), 2), (3, 1), (1, 2, 3), (0,), (0, 1, 2, 3)]
    for columns, table in zip(wanted, chain.marginals(wanted), strict=True):
        assert table == pytest.approx(np.einsum(whole, range(4), columns))


def test_each_column_given_all_others_is_exact() -> None:
    chain, whole = network()
    codes = np.argwhere(whole > 0).astype(np.int32)
    for column in range(4):
        exact = whole / whole.sum(axis=column, keepdims=True)
        expected = np.stack([np.moveaxis(exact, column, -1)[tuple(np.delete(row, column))] for row in codes])
        assert chain.conditional(column, codes) == pytest.approx(expected)


def test_a_code_that_says_nothing_leaves_the_rest_to_speak() -> None:
    chain, whole = network()
    codes = np.array([[-1, 0, 2, 1]], np.int32)
    told = chain.conditional(2, codes)
    assert told[0] == pytest.approx(whole.sum(axis=(0, 1, 3)))


def test_drawn_rows_have_every_table_to_within_a_few_rows() -> None:
    chain, whole = network()
    drawn = chain.rows(20_000, np.random.default_rng(1))
    for columns in ((2,), (2, 0), (2, 0, 3), (0, 1)):
        counts = np.zeros([SIZES[i] for i in columns])
        np.add.at(counts, tuple(drawn[:, i] for i in columns), 1)
        assert np.abs(counts - 20_000 * np.einsum(whole, range(4), columns)).max() < 40


def test_a_code_without_mass_is_never_drawn() -> None:
    chain = Network.of_independent([np.array([0.0, 0.3, 0.0, 0.7, 0.0])])
    assert set(np.unique(chain.rows(1000, np.random.default_rng(0)))) == {1, 3}


def test_arrays_give_the_same_rows_again() -> None:
    chain, _ = network()
    again = Network.from_arrays(chain.arrays(), SIZES)
    first, second = (each.rows(500, np.random.default_rng(3)) for each in (chain, again))
    assert (first == second).all()


def test_no_rows_are_drawn_where_none_are_asked_for() -> None:
    assert network()[0].rows(0, np.random.default_rng(0)).shape == (0, 4)


def test_conditioning_on_evidence_is_exact() -> None:
    chain, whole = network()
    evidence = {3: np.array([1.0, 0.25]), 0: np.array([0.0, 1.0, 0.5])}
    weighed = whole * evidence[0][:, None, None, None] * evidence[3]
    conditioned, share = chain.given(evidence)
    assert share == pytest.approx(weighed.sum())
    (table,) = conditioned.marginals([(0, 1, 2, 3)])
    assert table == pytest.approx(weighed / weighed.sum())


def test_evidence_that_no_row_meets_has_no_share() -> None:
    assert network()[0].given({1: np.zeros(2)})[1] == 0
