"""A mixture of product distributions, fitted to the noisy two-way tables of all pairs of columns.

Inside a component columns are independent; their dependence is in which component a row comes from. All pairs are
measured at once with the same noise, so nothing is selected and nothing is spent on selecting; the fit is least squares
on all noisy cells, by Adam, with no graphical model. What keeps it from fitting the noise is a penalty on the mutual
information of component and column, weighted by the noise: a component may know about a column what the tables can
bear out. All of it is post-processing of released counts and public facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import torch

from synth.methods.tabular.marginals import Probabilities
from synth.progress import Progress, silent
from synth.schema import Codes

_STEPS = 400
_LEARNING_RATE = 0.1
_PENALTY = 0.08
_START_SPREAD = 0.5
_START_SEED = 0  # draws the components that the fit starts at; hides nothing
_TINY = 1e-9
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Mixture:
    """Components' weights, shape (components,), and for each column their tables, shape (components, codes)."""

    weights: Probabilities
    tables: tuple[Probabilities, ...]

    def rows(self, count: int, generator: np.random.Generator) -> Codes:
        """Drawn rows of codes, shape (count, columns), with low variance: components, and codes in each, stand evenly."""
        cumulative = np.cumsum(self.weights)
        points = (np.arange(count) + generator.random()) / max(count, 1)
        component = np.minimum(
            np.searchsorted(cumulative / cumulative[-1], points, side="right"), len(self.weights) - 1
        )
        counts = np.bincount(component, minlength=len(self.weights))
        starts = (np.cumsum(counts) - counts)[component]
        columns = [self._column(table, component, counts, starts, generator) for table in self.tables]
        return generator.permutation(np.column_stack(columns).astype(np.int32))

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

    def conditional(self, column: int, codes: Codes) -> Probabilities:
        """The distribution of one column given the others' codes in each row. Shape (rows, codes)."""
        logs = np.tile(np.log(self.weights + 1e-12), (len(codes), 1))
        for i, table in enumerate(self.tables):
            if i != column:
                logs += np.log(table + 1e-12).T[codes[:, i]]
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True) @ self.tables[column])


def fit_mixture(
    pairs: Sequence[Probabilities],
    singles: Sequence[Probabilities],
    *,
    pair_noise: float,
    single_noise: Sequence[Probabilities],
    components: int,
    progress: Progress = silent,
) -> Mixture:
    """The mixture whose two-way tables are closest to noisy ones.

    :param pairs: noisy shares, one table a pair of columns, in the order of ``itertools.combinations``.
    :param singles: shares of each column's codes, one array a column.
    :param pair_noise: standard deviation of the noise of one share in ``pairs``.
    :param single_noise: of the noise of each share in ``singles``, one array a column.

    Cost: a few hundred steps of components x codes x codes multiplications, however many rows there are.
    """
    edges = np.concatenate([[0], np.cumsum([len(single) for single in singles])])
    slices = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    target = torch.zeros(int(edges[-1]), int(edges[-1]))
    measured = torch.zeros_like(target)
    for (i, j), table in zip(combinations(range(len(singles)), 2), pairs, strict=True):
        target[slices[i], slices[j]] = torch.from_numpy(table.astype(np.float32))
        measured[slices[i], slices[j]] = 1.0
    single = torch.from_numpy(np.concatenate(singles).astype(np.float32))
    trust = torch.from_numpy((pair_noise / np.concatenate(single_noise)).astype(np.float32) ** 2)
    penalty = _PENALTY * 2 * math.sqrt(len(single)) * pair_noise
    start = np.random.default_rng(_START_SEED).normal(0, _START_SPREAD, (components, len(single)))
    logits = torch.log(single.clamp_min(_LEAST_SHARE)) + torch.from_numpy(start.astype(np.float32))
    weights = torch.zeros(components)
    optimizer = torch.optim.Adam([logits.requires_grad_(), weights.requires_grad_()], lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for step in range(_STEPS):
        tables = torch.cat([torch.softmax(logits[:, part], dim=1) for part in slices], dim=1)
        shares = torch.softmax(weights, dim=0)[:, None]
        joint, mean = (tables * shares).T @ tables, (tables * shares).sum(dim=0)
        information = (shares * tables * (torch.log(tables + _TINY) - torch.log(mean + _TINY))).sum()
        misfit = (measured * (joint - target) ** 2).sum() + (trust * (mean - single) ** 2).sum()
        optimizer.zero_grad()
        (misfit + penalty * information).backward()
        optimizer.step()
        schedule.step()
        progress("train", step + 1, _STEPS)
    with torch.no_grad():
        found = [torch.softmax(logits[:, part].double(), dim=1).numpy() for part in slices]
        return Mixture(torch.softmax(weights.double(), dim=0).numpy(), tuple(found))
