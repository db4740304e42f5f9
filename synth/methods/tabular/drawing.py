"""Drawing rows from a finished model, block by block: features first, then each row's label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.constraints.conditions import Evidence
from synth.constraints.keeping import Cost
from synth.constraints.sampling import AS_MODELLED, Given, Sampler, Wanted
from synth.methods.base import Model
from synth.methods.tabular.marginals import Probabilities, systematic_labels
from synth.schema import Codes, Schema

_BLOCK = 65_536


class TabularModel(Model):
    """A model whose blocks of rows each have a generator of their own, seeded by the seed and the block's number.

    :param distributions: of every column over its codes.
    :param labels: ``argmax``, or any word for labels that are drawn from their probabilities.
    """

    def __init__(self, schema: Schema, distributions: Sequence[Probabilities], labels: str) -> None:
        self.schema = schema
        self.distributions = list(distributions)
        self._labels = labels

    @abstractmethod
    def probabilities(self, codes: Codes, target: str | None = None) -> Probabilities:
        """Class probabilities of rows of codes, whose target column is ignored. (rows, classes)

        :param target: by default the only one.
        """

    @abstractmethod
    def _block(self, rows: int, generator: np.random.Generator) -> Codes:
        """So many labelled rows of codes."""

    def predict(self, codes: Codes, target: str | None = None) -> npt.NDArray[Any]:
        """The likeliest class of each row."""
        return self.probabilities(codes, target).argmax(axis=1).astype(np.int32)

    def codes(self, rows: int, seed: int) -> Iterator[tuple[Codes, np.random.Generator]]:
        """Blocks of synthetic codes, each with the generator that its decoding goes on with."""
        for size, generator in _blocks(rows, seed):
            yield self._block(size, generator), generator

    def frames(self, rows: int, seed: int, wanted: Wanted = AS_MODELLED) -> Iterator[pd.DataFrame]:
        """Rows in chunks of native values: as the model gives them, or as they are wanted."""
        for frame, _ in self.drawn(rows, seed, wanted):
            yield frame

    def drawn(self, rows: int, seed: int, wanted: Wanted = AS_MODELLED) -> Iterator[tuple[pd.DataFrame, Cost | None]]:
        """The same, each chunk with what keeping the wanted rules cost it; None without rules."""
        sampler = Sampler(self, wanted)
        for size, generator in _blocks(rows, seed):
            yield sampler.rows(size, generator)

    @property
    def labels(self) -> tuple[str, ...]:
        """The targets, in the order in which they are labelled."""
        return self.schema.targets

    def draw(self, rows: int, generator: np.random.Generator) -> Codes:
        """So many labelled rows of codes."""
        return self._block(rows, generator)

    @abstractmethod
    def relabelled(self, codes: Codes, generator: np.random.Generator) -> Codes:
        """The rows with labels drawn anew given their features, as when they are drawn."""

    def given(self, evidence: Evidence) -> Given:
        """Conditioned on nothing: rows are drawn until they fit."""
        return Given(self, evidence)

    def _labels_of(self, probabilities: Probabilities, generator: np.random.Generator) -> Codes:
        """One label a row: the likeliest, or one that is drawn."""
        if self._labels == "argmax":
            return probabilities.argmax(axis=1).astype(np.int32)
        return systematic_labels(probabilities, generator)


def _blocks(rows: int, seed: int) -> Iterator[tuple[int, np.random.Generator]]:
    """The size of each block, and its generator."""
    for block, start in enumerate(range(0, rows, _BLOCK)):
        yield min(_BLOCK, rows - start), np.random.default_rng([seed, block])
