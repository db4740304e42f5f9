"""The label model: a classifier on integer codes, trained by DP-SGD, and the calibration of its probabilities.

Features are one-hot codes of every column but the target, and for ordered columns the rank of the code under the
released marginal. So they depend on private rows through the row itself and through what was already released.
Clipping makes DP-SGD's probabilities over-confident; a temperature and class offsets are fitted to a noisy histogram of
confidence by correctness and to the released label share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from synth.methods.tabular.marginals import Probabilities, softmax
from synth.randomness import random_words
from synth.schema import Codes, Schema

CONFIDENCE_BINS = 16
_TEMPERATURES = np.geomspace(0.25, 8.0, 80)
_CALIBRATION_ROUNDS = 2
_CHUNK = 65_536


class LabelModel:
    """A classifier of the target from the codes of the other columns.

    :param schema: the public domain.
    :param distributions: released marginals, one a column of the schema.
    :param hidden_units: 0 for softmax regression.
    """

    def __init__(self, schema: Schema, distributions: Sequence[Probabilities], hidden_units: int) -> None:
        self.classes = schema[schema.target].cells
        self._columns = [i for i in range(len(schema.columns)) if i != schema.target_index]
        sizes = [schema.columns[i].size for i in self._columns]
        self._starts = torch.tensor(np.concatenate([[0], np.cumsum(sizes)[:-1]]), dtype=torch.int64)
        self._one_hot_width = int(sum(sizes))
        ordered = [i for i in self._columns if schema.columns[i].in_order]
        self._ranks = [(i, _ranks(distributions[i])) for i in ordered]
        self.network = self._network(hidden_units)
        self._start_at(distributions[schema.target_index])

    def _network(self, hidden_units: int) -> nn.Module:
        width = self._one_hot_width + len(self._ranks)
        if hidden_units:
            network = nn.Sequential(nn.Linear(width, hidden_units), nn.ReLU(), nn.Linear(hidden_units, self.classes))
            _draw_start(network)
            return network
        linear = nn.Linear(width, self.classes)
        nn.init.zeros_(linear.weight)
        return nn.Sequential(linear)

    def _start_at(self, label_share: Probabilities) -> None:
        """Start from the released label share, which is free, rather than spend steps on finding it."""
        last = list(self.network.children())[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(torch.from_numpy(np.log(np.maximum(label_share[: self.classes], 1e-3))))

    def features(self, codes: Codes) -> torch.Tensor:
        """Features of rows of codes, shape (rows, width), float32; each row's depend on that row alone."""
        rows = len(codes)
        result = torch.zeros(rows, self._one_hot_width + len(self._ranks))
        positions = torch.from_numpy(codes[:, self._columns].astype(np.int64)) + self._starts
        result[:, : self._one_hot_width].scatter_(1, positions, 1.0)
        for offset, (column, ranks) in enumerate(self._ranks):
            result[:, self._one_hot_width + offset] = torch.from_numpy(ranks[codes[:, column]])
        return result

    def logits(self, codes: Codes) -> npt.NDArray[np.float64]:
        """Uncalibrated logits, shape (rows, classes)."""
        self.network.eval()
        parts = [np.zeros((0, self.classes))]
        with torch.no_grad():
            for start in range(0, len(codes), _CHUNK):
                parts.append(self.network(self.features(codes[start : start + _CHUNK])).numpy().astype(np.float64))
        return np.concatenate(parts)

    def load(self, weights: dict[str, npt.NDArray[np.float32]]) -> None:
        """Replace the network's weights."""
        self.network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})


def _draw_start(network: nn.Module) -> None:
    """Uniform weights as PyTorch's own, but not from its global generator: that may hold anybody's seed."""
    words = random_words(sum(parameter.numel() for parameter in network.parameters()))
    drawn = torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1)
    with torch.no_grad():
        for layer in (layer for layer in network.children() if isinstance(layer, nn.Linear)):
            for parameter in layer.parameters():
                part, drawn = drawn[: parameter.numel()], drawn[parameter.numel() :]
                parameter.copy_(part.view_as(parameter) / math.sqrt(layer.in_features))


def calibration_cells(logits: npt.NDArray[np.float64], labels: Codes) -> Codes:
    """For each row its cell of (predicted class, confidence bin, right or wrong); one cell a row."""
    return (2 * _score_cells(logits) + (logits.argmax(axis=1) == labels)).astype(np.int32)


def calibrate(
    noisy: npt.NDArray[np.int64],
    sigma: float,
    synthetic_logits: npt.NDArray[np.float64],
    label_share: Probabilities,
) -> tuple[float, npt.NDArray[np.float64]]:
    """Temperature and class offsets at which probabilities are right on average on the private rows.

    Private rows are known by the noisy histogram only, so synthetic rows stand in for them, weighted to have the
    histogram's shares of (predicted class, confidence bin). The temperature is fitted to the share of right answers
    in each cell, the offsets to the released label share.

    :param noisy: noisy histogram over :func:`calibration_cells`, shape (classes x bins x 2,).
    :param sigma: its noise scale; cells below twice that are not used.
    :param synthetic_logits: shape (rows, classes).
    :param label_share: released share of each class.
    """
    wrong, right = noisy.reshape(-1, 2).astype(np.float64).T
    total = np.maximum(wrong + right, 0)
    cells, predicted = _score_cells(synthetic_logits), synthetic_logits.argmax(axis=1)
    seen = np.bincount(cells, minlength=len(total))
    used = (seen > 0) & (total > 2 * sigma)
    temperature, offsets = 1.0, np.zeros(synthetic_logits.shape[1])
    if not used.any():
        return temperature, offsets
    weights = np.where(used, total / np.maximum(seen, 1), 0)[cells]
    weights /= weights.sum()

    def misfit(candidate: float) -> float:
        confidence = np.take_along_axis(
            softmax(synthetic_logits / candidate + offsets), predicted[:, None], axis=1
        ).ravel()
        mean = np.bincount(cells, confidence, len(total))[used] / seen[used]
        variance = total[used] * mean * (1 - mean) + sigma**2 * ((1 - mean) ** 2 + mean**2)
        return float(np.sum((right[used] - total[used] * mean) ** 2 / variance))

    for _ in range(_CALIBRATION_ROUNDS):
        temperature = float(min(_TEMPERATURES, key=misfit))
        offsets = _offsets(synthetic_logits / temperature, weights, label_share)
    return temperature, offsets


def _offsets(
    logits: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], label_share: Probabilities
) -> npt.NDArray[np.float64]:
    """Class offsets at which the weighted mean probabilities meet the label share."""
    target = np.maximum(label_share, 1e-4)
    offsets = np.zeros(logits.shape[1])
    for _ in range(30):
        offsets += np.log(target) - np.log(np.maximum(weights @ softmax(logits + offsets), 1e-12))
    return np.asarray(offsets - offsets.mean())


def _score_cells(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.asarray(logits.argmax(axis=1) * CONFIDENCE_BINS + _confidence_bins(logits))


def _confidence_bins(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    lowest = 1 / logits.shape[1]
    confidence = softmax(logits).max(axis=1)
    scaled = (confidence - lowest) / (1 - lowest) * CONFIDENCE_BINS
    return np.clip(scaled.astype(np.int64), 0, CONFIDENCE_BINS - 1)


def _ranks(distribution: Probabilities) -> npt.NDArray[np.float32]:
    """The middle rank of each code among non-null ones, in [-1, 1]; 0 for null."""
    cells = distribution[:-1] / max(distribution[:-1].sum(), 1e-12)
    middles = np.cumsum(cells) - cells / 2
    return np.append(2 * middles - 1, 0).astype(np.float32)
