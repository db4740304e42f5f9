"""Groups of codes: a partition decided by released shares, few enough for the plan, and undone by the marginals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.methods.tabular.groups import NO_GROUP, Groups, most_groups, smallest_share
from synth.methods.tabular.marginals import project_to_simplex
from synth.schema import Schema
from tests.example_contract import contract

Probabilities = npt.NDArray[np.float64]

SCHEMA = Schema.from_contract(
    contract(
        {
            "schema": {
                "age": {"type": "integer", "min": 0, "max": 99},
                "pay": {"type": "number", "min": 0, "max": 9, "bins": 40, "nullable": True},
                "town": {"type": "categorical", "categories": list(range(60)), "nullable": True},
                "only": {"type": "categorical", "categories": ["one"]},
                "grade": {"type": "categorical", "categories": list(range(12)), "nullable": True},
            },
            "task": {"target": "grade", "kind": "multiclass"},
            "method": {"options": {"structure": "mixture"}},
        }
    )
)


def distributions_of(generator: np.random.Generator, rough: float) -> list[Probabilities]:
    """Of all columns: from nearly one cell to nearly even, some cells empty."""
    found = []
    for column in SCHEMA.columns:
        allowed = column.size if column.nullable else column.cells
        drawn = np.maximum(generator.dirichlet(np.full(allowed, rough)), 1e-300)
        drawn[generator.random(allowed) < generator.choice([0.0, 0.3, 0.8])] = 0
        found.append(np.pad(project_to_simplex(drawn), (0, column.size - allowed)))
    return found


distributions = st.builds(
    lambda seed, rough: distributions_of(np.random.default_rng(seed), rough),
    st.integers(0, 2**32),
    st.sampled_from([0.01, 0.1, 1.0, 30.0]),
)
leasts = st.one_of(st.floats(1 / 48, 0.5), st.sampled_from([1 / 48, 0.05, 0.1, 0.25, 0.5]))


@given(distributions, leasts)
@settings(max_examples=300, deadline=None)
def test_groups_are_a_partition_of_the_codes(shares: list[Probabilities], least: float) -> None:
    """Numbered from 0 without gaps; null is a group of its own, the last, or none where it is not allowed."""
    groups = Groups.from_marginals(SCHEMA, shares, least)
    for column, of_codes, size in zip(SCHEMA.columns, groups.of_codes, groups.sizes, strict=True):
        assert of_codes.shape == (column.size,)
        assert set(of_codes[:-1]) == set(range(size - column.nullable))
        assert of_codes[-1] == (size - 1 if column.nullable else NO_GROUP)
        if column.is_numeric:
            assert (np.diff(of_codes[:-1]) >= 0).all()


@given(distributions, leasts)
@settings(max_examples=500, deadline=None)
def test_there_are_never_more_groups_than_the_plan_counts(shares: list[Probabilities], least: float) -> None:
    groups = Groups.from_marginals(SCHEMA, shares, least)
    for column, size in zip(SCHEMA.columns, groups.sizes, strict=True):
        if column.name != SCHEMA.target:
            assert size <= most_groups(column, least)


@given(distributions, leasts)
@settings(max_examples=100, deadline=None)
def test_classes_of_the_target_are_never_joined(shares: list[Probabilities], least: float) -> None:
    groups = Groups.from_marginals(SCHEMA, shares, least)
    assert groups.of_codes[SCHEMA.target_index].tolist() == list(range(13))


@given(distributions, leasts)
@settings(max_examples=100, deadline=None)
def test_a_frequent_code_is_a_group_of_its_own_up_to_what_is_too_little(
    shares: list[Probabilities], least: float
) -> None:
    groups = Groups.from_marginals(SCHEMA, shares, least)
    for column, of_codes, share in zip(SCHEMA.columns, groups.of_codes, shares, strict=True):
        for code in np.flatnonzero(share[:-1] >= least):
            others = share[(of_codes == of_codes[code]) & (np.arange(column.size) != code)]
            assert others.sum() < (least if column.is_numeric else 1e-12)  # half of it on either side


def test_no_code_is_lost_when_all_are_empty() -> None:
    shares = [np.append(np.zeros(c.cells), 1.0) for c in SCHEMA.columns]
    assert Groups.from_marginals(SCHEMA, shares, 0.1).sizes == [1, 2, 2, 1, 13]


@given(distributions, leasts, st.integers(0, 2**32), st.integers(1, 400))
@settings(max_examples=150, deadline=None)
def test_drawn_codes_stay_in_their_group_and_within_one_row_of_the_marginal_inside_it(
    shares: list[Probabilities], least: float, seed: int, rows: int
) -> None:
    generator = np.random.default_rng(seed)
    groups = Groups.from_marginals(SCHEMA, shares, least)
    grouped = np.column_stack([generator.integers(0, size, rows) for size in groups.sizes]).astype(np.int32)
    codes = groups.drawn(grouped, shares, generator)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(groups.of(codes), grouped)
    for i, (of_codes, share) in enumerate(zip(groups.of_codes, shares, strict=True)):
        for group in range(groups.sizes[i]):
            members = np.flatnonzero(of_codes == group)
            whole = share[members].sum()
            inside = share[members] / whole if whole > 0 else np.full(len(members), 1 / len(members))
            among = codes[grouped[:, i] == group, i]
            counts = np.array([(among == code).sum() for code in members])
            assert (np.abs(counts - len(among) * inside) <= 1 + 1e-6).all()
            assert (counts[inside == 0] == 0).all()


@given(distributions, leasts)
@settings(max_examples=50, deadline=None)
def test_shares_of_groups_are_those_of_their_codes(shares: list[Probabilities], least: float) -> None:
    for share in Groups.from_marginals(SCHEMA, shares, least).shares(shares):
        assert share.sum() == pytest.approx(1)
        assert (share >= 0).all()


@pytest.mark.parametrize(("sigma", "rows", "least"), [(0.0, 10, 1 / 48), (1e9, 10, 0.5), (10.0, 1000.0, 0.0566)])
def test_a_group_stands_out_of_the_noise_within_public_bounds(sigma: float, rows: float, least: float) -> None:
    assert smallest_share(sigma, rows) == pytest.approx(least, rel=1e-3)


def test_rows_without_a_group_keep_none() -> None:
    groups = Groups.from_marginals(SCHEMA, distributions_of(np.random.default_rng(1), 1.0), 0.1)
    nulls: Any = np.array([[column.null_code for column in SCHEMA.columns]], np.int32)
    assert groups.of(nulls)[0].tolist() == [-1, groups.sizes[1] - 1, groups.sizes[2] - 1, -1, 12]
    assert groups.of(np.zeros((0, 5), np.int32)).shape == (0, 5)


def test_evidence_on_codes_is_evidence_on_groups_and_codes_inside_them() -> None:
    """Also in a group that the marginal gives nothing, whose codes are drawn evenly."""
    groups = Groups((np.array([0, 0, 1, 1, 2], np.int32),))
    of_groups, weighed = groups.given([np.array([0.3, 0.1, 0.0, 0.0, 0.6])], {0: np.array([0.0, 1.0, 0.5, 0.0, 1.0])})
    np.testing.assert_allclose(of_groups[0], [0.25, 0.25, 1.0])
    drawn = groups.drawn(np.repeat([[0], [1], [2]], 100, axis=0).astype(np.int32), weighed, np.random.default_rng(0))
    assert drawn.ravel().tolist() == [1] * 100 + [2] * 100 + [4] * 100
