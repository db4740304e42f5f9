"""Why columns are drawn from noisy counts and not shuffled: the literal method against the certified one.

In two neighbouring tables, one person alone holds a value. Shuffling each column keeps its values, so "the value occurs
in the release" has probability one or zero: no (ε, δ) with δ < 1 holds. Both methods meet one test, which finds a lower
bound on P[event | with the person] − exp(ε) P[event | without], with confidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from synth import accounting
from synth.events import DiscreteGaussian
from synth.mechanisms import noisy_marginals
from synth.methods.tabular.marginals import estimate_distributions, systematic_sample
from synth.schema import Codes, Schema
from tests.chance import delta_at_least
from tests.example_contract import contract

SCHEMA = Schema.from_contract(
    contract(
        {
            "schema": {
                "disease": {"type": "categorical", "categories": ["common", "rare"]},
                "ward": {"type": "categorical", "categories": ["A", "B", "C"]},
                "ill": {"type": "boolean"},
            }
        }
    )
)
SIZES = [column.size for column in SCHEMA.columns]
RARE, DELTA, TRIALS = 1, 1e-6, 2500
EVENT = DiscreteGaussian(1.0, 1, 3).scaled_to(0.02)
EPSILON = accounting.epsilon([EVENT], DELTA)
Release = Callable[[Codes], Codes]


def tables(people: int = 60) -> tuple[Codes, Codes]:
    """With the one person who holds the rare value, and without."""
    generator = np.random.default_rng(7)
    rest = np.column_stack(
        [np.zeros(people, int), generator.integers(0, 3, people), generator.integers(0, 2, people)]
    ).astype(np.int32)
    return np.vstack([rest, [RARE, 0, 1]]).astype(np.int32), rest


def shuffled(codes: Codes) -> Codes:
    """The literal method's features."""
    generator = np.random.default_rng()
    return np.column_stack([generator.permutation(codes[:, i]) for i in range(codes.shape[1])])


def certified(codes: Codes, event: DiscreteGaussian = EVENT) -> Codes:
    """The certified method's features, as many rows for either table."""
    distributions, _ = estimate_distributions(SCHEMA, noisy_marginals(codes, SIZES, event))
    generator = np.random.default_rng()
    return np.column_stack([systematic_sample(d, 60, generator) for d in distributions])


def occurrences(release: Release, codes: Codes) -> npt.NDArray[np.int64]:
    """How often the rare value occurs, in each of many releases."""
    return np.array([(release(codes)[:, 0] == RARE).sum() for _ in range(TRIALS)])


def excess(release: Release, epsilon: float) -> float:
    """With confidence 1 − ALPHA a lower bound on δ at ε: the worst event "the value occurs at least t times"."""
    with_person, without = (occurrences(release, table) for table in tables())
    return delta_at_least(with_person, without, epsilon, range(1, 12))


@pytest.mark.statistical
def test_certified_features_keep_their_claim() -> None:
    """At the claimed (ε, δ) of the marginals; fails less than once in a million runs."""
    assert excess(certified, EPSILON) <= DELTA


def test_shuffled_columns_violate_every_claim() -> None:
    """Whatever ε below three is claimed, δ would have to be above one half."""
    assert excess(shuffled, EPSILON) > 0.8
    assert excess(shuffled, 3.0) > 0.5


def test_certified_features_with_too_little_noise_are_caught() -> None:
    """A tenth of the noise under the same claim. 2,500 releases cannot tell a half of it: the tests of the noise do."""
    quiet = replace(EVENT, sigma=EVENT.sigma / 10)
    assert excess(lambda codes: certified(codes, quiet), EPSILON) > DELTA


def test_the_certified_path_keeps_the_common_values() -> None:
    """It is not private by being useless: a share of one half is released as about one half."""
    codes = np.tile(np.array([[0, 0, 0], [1, 1, 1]], np.int32), (500, 1))
    assert (certified(codes)[:, 2] == 1).mean() == pytest.approx(0.5, abs=0.1)
