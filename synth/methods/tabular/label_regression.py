"""Softmax regression of a target on groups of codes, fitted for free to rows drawn from the mixture.

It keeps what pairs with the target say together, and no more. What it says of the groups of a target of classes is the
class; of a number, where between its bounds it is. :mod:`synth.methods.tabular.label_correction` corrects it once on
private rows. Of several targets each has a regression that sees the columns that are no target and the earlier targets:
in that order labels can be drawn.
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

_ROWS = 20_000  # drawn from the mixture for the fit
_SEED = 0  # draws them; hides nothing
_RIDGE = 1e-4
_FIT_STEPS = 60
_SHARPENING = 1 / 0.7


@dataclass(frozen=True)
class LabelRegression:
    """Weights over the groups of every column that it sees, and a constant.

    :ivar hidden: the places of the columns that it does not see: the target, then the targets that come after it.
    :ivar weights: shape (groups of the other columns + 1, classes); the last row is the constant.
    :ivar starts: the first row of ``weights`` of each of the other columns.
    :ivar offsets: of the classes, shape (classes,).
    """

    hidden: tuple[int, ...]
    weights: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float64]

    @property
    def target(self) -> int:
        """The target's place among the columns."""
        return self.hidden[0]

    @property
    def classes(self) -> int:
        """How many labels there are: classes, or groups of a number."""
        return self.weights.shape[1]

    def places(self, groups: Codes) -> npt.NDArray[np.int64]:
        """The rows of ``weights`` that each row of groups adds up, shape (rows, columns); null where none is allowed
        adds none, which is one past the last."""
        others = np.delete(groups, self.hidden, axis=1)
        places = np.where(others >= 0, others + self.starts, len(self.weights))
        return np.column_stack([places, np.full(len(groups), len(self.weights) - 1)])

    def logits(self, groups: Codes) -> npt.NDArray[np.float64]:
        """Shape (rows, classes); each row's depend on that row alone. Hidden columns are ignored."""
        padded = np.vstack([self.weights, np.zeros(self.classes)])  # for null where none is allowed
        places = self.places(groups)
        logits = np.tile(self.offsets, (len(groups), 1))
        for column in range(places.shape[1]):
            logits += padded[places[:, column]]
        return logits

    def probabilities(self, groups: Codes) -> Probabilities:
        """Of the classes, for rows of groups. Shape (rows, classes)."""
        return softmax(self.logits(groups))

    def at_share(self, drawn: Codes, share: Probabilities) -> LabelRegression:
        """With the offsets at which the mean probabilities of drawn rows meet the share of each class."""
        bare = replace(self, offsets=np.zeros(self.classes))
        return replace(self, offsets=_offsets(bare.logits(drawn), share[: self.classes]))


def edges(groups: Sequence[int], hidden: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where the weights of each column that is seen start, and where the last end.

    :param groups: how many groups each column has.
    """
    return np.concatenate([[0], np.cumsum([size for i, size in enumerate(groups) if i not in hidden])]).astype(np.int64)


def fit(mixture: Mixture, hidden: Sequence[int], classes: int) -> LabelRegression:
    """The regression that says of drawn rows what the mixture does. Cost: some dozen passes over 20,000 of them.

    :param hidden: see :class:`LabelRegression`.
    :param classes: the first so many groups of the target; a row teaches as much as it is likely to have one of them,
        not null.
    """
    starts = edges([table.shape[1] for table in mixture.tables], hidden)
    rows = drawn_rows(mixture)
    wanted = mixture.conditional(hidden[0], rows, hidden)[:, :classes].astype(np.float32)
    model = LabelRegression(tuple(hidden), np.zeros((int(starts[-1]) + 1, classes)), starts[:-1], np.zeros(classes))
    features = one_hot(model, rows)

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


def one_hot(model: LabelRegression, rows: Codes) -> npt.NDArray[np.float32]:
    """Shape (rows, rows of ``weights``); of rows drawn from a mixture, in which every group is one that is allowed."""
    features = np.zeros((len(rows), len(model.weights)), np.float32)
    features[np.arange(len(rows))[:, None], model.places(rows)] = 1
    return features


def drawn_rows(mixture: Mixture) -> Codes:
    """The rows on which expectations under the model are taken."""
    return mixture.rows(_ROWS, np.random.default_rng(_SEED))


def sharpened(model: LabelRegression, mixture: Mixture, share: Probabilities) -> LabelRegression:
    """The model with logits that are surer by a public factor, at the same label share.

    Labels drawn from it are less random, so that a consumer's model learns the order of probabilities from fewer rows;
    what it learns of their size is as much too sure.

    :param share: of each class.
    """
    return replace(model, weights=model.weights * _SHARPENING).at_share(drawn_rows(mixture), share)


def _offsets(logits: npt.NDArray[np.float64], share: Probabilities) -> npt.NDArray[np.float64]:
    target = np.maximum(share / max(share.sum(), 1e-12), 1e-4)
    offsets = np.zeros(logits.shape[1])
    for _ in range(40):
        offsets += np.log(target) - np.log(np.maximum(softmax(logits + offsets).mean(axis=0), 1e-12))
    return np.asarray(offsets - offsets.mean())
