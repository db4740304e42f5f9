"""From noisy tables to a graphical model: Private-PGM (McKenna, Sheldon, Miklau, 2019), by its authors' package.

Of all distributions whose tables are closest to the measured ones it is that of highest entropy. ``mbi`` finds its
potentials; a variable elimination here makes the chain of conditional tables of them, which draws rows, conditions and
adds up tables without that package. All of it is post-processing: no noise and no choice of ``mbi``'s is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.methods.base import without_private_pgm
from synth.methods.tabular.marginals import Probabilities
from synth.methods.tabular.network import Network

_ITERATIONS = 4000
_TOLERANCE = 1e-5  # of the loss, relative, over fifty iterations


@dataclass(frozen=True)
class MeasuredTable:
    """Noisy counts.

    :ivar columns: one for each axis of ``counts``.
    :ivar sigma: standard deviation of the noise of each cell.
    """

    columns: tuple[int, ...]
    counts: Probabilities
    sigma: float


@dataclass(frozen=True)
class GraphicalModel:
    """A fitted model.

    :ivar network: the same distribution as a chain.
    :ivar potentials: where the next fit, to more tables, may start.
    """

    network: Network
    potentials: Any


def require_mbi() -> Any:
    """The package, with double precision.

    :raises MissingExtra: naming the extra.
    """
    try:
        import jax

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about float32, which is not used, and about a cache
            jax.config.update("jax_enable_x64", True)
            import mbi
    except ImportError:
        raise without_private_pgm() from None
    return mbi


def fitted(
    sizes: Sequence[int],
    tables: Sequence[MeasuredTable],
    rows: float,
    start: GraphicalModel | None = None,
    iterations: int = _ITERATIONS,
) -> GraphicalModel:
    """The model of highest entropy that is closest to the tables, least squares by their noise.

    :param sizes: codes of each column.
    :param rows: about how many rows there are.
    :param start: a model of fewer tables.
    :param iterations: of mirror descent, at most.
    """
    mbi = require_mbi()
    domain = mbi.Domain(tuple(range(len(sizes))), tuple(sizes))
    measured = [mbi.LinearMeasurement(table.counts.ravel(), table.columns, stddev=table.sigma) for table in tables]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = mbi.estimation.MirrorDescent().estimate(
            domain,
            measured,
            known_total=rows,
            iters=iterations,
            warm_start=None if start is None else start.potentials,
            tol=_TOLERANCE,
        )
    logs = {tuple(clique): np.asarray(found.potentials[clique].values) for clique in found.potentials.cliques}
    order = mbi.junction_tree.make_junction_tree(domain, list(logs))[1]
    return GraphicalModel(_eliminated(order, sizes, logs), found.potentials)


def size_mb(sizes: Sequence[int], tables: Sequence[tuple[int, ...]]) -> float:
    """How much the model of such tables holds."""
    mbi = require_mbi()
    domain = mbi.Domain(tuple(range(len(sizes))), tuple(sizes))
    return float(mbi.junction_tree.hypothetical_model_size(domain, list(tables)))


def _eliminated(order: Sequence[int], sizes: Sequence[int], logs: dict[tuple[int, ...], Probabilities]) -> Network:
    """The chain: a column is summed out of the tables that it is in, which leaves one of its parents."""
    waiting = list(logs.items())
    columns, parents, tables = [], [], []
    for column in order:
        own = [(axes, values) for axes, values in waiting if column in axes]
        others = tuple(sorted({axis for axes, _ in own for axis in axes} - {column}))
        whole = (*others, column)
        total = np.zeros([sizes[axis] for axis in whole])
        for axes, values in own:
            at = [whole.index(axis) for axis in axes]
            moved = np.transpose(values, np.argsort(at))
            total += moved.reshape([sizes[axis] if axis in axes else 1 for axis in whole])
        highest = total.max(axis=-1, keepdims=True)
        shares = np.exp(total - highest)
        mass = shares.sum(axis=-1, keepdims=True)
        columns.append(column)
        parents.append(others)
        tables.append(shares / mass)
        waiting = [each for each in waiting if column not in each[0]] + [(others, (highest + np.log(mass))[..., 0])]
    return Network(tuple(columns[::-1]), tuple(parents[::-1]), tuple(tables[::-1]))
