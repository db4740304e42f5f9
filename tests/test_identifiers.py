"""Made-up identifiers: of the pattern, each once, the same in whatever chunks, and of nothing but seed and number."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.contract.id_patterns import IdPattern
from synth.identifiers import made_up_ids

PATTERNS = st.text("#@A-9\\é|", min_size=1, max_size=30).filter(lambda text: not text.endswith("\\"))


@given(PATTERNS, st.integers(0, 2**53), st.integers(0, 50), st.data())
@settings(max_examples=200, deadline=None)
def test_every_identifier_is_of_the_pattern_and_none_comes_twice(
    text: str, seed: int, place: int, data: st.DataObject
) -> None:
    pattern = IdPattern.of(text)
    rows = min(300, pattern.possible)
    ids = made_up_ids(pattern, 0, rows, seed, place)
    assert len(set(ids)) == rows
    assert all(re.fullmatch(pattern.expression, each) for each in ids)
    cut = data.draw(st.integers(0, rows))
    parts = made_up_ids(pattern, 0, cut, seed, place), made_up_ids(pattern, cut, rows - cut, seed, place)
    assert np.concatenate(parts).tolist() == ids.tolist()


def test_all_identifiers_of_a_pattern_are_used_before_one_would_come_again() -> None:
    ids = made_up_ids(IdPattern.of("@#"), 0, 260, 11, 0)
    assert len(set(ids)) == 260
    with pytest.raises(ValueError, match="260"):
        made_up_ids(IdPattern.of("@#"), 200, 61, 11, 0)


def test_rows_far_into_a_long_release_have_identifiers_of_their_own() -> None:
    pattern = IdPattern.of("@" * 40)
    far = made_up_ids(pattern, 10**9 - 100, 100, 2**53 - 1, 3)
    near = made_up_ids(pattern, 0, 100_000, 2**53 - 1, 3)
    assert len({*far, *near}) == 100_100


def test_columns_of_one_pattern_and_releases_of_other_seeds_have_others() -> None:
    pattern = IdPattern.of("########")
    one = made_up_ids(pattern, 0, 1000, 1, 0)
    assert len({*one, *made_up_ids(pattern, 0, 1000, 1, 1)}) > 1900
    assert len({*one, *made_up_ids(pattern, 0, 1000, 2, 0)}) > 1900


def test_a_backslash_makes_a_place_literal() -> None:
    pattern = IdPattern.of(r"\#@\\")
    assert pattern.possible == 26
    assert set(made_up_ids(pattern, 0, 26, 0, 0)) == {f"#{letter}\\" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    with pytest.raises(ValueError, match="backslash"):
        IdPattern.of("#\\")
