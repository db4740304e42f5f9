"""A finished model that is a network over groups of codes: the label is a column like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.constraints.conditions import Evidence
from synth.constraints.sampling import Given
from synth.methods.base import Arrays
from synth.methods.tabular.drawing import TabularModel
from synth.methods.tabular.groups import Groups
from synth.methods.tabular.label_parts import group_means
from synth.methods.tabular.marginals import Probabilities, systematic_labels
from synth.methods.tabular.mixture_model import medians
from synth.methods.tabular.network import Network
from synth.schema import Codes, Schema


class NetworkModel(TabularModel):
    """Everything in it was released by a charged mechanism or is public.

    :param distributions: of every column over its codes.
    :param network: over the groups.
    :param measured: the columns of each table, beyond single columns, that the network was fitted to.
    """

    def __init__(
        self,
        schema: Schema,
        distributions: Sequence[Probabilities],
        groups: Groups,
        network: Network,
        measured: Sequence[tuple[int, ...]] = (),
    ) -> None:
        super().__init__(schema, distributions, "drawn with their rows")
        self.groups = groups
        self.network = network
        self.measured = tuple(measured)

    @classmethod
    def restored(cls, arrays: Arrays, schema: Schema) -> NetworkModel:
        """The inverse of :meth:`arrays`."""
        groups = Groups(tuple(schema.split_by_column(np.asarray(arrays["groups"]))))
        network = {name.removeprefix("network."): value for name, value in arrays.items() if "network." in name}
        listed = [int(column) for column in arrays["measured"]]
        ends = np.concatenate([[0], np.cumsum(arrays["measured_counts"])]).astype(int)
        return cls(
            schema,
            schema.split_by_column(np.asarray(arrays["distributions"])),
            groups,
            Network.from_arrays(network, groups.sizes),
            [tuple(listed[start:end]) for start, end in pairwise(ends)],
        )

    def probabilities(self, codes: Codes, target: str | None = None) -> Probabilities:
        """A target's classes, or the groups of a number, given all other columns of each row. (rows, classes)"""
        place = self.schema.names.index(target or self.schema.target)
        classes = self.groups.sizes[place] - self.schema.columns[place].nullable
        shares = self.network.conditional(place, self.groups.of(codes))[:, :classes] + 1e-12
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, codes: Codes, target: str | None = None) -> npt.NDArray[Any]:
        """The likeliest class of each row, or the median of the number's group means."""
        target = target or self.schema.target
        probabilities, column = self.probabilities(codes, target), self.schema[target]
        if not column.is_numeric:
            return probabilities.argmax(axis=1).astype(np.int32)
        place = self.schema.names.index(target)
        groups, size = self.groups.of_codes[place], probabilities.shape[1]
        means, _ = group_means(column.representatives, groups, self.distributions[place], size)
        return np.asarray(means[medians(probabilities)])

    def relabelled(self, codes: Codes, generator: np.random.Generator) -> Codes:
        """The rows with labels drawn anew given all their other columns, one target after the other."""
        groups, labelled = self.groups.of(codes), codes.copy()
        places = list(self.schema.target_places)
        for place in places:
            groups[:, place] = systematic_labels(self.network.conditional(place, groups), generator)
        labelled[:, places] = self.groups.drawn(groups, self.distributions, generator)[:, places]
        return labelled

    def given(self, evidence: Evidence) -> Given:
        """Exactly conditioned on all columns: groups by the network, and codes in each group."""
        conditioned = copy(self)
        of_groups, conditioned.distributions = self.groups.given(self.distributions, evidence)
        conditioned.network, share = self.network.given(of_groups)
        return Given(conditioned, {}, share)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was learnt."""
        return {
            "distributions": np.concatenate(self.distributions),
            "groups": np.concatenate(self.groups.of_codes),
            "measured": np.array([column for table in self.measured for column in table], np.int64),
            "measured_counts": np.array([len(table) for table in self.measured], np.int64),
            **{f"network.{name}": value for name, value in self.network.arrays().items()},
        }

    def facts(self) -> Mapping[str, Any]:
        """What the statement says of the fit."""
        names = self.schema.names
        return {
            "groups": dict(zip(names, self.groups.sizes, strict=True)),
            "measured_tables": [[names[column] for column in table] for table in self.measured],
        }

    def _block(self, rows: int, generator: np.random.Generator) -> Codes:
        return self.groups.drawn(self.network.rows(rows, generator), self.distributions, generator)
