"""The one correction of a label regression on private rows, by noisy sums of its residuals.

On real rows the residuals, bounded row by row and made whole numbers, are added up for each group of each column: their
noisy sums are the gradient of a robust likelihood. What the same sums would be if the model were right is known from
rows drawn from the mixture. The difference, through the curvature of the drawn rows and a prior that expects small and,
along ordered columns, steady corrections, is one step: what the noise could as well have made is left alone (a Wiener
filter). Offsets then make the mean probabilities meet the released label share.

Of *two classes* the residual is the label minus its probability. Of a *number* it is its score (the mean of its group,
standardised by the released distribution) minus the mean score, and the correction tilts the probabilities along the
score, so that it is the mean that is mended.

A row has one whole number, so the sums are integer queries like counts; one pass over the rows, no training loop.
More than two classes would have a number each, whose sizes add up: for them :mod:`synth.methods.tabular.label_tables`
is more exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from synth.methods.tabular.label_regression import LabelRegression, drawn_rows, one_hot
from synth.methods.tabular.marginals import Probabilities
from synth.methods.tabular.mixture import Mixture
from synth.schema import Codes

MOST = 64  # what the sizes of one row's integer weights add up to, at most
_BOUND = 0.3  # of a row's residual; larger ones count as this
_SCORE_BOUND = 1.5  # of a residual in standard deviations of the number
_BLOCK = 32_768
_PRIOR = 0.2  # standard deviation of one weight's correction
_PRIOR_ALONG = 3.0  # variance of a correction along an ordered column, over that of one weight


@dataclass(frozen=True)
class Residuals:
    """How the residuals of a target are taken.

    :ivar scores: of each group of the target.
    :ivar bound: of a residual; larger ones count as this.
    """

    scores: npt.NDArray[np.float64]
    bound: float

    @classmethod
    def of_two_classes(cls) -> Residuals:
        """The first class against the second."""
        return cls(np.array([1.0, 0.0]), _BOUND)

    @classmethod
    def of_number(cls, means: npt.NDArray[np.float64], share: Probabilities) -> Residuals:
        """By the means of a number's groups, and their released shares."""
        weights = np.maximum(share, 1e-12)
        centred = means - np.average(means, weights=weights)
        return cls(centred / max(float(np.sqrt(np.average(centred**2, weights=weights))), 1e-12), _SCORE_BOUND)

    def whole(self, model: LabelRegression, groups: Codes, labels: Codes) -> npt.NDArray[np.int8]:
        """Whole numbers of at most ``MOST`` in size, shape (rows, 1).

        Block by block: what is held at once besides the result does not grow with the rows.
        """
        weights = np.empty((len(groups), 1), np.int8)
        for start in range(0, len(groups), _BLOCK):
            part = slice(start, start + _BLOCK)
            probabilities = model.probabilities(groups[part])
            # Not a matrix product, whose last bits can depend on how many rows there are.
            expected = (probabilities * self.scores).sum(axis=1)
            weights[part, 0] = self._whole(self.scores[labels[part]] - expected)
        return weights

    def expected(self, probabilities: Probabilities) -> npt.NDArray[np.float64]:
        """The mean whole number of rows whose labels follow the probabilities, so that cutting is expected too."""
        return np.asarray((probabilities * self._whole(self._apart(probabilities))).sum(axis=1))

    def curvature(self, probabilities: Probabilities) -> npt.NDArray[np.float64]:
        """How fast the expected bounded residual of a row follows a tilt of its logits along the scores."""
        apart = self._apart(probabilities)
        return np.asarray((probabilities * apart * np.clip(apart, -self.bound, self.bound)).sum(axis=1))

    @property
    def unit(self) -> float:
        """The whole number of a residual of one."""
        return MOST / self.bound

    def _apart(self, probabilities: Probabilities) -> npt.NDArray[np.float64]:
        return self.scores - (probabilities @ self.scores)[:, None]

    def _whole(self, apart: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        return np.trunc(np.clip(apart, -self.bound, self.bound) * self.unit).astype(np.int64)


def corrected(
    model: LabelRegression,
    residuals: Residuals,
    noisy: npt.NDArray[np.int64],
    sigma: float,
    mixture: Mixture,
    rows: float,
    ordered: Sequence[int],
    shares: Sequence[Probabilities],
) -> LabelRegression:
    """The model after its one step.

    :param noisy: noisy sums of whole residuals, shape (rows of ``weights``,).
    :param sigma: their noise scale.
    :param rows: about how many private rows there are, labelled or not; a released number.
    :param ordered: for each column how many of its groups, from the first on, are in order.
    :param shares: of each column's groups, one array a column, the target's among them.
    """
    drawn = drawn_rows(mixture)
    probabilities = model.probabilities(drawn)
    scale = _labelled(model, mixture, drawn) * rows / len(drawn)
    features = one_hot(model, drawn)
    sums = features.T @ (residuals.expected(probabilities) * scale).astype(np.float32)
    difference, noise = (noisy - sums) / residuals.unit, sigma / residuals.unit
    curvatures = (residuals.curvature(probabilities) * scale).astype(np.float32)
    curvature = ((features * curvatures[:, None]).T @ features).astype(np.float64)
    prior = _prior(model, ordered, shares)
    spread = curvature @ prior @ curvature + noise**2 * np.eye(len(prior))
    step = prior @ curvature @ np.linalg.solve(spread, difference)
    found = replace(model, weights=model.weights + np.outer(step, residuals.scores))
    return found.at_share(drawn, shares[model.target])


def summed_sizes(groups: Sequence[int], hidden: Sequence[int]) -> list[int]:
    """Sizes of the columns of :func:`summed_codes`.

    :param groups: how many groups each column has.
    """
    return [size + 1 for i, size in enumerate(groups) if i not in hidden] + [1]


def summed_codes(groups: Codes, sizes: Sequence[int], hidden: Sequence[int]) -> Codes:
    """By what residuals are added up: the groups of each column that is seen, null where none is allowed as the last
    one, and a column in which all rows are alike."""
    others = np.delete(groups, hidden, axis=1)
    last = np.array(sizes[:-1]) - 1
    return np.column_stack([np.where(others >= 0, others, last), np.zeros(len(groups), np.int32)])


def without_disallowed(sums: npt.NDArray[np.int64], sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    """The sums of the places that have weights."""
    kept = [np.arange(size) < max(size - 1, 1) for size in sizes]
    return sums[np.concatenate(kept)]


def _labelled(model: LabelRegression, mixture: Mixture, drawn: Codes) -> Probabilities:
    """How likely each drawn row has a label, not null. Shape (rows,)."""
    if mixture.tables[model.target].shape[1] == model.classes:
        return np.ones(len(drawn))
    return np.asarray(mixture.conditional(model.target, drawn, model.hidden)[:, : model.classes].sum(axis=1))


def _prior(model: LabelRegression, ordered: Sequence[int], shares: Sequence[Probabilities]) -> npt.NDArray[np.float64]:
    """Covariance of a correction: independent, and along an ordered column a line in the rank of its groups."""
    covariance = np.eye(len(model.weights))
    others = [i for i in range(len(shares)) if i not in model.hidden]
    for start, i in zip(model.starts, others, strict=True):
        share = shares[i][: ordered[i]]
        part = slice(int(start), int(start) + len(share))
        ranks = 2 * (np.cumsum(share) - share / 2) / max(share.sum(), 1e-12) - 1
        covariance[part, part] += _PRIOR_ALONG * np.outer(ranks, ranks)
    return covariance * _PRIOR**2
