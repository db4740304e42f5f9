"""Softmax regression of the label on groups of codes: fitted to the mixture for free, corrected once on private rows.

1. *Fit.* Rows are drawn from the mixture, with the label's distribution given the other columns; softmax regression on
   one-hot groups is fitted to those. It keeps what pairs with the label say together, and no more.
2. *Correct.* On real rows its residuals (label minus probability), bounded row by row and made whole numbers, are added
   up for each group of each column: their noisy sums are the gradient of a robust likelihood. What the same sums would
   be if the model were right is known from the drawn rows. The difference, through the curvature of the drawn rows and
   a prior that expects small and, along ordered columns, steady corrections, is one step: what the noise could as well
   have made is left alone (a Wiener filter).
3. *Share.* Offsets make the mean probabilities meet the released label share.

The residual of a row is bounded in its sum of sizes, so the sums are integer queries like counts; one pass over the
rows, no training loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from synth.methods.tabular.marginals import Probabilities, softmax
from synth.methods.tabular.mixture import Mixture
from synth.schema import Codes

MOST = 64  # what the sizes of one row's integer weights add up to, at most
_BOUND = 0.3  # of a row's residual; larger ones count as this
_ROWS = 20_000  # drawn from the mixture for the fit
_BLOCK = 32_768
_SEED = 0  # draws them; hides nothing
_RIDGE = 1e-4
_FIT_STEPS = 60
_SHARPENING = 1 / 0.7
_PRIOR = 0.2  # standard deviation of one weight's correction
_PRIOR_ALONG = 3.0  # variance of a correction along an ordered column, over that of one weight


@dataclass(frozen=True)
class LabelRegression:
    """Weights over the groups of every column but the target, and a constant.

    :ivar target: the target's place among the columns.
    :ivar weights: shape (groups of the other columns + 1, classes); the last row is the constant.
    :ivar starts: the first row of ``weights`` of each of the other columns.
    :ivar offsets: of the classes, shape (classes,).
    """

    target: int
    weights: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float64]

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return self.weights.shape[1]

    def places(self, groups: Codes) -> npt.NDArray[np.int64]:
        """The rows of ``weights`` that each row of groups adds up, shape (rows, columns); null where none is allowed
        adds none, which is one past the last."""
        others = np.delete(groups, self.target, axis=1)
        places = np.where(others >= 0, others + self.starts, len(self.weights))
        return np.column_stack([places, np.full(len(groups), len(self.weights) - 1)])

    def logits(self, groups: Codes) -> npt.NDArray[np.float64]:
        """Shape (rows, classes); each row's depend on that row alone. The target's column is ignored."""
        padded = np.vstack([self.weights, np.zeros(self.classes)])  # for null where none is allowed
        places = self.places(groups)
        logits = np.tile(self.offsets, (len(groups), 1))
        for column in range(places.shape[1]):
            logits += padded[places[:, column]]
        return logits

    def probabilities(self, groups: Codes) -> Probabilities:
        """Of the classes, for rows of groups. Shape (rows, classes)."""
        return softmax(self.logits(groups))

    def residual_weights(self, groups: Codes, labels: Codes) -> npt.NDArray[np.int8]:
        """Whole numbers for each row and each class but the last, whose sizes add up to ``MOST`` or less in a row.

        Block by block: what is held at once besides the result does not grow with the rows.
        """
        weights = np.empty((len(groups), self.classes - 1), np.int8)
        for start in range(0, len(groups), _BLOCK):
            part = slice(start, start + _BLOCK)
            weights[part] = _residual_weights(self.probabilities(groups[part]), labels[part])
        return weights


def edges(groups: Sequence[int], target: int) -> npt.NDArray[np.int64]:
    """Where the weights of each column but the target start, and where the last end.

    :param groups: how many groups each column has.
    """
    return np.concatenate([[0], np.cumsum([size for i, size in enumerate(groups) if i != target])]).astype(np.int64)


def summed_sizes(groups: Sequence[int], target: int) -> list[int]:
    """Sizes of the columns of :func:`summed_codes`.

    :param groups: how many groups each column has.
    """
    return [size + 1 for i, size in enumerate(groups) if i != target] + [1]


def summed_codes(groups: Codes, sizes: Sequence[int], target: int) -> Codes:
    """By what residuals are added up: the groups of each column but the target, null where none is allowed as the
    last one, and a column in which all rows are alike."""
    others = np.delete(groups, target, axis=1)
    last = np.array(sizes[:-1]) - 1
    return np.column_stack([np.where(others >= 0, others, last), np.zeros(len(groups), np.int32)])


def without_disallowed(sums: npt.NDArray[np.int64], sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    """The sums of the places that have weights."""
    kept = [np.arange(size) < max(size - 1, 1) for size in sizes]
    return sums[np.concatenate(kept)]


def fit(mixture: Mixture, target: int, classes: int) -> LabelRegression:
    """Step 1. Cost: some dozen passes over 20,000 drawn rows.

    :param classes: the first so many groups of the target; a row teaches as much as it is likely to have one of them,
        not null.
    """
    starts = edges([table.shape[1] for table in mixture.tables], target)
    rows = drawn_rows(mixture)
    wanted = mixture.conditional(target, rows)[:, :classes].astype(np.float32)
    model = LabelRegression(target, np.zeros((int(starts[-1]) + 1, classes)), starts[:-1], np.zeros(classes))
    features = _one_hot(model, rows)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = flat.reshape(model.weights.shape)
        logits = features @ weights.astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        missed = np.exp(logs) * wanted.sum(axis=1, keepdims=True) - wanted
        value = -float((wanted * logs).sum(dtype=np.float64)) / len(rows) + _RIDGE / 2 * float((weights**2).sum())
        return value, ((features.T @ missed).astype(np.float64) / len(rows) + _RIDGE * weights).ravel()

    found = minimize(loss, model.weights.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _FIT_STEPS})
    return replace(model, weights=found.x.reshape(model.weights.shape))


def _one_hot(model: LabelRegression, rows: Codes) -> npt.NDArray[np.float32]:
    """Shape (rows, rows of ``weights``); of rows drawn from a mixture, in which every group is one that is allowed."""
    features = np.zeros((len(rows), len(model.weights)), np.float32)
    features[np.arange(len(rows))[:, None], model.places(rows)] = 1
    return features


def drawn_rows(mixture: Mixture) -> Codes:
    """The rows on which expectations under the model are taken."""
    return mixture.rows(_ROWS, np.random.default_rng(_SEED))


def corrected(
    model: LabelRegression,
    noisy: npt.NDArray[np.int64],
    sigma: float,
    mixture: Mixture,
    rows: float,
    ordered: Sequence[int],
    shares: Sequence[Probabilities],
) -> LabelRegression:
    """Steps 2 and 3.

    :param noisy: noisy sums of residual weights, shape (rows of ``weights``, classes - 1).
    :param sigma: their noise scale.
    :param rows: about how many private rows there are, labelled or not; a released number.
    :param ordered: for each column how many of its groups, from the first on, are in order.
    :param shares: of each column's groups, one array a column, the target's among them.
    """
    drawn = drawn_rows(mixture)
    probabilities = model.probabilities(drawn)
    scale = _labelled(model, mixture, drawn) * rows / len(drawn)
    expected = _expected_weights(probabilities) * scale
    size, unit = len(model.weights), MOST / (_BOUND * _sides(model.classes))
    features = _one_hot(model, drawn)
    sums = features.T @ expected.astype(np.float32)
    difference, noise = (noisy - sums) / unit, sigma / unit
    prior = _prior(model, ordered, shares)
    weights = model.weights.copy()
    curvatures = _curvatures(probabilities) * scale
    for label in range(model.classes - 1):
        curvature = ((features * curvatures[:, [label]].astype(np.float32)).T @ features).astype(np.float64)
        spread = curvature @ prior @ curvature + noise**2 * np.eye(size)
        weights[:, label] += prior @ curvature @ np.linalg.solve(spread, difference[:, label])
    found = replace(model, weights=weights)
    return replace(found, offsets=_offsets(found.logits(drawn), shares[model.target][: model.classes]))


def sharpened(model: LabelRegression, mixture: Mixture, share: Probabilities) -> LabelRegression:
    """The model with logits that are surer by a public factor, at the same label share.

    Labels drawn from it are less random, so that a consumer's model learns the order of probabilities from fewer rows;
    what it learns of their size is as much too sure.

    :param share: of each class.
    """
    surer = replace(model, weights=model.weights * _SHARPENING, offsets=np.zeros(model.classes))
    return replace(surer, offsets=_offsets(surer.logits(drawn_rows(mixture)), share))


def _labelled(model: LabelRegression, mixture: Mixture, drawn: Codes) -> Probabilities:
    """How likely each drawn row has a label, not null. Shape (rows, 1)."""
    if mixture.tables[model.target].shape[1] == model.classes:
        return np.ones((len(drawn), 1))
    return np.asarray(mixture.conditional(model.target, drawn)[:, : model.classes].sum(axis=1, keepdims=True))


def _residual_weights(probabilities: Probabilities, labels: Codes) -> npt.NDArray[np.int64]:
    residuals = -probabilities
    residuals[np.arange(len(labels)), labels] += 1
    missed = residuals[np.arange(len(labels)), labels]  # half of what the residuals' sizes add up to
    bounded = residuals * np.minimum(1, _BOUND / np.maximum(missed, 1e-12))[:, None]
    classes = probabilities.shape[1]
    return np.trunc(bounded[:, : classes - 1] * (MOST / (_BOUND * _sides(classes)))).astype(np.int64)


def _sides(classes: int) -> int:
    """Of two classes one residual is kept; of more, both the label's and the others' sizes count."""
    return 1 if classes == 2 else 2


def _expected_weights(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Of rows whose labels follow the probabilities; the same whole numbers, so that cutting them is expected too."""
    expected = np.zeros((len(probabilities), probabilities.shape[1] - 1))
    for label in range(probabilities.shape[1]):
        labels = np.full(len(probabilities), label, np.int32)
        expected += probabilities[:, [label]] * _residual_weights(probabilities, labels)
    return expected


def _curvatures(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """How fast each class's expected bounded residual follows its own logit, row by row.

    Classes are corrected one by one, though of more than two a step of one changes what the others need; the factor
    makes up for that where they are equally likely.
    """
    q, classes = probabilities, probabilities.shape[1]
    factor = np.minimum(1, _BOUND / np.maximum(1 - q, 1e-12))
    mean = (factor * q).sum(axis=1, keepdims=True)
    own = factor * q * (1 - q) - factor * q**2 + q**2 * mean
    return np.asarray(own if classes == 2 else own / (1 - 1 / classes))


def _prior(model: LabelRegression, ordered: Sequence[int], shares: Sequence[Probabilities]) -> npt.NDArray[np.float64]:
    """Covariance of a correction: independent, and along an ordered column a line in the rank of its groups."""
    covariance = np.eye(len(model.weights))
    others = [i for i in range(len(shares)) if i != model.target]
    for start, i in zip(model.starts, others, strict=True):
        share = shares[i][: ordered[i]]
        part = slice(int(start), int(start) + len(share))
        ranks = 2 * (np.cumsum(share) - share / 2) / max(share.sum(), 1e-12) - 1
        covariance[part, part] += _PRIOR_ALONG * np.outer(ranks, ranks)
    return covariance * _PRIOR**2


def _offsets(logits: npt.NDArray[np.float64], share: Probabilities) -> npt.NDArray[np.float64]:
    target = np.maximum(share / max(share.sum(), 1e-12), 1e-4)
    offsets = np.zeros(logits.shape[1])
    for _ in range(40):
        offsets += np.log(target) - np.log(np.maximum(softmax(logits + offsets).mean(axis=0), 1e-12))
    return np.asarray(offsets - offsets.mean())
