"""Drawing rows from a finished model, block by block: features first, then each row's label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

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
    def probabilities(self, codes: Codes) -> Probabilities:
        """Class probabilities of rows of codes, whose target column is ignored. (rows, classes)"""

    @abstractmethod
    def _block(self, rows: int, generator: np.random.Generator) -> Codes:
        """So many labelled rows of codes."""

    def predict(self, codes: Codes) -> Codes:
        """The likeliest label of each row."""
        return self.probabilities(codes).argmax(axis=1).astype(np.int32)

    def codes(self, rows: int, seed: int) -> Iterator[tuple[Codes, np.random.Generator]]:
        """Blocks of synthetic codes, each with the generator that its decoding goes on with."""
        for block, start in enumerate(range(0, rows, _BLOCK)):
            generator = np.random.default_rng([seed, block])
            yield self._block(min(_BLOCK, rows - start), generator), generator

    def frames(self, rows: int, seed: int) -> Iterator[pd.DataFrame]:
        """Released rows in chunks of native values."""
        for codes, generator in self.codes(rows, seed):
            yield self.schema.decode(codes, generator)

    def _labels_of(self, probabilities: Probabilities, generator: np.random.Generator) -> Codes:
        """One label a row: the likeliest, or one that is drawn."""
        if self._labels == "argmax":
            return probabilities.argmax(axis=1).astype(np.int32)
        return systematic_labels(probabilities, generator)
