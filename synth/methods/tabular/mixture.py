"""A mixture of product distributions, fitted to the noisy two-way tables of all pairs of columns.

Inside a component columns are independent; their dependence is in which component a row comes from. All pairs are
measured at once with the same noise, so nothing is selected and nothing is spent on selecting; the fit is least squares
on all noisy cells, by Adam, with no graphical model. What keeps it from fitting the noise is a penalty on the mutual
information of component and column, weighted by the noise: a component may know about a column what the tables can
bear out. All of it is post-processing of released counts and public facts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.methods.tabular.marginals import Probabilities
from synth.progress import Progress, silent
from synth.schema import Codes

_STEPS = 600
_LEARNING_RATE = 0.1
_PENALTY = 0.08
_START_SPREAD = 0.5
_START_SEED = 0  # draws the components that the fit starts at; hides nothing
_TINY = np.float32(1e-9)
_LEAST_SHARE = 1e-4
_BLOCK = 1024  # rows for which the components' shares are held at once


@dataclass(frozen=True)
class Mixture:
    """Components' weights, shape (components,), and for each column their tables, shape (components, codes)."""

    weights: Probabilities
    tables: tuple[Probabilities, ...]

    def rows(self, count: int, generator: np.random.Generator) -> Codes:
        """Drawn rows of codes, shape (count, columns), with low variance.

        Components stand evenly, and codes in each.
        """
        cumulative = np.cumsum(self.weights)
        points = (np.arange(count) + generator.random()) / max(count, 1)
        component = np.minimum(
            np.searchsorted(cumulative / cumulative[-1], points, side="right"), len(self.weights) - 1
        )
        counts = np.bincount(component, minlength=len(self.weights))
        starts = (np.cumsum(counts) - counts)[component]
        columns = [self._column(table, component, counts, starts, generator) for table in self.tables]
        return generator.permutation(np.column_stack(columns).astype(np.int32))

    def given(self, evidence: Mapping[int, Probabilities]) -> tuple[Mixture, float]:
        """The mixture conditioned on evidence, and how likely its rows meet that.

        Conditioning a mixture of products leaves one: each component weighs by how likely it meets the evidence, and
        its tables are conditioned one by one.

        :param evidence: by column, for each code how likely it meets the condition; shape (codes,).
        """
        weights, tables = self.weights / self.weights.sum(), list(self.tables)
        for column, each in evidence.items():
            likely = tables[column] * each
            mass = likely.sum(axis=1)
            weights = weights * mass / tables[column].sum(axis=1)
            tables[column] = np.where(mass[:, None] > 0, likely / np.where(mass > 0, mass, 1)[:, None], tables[column])
        share = float(weights.sum())
        return Mixture(weights / share if share > 0 else self.weights, tuple(tables)), share

    def _column(
        self,
        table: Probabilities,
        component: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        generator: np.random.Generator,
    ) -> npt.NDArray[np.int64]:
        order = generator.permutation(len(component))
        order = order[np.argsort(component[order], kind="stable")]  # a random order inside each component
        even = np.arange(len(component)) - starts + generator.random(len(counts))[component]
        points = np.empty(len(component))
        points[order] = even / np.maximum(counts, 1)[component]
        # Component k owns the interval [k, k + 1): one search for all rows.
        cumulative = np.cumsum(table, axis=1)
        ends = (cumulative / cumulative[:, -1:] + np.arange(len(table))[:, None]).ravel()
        place = np.searchsorted(ends, component + points * (1 - 1e-9), side="right")
        return np.clip(place - component * table.shape[1], 0, table.shape[1] - 1)

    def conditional(self, column: int, codes: Codes, unseen: Sequence[int] = ()) -> Probabilities:
        """The distribution of one column given the others' codes in each row. Shape (rows, codes).

        :param unseen: columns whose codes are not given.
        """
        blocks = np.array_split(codes, max(1, math.ceil(len(codes) / _BLOCK)))
        return np.concatenate([self._conditional(column, block, {column, *unseen}) for block in blocks])

    def _conditional(self, column: int, codes: Codes, unseen: set[int]) -> Probabilities:
        logs = np.tile(np.log(self.weights + 1e-12), (len(codes), 1))
        for i, table in enumerate(self.tables):
            if i not in unseen:
                logs += np.log(table + 1e-12).T[codes[:, i]]
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True) @ self.tables[column])


def fit_mixture(
    pairs: Sequence[Probabilities],
    singles: Sequence[Probabilities],
    *,
    pair_noise: Sequence[float],
    single_noise: Sequence[Probabilities],
    components: int,
    progress: Progress = silent,
) -> Mixture:
    """The mixture whose two-way tables are closest to noisy ones.

    :param pairs: noisy shares, one table a pair of columns, in the order of ``itertools.combinations``.
    :param singles: shares of each column's codes, one array a column.
    :param pair_noise: standard deviation of the noise of one share, for each of the pairs; the fit trusts a pair by its
        precision.
    :param single_noise: of the noise of each share in ``singles``, one array a column.

    Cost: a few hundred steps of components x codes x codes multiplications, however many rows there are.
    """
    fit = _Fit(pairs, singles, pair_noise, single_noise)
    single = np.concatenate(singles).astype(np.float32)
    start = np.random.default_rng(_START_SEED).normal(0, _START_SPREAD, (components, len(single)))
    logits = np.log(np.maximum(single, _LEAST_SHARE)) + start.astype(np.float32)
    weight_logits = np.zeros(components, np.float32)
    adam = _Adam([logits, weight_logits])
    for step in range(_STEPS):
        adam.step(fit.gradients(logits, weight_logits), _LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / _STEPS)))
        progress("train", step + 1, _STEPS)
    tables = fit.softmax(logits.astype(np.float64))
    weights = np.exp(weight_logits.astype(np.float64) - weight_logits.max())
    return Mixture(weights / weights.sum(), tuple(np.split(tables, fit.starts[1:], axis=1)))


class _Fit:
    """The penalised misfit of a mixture, by its gradients."""

    def __init__(
        self,
        pairs: Sequence[Probabilities],
        singles: Sequence[Probabilities],
        pair_noise: Sequence[float],
        single_noise: Sequence[Probabilities],
    ) -> None:
        sizes = [len(single) for single in singles]
        edges = np.concatenate([[0], np.cumsum(sizes)])
        self.starts = edges[:-1]
        self._sizes = np.array(sizes)
        self._single = np.concatenate(singles).astype(np.float32)
        noise = max(pair_noise)
        self._trust = (noise / np.concatenate(single_noise)).astype(np.float32) ** 2
        self._penalty = np.float32(_PENALTY * 2 * math.sqrt(edges[-1]) * noise)
        self._target = np.zeros((edges[-1], edges[-1]), np.float32)
        self._measured = np.zeros_like(self._target)  # how much each is trusted
        for (i, j), table, own in zip(combinations(range(len(sizes)), 2), pairs, pair_noise, strict=True):
            part = slice(edges[i], edges[i + 1]), slice(edges[j], edges[j + 1])
            self._target[part], self._measured[part] = table, (noise / own) ** 2

    def softmax(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[Any]:
        """Each column's table in each component."""
        highest = np.maximum.reduceat(logits, self.starts, axis=1)
        exponents = np.exp(logits - self._spread(highest))
        return np.asarray(exponents / self._spread(np.add.reduceat(exponents, self.starts, axis=1)))

    def gradients(self, logits: npt.NDArray[np.float32], weight_logits: npt.NDArray[np.float32]) -> list[Any]:
        """Of squared misfit plus penalty, by both."""
        tables = self.softmax(logits)
        weights = np.exp(weight_logits - weight_logits.max())
        weights /= weights.sum()
        mean = weights @ tables
        apart = 2 * self._measured * ((tables * weights[:, None]).T @ tables - self._target)
        pull = tables @ (apart + apart.T)  # of a component's table, but for its weight
        single = 2 * self._trust * (mean - self._single)
        known = np.log(tables + _TINY) - np.log(mean + _TINY)  # by a component about a code
        edge = mean / (mean + _TINY)
        by_table = weights[:, None] * (pull + single + self._penalty * (known + tables / (tables + _TINY) - edge))
        by_weight = (tables * (pull / 2 + single + self._penalty * (known - edge))).sum(axis=1)
        inner = self._spread(np.add.reduceat(by_table * tables, self.starts, axis=1))
        return [tables * (by_table - inner), weights * (by_weight - weights @ by_weight)]

    def _spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One value a column, repeated for each of its codes."""
        return np.repeat(values, self._sizes, axis=1)


class _Adam:
    """Adam (Kingma and Ba, 2015) on arrays, in place."""

    def __init__(self, arrays: Sequence[npt.NDArray[np.float32]]) -> None:
        self._arrays = arrays
        self._means = [np.zeros_like(array) for array in arrays]
        self._squares = [np.zeros_like(array) for array in arrays]
        self._steps = 0

    def step(self, gradients: Sequence[npt.NDArray[np.float32]], rate: float) -> None:
        """One step downhill."""
        self._steps += 1
        first, second = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        for array, mean, square, gradient in zip(self._arrays, self._means, self._squares, gradients, strict=True):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            array -= np.float32(rate / first) * mean / (np.sqrt(square / np.float32(second)) + np.float32(1e-8))
