"""The finished model of structure ``mixture``: a mixture of features and a label model for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.constraints.conditions import Evidence
from synth.constraints.sampling import Given
from synth.contract import MixtureOptions
from synth.methods.base import Arrays
from synth.methods.tabular.drawing import TabularModel
from synth.methods.tabular.groups import Groups
from synth.methods.tabular.label_parts import LabelPart, group_means
from synth.methods.tabular.label_regression import LabelRegression, edges, sharpened
from synth.methods.tabular.marginals import Probabilities
from synth.methods.tabular.mixture import Mixture
from synth.schema import Codes, Schema


class DpdsynMixtureModel(TabularModel):
    """The finished model; everything in it was released by a charged mechanism or is public.

    :param distributions: of every column over its codes.
    :param label_models: one a target, in the order in which labels are drawn.
    """

    def __init__(
        self,
        schema: Schema,
        options: MixtureOptions,
        distributions: Sequence[Probabilities],
        groups: Groups,
        mixture: Mixture,
        label_models: Sequence[LabelRegression],
        labellers: Sequence[LabelRegression] | None = None,
    ) -> None:
        super().__init__(schema, distributions, options.labels)
        self.groups = groups
        self.mixture = mixture
        self.label_models = list(label_models)
        if labellers is None:
            shares = groups.shares(distributions)
            labellers = [
                sharpened(model, mixture, shares[model.target]) if options.labels == "utility" else model
                for model in label_models
            ]
        self.labellers = list(labellers)

    def probabilities(self, codes: Codes, target: str | None = None) -> Probabilities:
        """Of a target's classes, or of the groups of a number, for rows of codes. Shape (rows, classes).

        Looks at neither the target's column nor later targets'.
        """
        return self._model_of(target or self.schema.target).probabilities(self.groups.of(codes))

    def predict(self, codes: Codes, target: str | None = None) -> npt.NDArray[Any]:
        """The likeliest class of each row, or the median of the number's group means."""
        target = target or self.schema.target
        probabilities = self.probabilities(codes, target)
        if not self.schema[target].is_numeric:
            return probabilities.argmax(axis=1).astype(np.int32)
        place, size = self.schema.names.index(target), probabilities.shape[1]
        means, _ = group_means(
            self.schema[target].representatives, self.groups.of_codes[place], self.distributions[place], size
        )
        return np.asarray(means[medians(probabilities)])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was learnt."""
        learnt: dict[str, npt.NDArray[Any]] = {
            "distributions": np.concatenate(self.distributions),
            "groups": np.concatenate(self.groups.of_codes),
            "components": self.mixture.weights,
            "tables": np.concatenate(self.mixture.tables, axis=1),
        }
        for number, (model, labeller) in enumerate(zip(self.label_models, self.labellers, strict=True)):
            learnt |= {
                f"weights.{number}": model.weights,
                f"offsets.{number}": model.offsets,
                f"labelling_weights.{number}": labeller.weights,
                f"labelling_offsets.{number}": labeller.offsets,
            }
        return learnt

    def facts(self) -> Mapping[str, Any]:
        """What the statement says of the fit."""
        return {"groups": dict(zip(self.schema.names, self.groups.sizes, strict=True))}

    def _model_of(self, target: str) -> LabelRegression:
        place = self.schema.names.index(target)
        return next(model for model in self.label_models if model.target == place)

    def given(self, evidence: Evidence) -> Given:
        """Exactly conditioned on features: components count as much as they are likely to meet the evidence, and so do
        groups in each, and codes in each group. Labels are drawn until they fit."""
        rest = {place: each for place, each in evidence.items() if place in self.schema.target_places}
        features = {place: each for place, each in evidence.items() if place not in rest}
        conditioned = copy(self)
        of_groups, conditioned.distributions = self.groups.given(self.distributions, features)
        conditioned.mixture, share = self.mixture.given(of_groups)
        return Given(conditioned, rest, share)

    def relabelled(self, codes: Codes, generator: np.random.Generator) -> Codes:
        """The rows with labels drawn anew, those of one target after the other."""
        places = list(self.schema.target_places)
        groups = self._labelled(self.groups.of(codes), generator)
        labelled = codes.copy()
        labelled[:, places] = self.groups.drawn(groups, self.distributions, generator)[:, places]
        return labelled

    def _block(self, rows: int, generator: np.random.Generator) -> Codes:
        groups = self._labelled(self.mixture.rows(rows, generator), generator)
        return self.groups.drawn(groups, self.distributions, generator)

    def _labelled(self, groups: Codes, generator: np.random.Generator) -> Codes:
        """Rows of groups, with those of the targets drawn; in place."""
        for labeller in self.labellers:  # an earlier target's labels are seen by the later ones
            probabilities = labeller.probabilities(groups)
            if self._labels == "argmax" and self.schema.columns[labeller.target].is_numeric:
                groups[:, labeller.target] = medians(probabilities)
            else:
                groups[:, labeller.target] = self._labels_of(probabilities, generator)
        return groups


def restored(arrays: Arrays, options: MixtureOptions, schema: Schema, parts: Sequence[LabelPart]) -> DpdsynMixtureModel:
    """The model from :meth:`DpdsynMixtureModel.arrays`."""
    groups = Groups(tuple(schema.split_by_column(np.asarray(arrays["groups"]))))
    tables = np.split(np.asarray(arrays["tables"], np.float64), np.cumsum(groups.sizes)[:-1], axis=1)

    def regressions(of: str) -> list[LabelRegression]:
        return [
            LabelRegression(
                part.hidden,
                np.asarray(arrays[f"{of}weights.{number}"]),
                edges(groups.sizes, part.hidden)[:-1],
                np.asarray(arrays[f"{of}offsets.{number}"]),
            )
            for number, part in enumerate(parts)
        ]

    return DpdsynMixtureModel(
        schema,
        options,
        schema.split_by_column(np.asarray(arrays["distributions"])),
        groups,
        Mixture(np.asarray(arrays["components"], np.float64), tuple(tables)),
        regressions(""),
        regressions("labelling_"),
    )


def medians(probabilities: Probabilities) -> Codes:
    """The group in which the middle of each row's distribution is."""
    return np.asarray((np.cumsum(probabilities, axis=1) < 0.5).sum(axis=1), np.int32)
