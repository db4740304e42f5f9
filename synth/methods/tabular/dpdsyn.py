"""Certified DPDSyn: features from noisy marginals, labels from a classifier trained by DP-SGD.

DPDSyn (arXiv 2604.15660, 2026) trains a DP-SGD classifier for the consumer's task, shuffles each column of the private
table, and labels the shuffled rows with the classifier. Shuffling releases each column's exact values: whether a value
that one person alone holds occurs in the release has probability one or zero, so no (ε, δ) holds. Here the columns
are drawn from noisy marginals over the public domain instead, which is what shuffling achieves, up to noise:

1. Measure every column's histogram (discrete Gaussian noise).
2. Train the label model by DP-SGD; average its weights.
3. Measure how confidence and correctness go together; calibrate.
4. Draw features independently, label them by the calibrated model.

Features are independent of each other: pairs of features are not kept, pairs with the label are kept through the label
model. Probabilities are calibrated for real rows, so that a consumer's model learns them right; on independent features
they need not average to the label's share in the data. What accuracy a consumer can reach is bounded by the label
model's own.

It is one classifier of one target. Without a target only steps 1 and 4 remain, of it the drawing of features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synth import dpsgd
from synth.constraints.conditions import Evidence
from synth.constraints.sampling import Given
from synth.contract import Contract, IndependentOptions
from synth.events import DiscreteGaussian, PoissonGaussian
from synth.guard import Checkpoints, Sealed, Spend
from synth.mechanisms import noisy_histogram, noisy_marginals
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular.drawing import TabularModel
from synth.methods.tabular.label_model import (
    CONFIDENCE_BINS,
    LabelModel,
    calibrate,
    calibration_cells,
)
from synth.methods.tabular.marginals import (
    Probabilities,
    estimate_distributions,
    softmax,
    systematic_sample,
)
from synth.plan import Demand, ReleasePlan, integer_queries, sampled_gaussian
from synth.progress import Progress
from synth.records import TRAIN, CodedRecords, Ownership
from synth.schema import Codes, Schema

_CALIBRATION_ROWS = 20_000
_CALIBRATION_SEED = 0  # draws synthetic rows to calibrate on; hides nothing


class Dpdsyn:
    """The synthesizer ``dpdsyn``, structure ``independent``."""

    name = "dpdsyn"

    def demands(self, contract: Contract, schema: Schema, train_units: float) -> Sequence[Demand]:
        """Marginals and, of a target, label model and, where labels are sampled, calibration."""
        options = _options(contract)
        shares = options.shares
        if not schema.targets:
            return [_histograms(contract, schema, 1 - shares.validation)]
        records = contract.privacy.max_records
        rate = min(1.0, options.batch_size / train_units)
        calibrated = options.labels == "sampled"
        label_share = shares.label_model + (0 if calibrated else shares.calibration)
        demands = [
            _histograms(contract, schema, shares.marginals),
            Demand(
                "label_model",
                (TRAIN,),
                label_share,
                sampled_gaussian(rate, options.steps + options.lost_steps, contract.privacy.delta),
                "DP-SGD of the classifier that labels the rows",
                {
                    "clipping_norm": options.clipping_norm,
                    "expected_batch": options.batch_size,
                    **({"segments": options.segments, "max_resumes": options.resumes} if options.segments else {}),
                },
            ),
        ]
        if calibrated:
            demands.append(
                Demand(
                    "calibration",
                    (TRAIN,),
                    shares.calibration,
                    integer_queries(DiscreteGaussian(1.0, records)),
                    "a histogram of the classifier's confidence by correctness",
                    {"cells": _calibration_size(schema)},
                )
            )
        return demands

    def advice(self, contract: Contract, schema: Schema, train_units: float) -> str:
        """Nothing: one histogram a column bears a lot of noise."""
        return ""

    def fit(
        self,
        records: Sealed[CodedRecords],
        contract: Contract,
        schema: Schema,
        plan: ReleasePlan,
        once: RunOnce,
        progress: Progress,
    ) -> DpdsynModel:
        """Steps 1 to 3."""
        options = _options(contract)
        sizes = [column.size for column in schema.columns]

        def measure(spend: Spend) -> Arrays:
            opened = records.open(spend)
            counts = noisy_marginals(opened.codes, sizes, plan.counts("marginals"), opened.owners)
            return {"counts": np.concatenate(counts)}

        noisy = schema.split_by_column(once("marginals", measure)["counts"])
        distributions, _ = estimate_distributions(schema, noisy)
        if not schema.targets:
            return DpdsynModel(schema, options, distributions, {})

        # A row without a label teaches nothing; leaving it out is decided by that row alone.
        no_label = schema[schema.target].null_code
        labelled = records.then(lambda opened: opened.where(opened.codes[:, schema.target_index] != no_label))
        label_model = LabelModel(schema, distributions, options.hidden_units)

        def train(spend: Spend) -> Arrays:
            return _train(label_model, labelled.open(spend), schema, plan, options, progress, spend.checkpoints)

        weights = once("label_model", train)
        label_model.load(weights)
        model = DpdsynModel(schema, options, distributions, weights)
        if options.labels == "argmax":
            return model

        def score(spend: Spend) -> Arrays:
            opened = labelled.open(spend)
            cells = calibration_cells(label_model.logits(opened.codes), opened.codes[:, schema.target_index])
            event = plan.counts("calibration")
            return {"counts": noisy_histogram(cells, _calibration_size(schema), event, opened.owners)}

        model.calibrate(once("calibration", score)["counts"], plan.counts("calibration").sigma)
        return model

    def restore(self, arrays: Arrays, contract: Contract, schema: Schema) -> DpdsynModel:
        """The model from :meth:`DpdsynModel.arrays`."""
        weights = {name.removeprefix("w."): value for name, value in arrays.items() if name.startswith("w.")}
        model = DpdsynModel(
            schema, _options(contract), schema.split_by_column(np.asarray(arrays["distributions"])), weights
        )
        model.temperature = float(arrays["temperature"])
        model.offsets = np.asarray(arrays["offsets"])
        return model


class DpdsynModel(TabularModel):
    """The finished model; everything in it was released by a charged mechanism or is public.

    :param distributions: of every column over its codes.
    :param weights: of the label model.
    """

    def __init__(
        self,
        schema: Schema,
        options: IndependentOptions,
        distributions: Sequence[Probabilities],
        weights: Arrays,
    ) -> None:
        super().__init__(schema, distributions, options.labels)
        self.temperature = 1.0
        self.offsets = np.zeros(schema[schema.target].cells if schema.targets else 0)
        self._weights = dict(weights)
        self._label_model = LabelModel(schema, distributions, options.hidden_units) if schema.targets else None
        if self._label_model is not None:
            self._label_model.load(self._weights)

    def calibrate(self, noisy: npt.NDArray[np.int64], sigma: float) -> None:
        """Set temperature and class offsets from the noisy calibration histogram and the released label share."""
        codes = self._features(_CALIBRATION_ROWS, np.random.default_rng(_CALIBRATION_SEED))
        share = self.distributions[self.schema.target_index][:-1]
        logits = self._logits(codes)
        self.temperature, self.offsets = calibrate(noisy, sigma, logits, share / share.sum())

    def probabilities(self, codes: Codes, target: str | None = None) -> Probabilities:
        """Calibrated class probabilities of rows of codes, whose target column is ignored. (rows, classes)"""
        return softmax(self._logits(codes) / self.temperature + self.offsets)

    def _logits(self, codes: Codes) -> npt.NDArray[np.float64]:
        if self._label_model is None:
            raise ValueError("Expected a target: the task has none, so there is no label model.")
        return self._label_model.logits(codes)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was learnt."""
        return {
            "distributions": np.concatenate(self.distributions),
            "temperature": np.array(self.temperature),
            "offsets": self.offsets,
            **{f"w.{name}": np.asarray(value) for name, value in self._weights.items()},
        }

    def facts(self) -> Mapping[str, Any]:
        """What the statement says of the fit."""
        return {"temperature": self.temperature} if self.schema.targets else {}

    def given(self, evidence: Evidence) -> Given:
        """Exactly conditioned on features, which are independent; labels are drawn until they fit."""
        conditioned, share = copy(self), 1.0
        conditioned.distributions = list(self.distributions)
        for place in set(evidence) - set(self.schema.target_places):
            likely = self.distributions[place] * evidence[place]
            share *= float(likely.sum() / self.distributions[place].sum())
            conditioned.distributions[place] = likely
        rest = {place: each for place, each in evidence.items() if place in self.schema.target_places}
        return Given(conditioned, rest, share)

    def _block(self, rows: int, generator: np.random.Generator) -> Codes:
        return self.relabelled(self._features(rows, generator), generator)

    def relabelled(self, codes: Codes, generator: np.random.Generator) -> Codes:
        """The rows with labels drawn anew given their features; as they are where the task has no target."""
        labelled = codes.copy()
        if self.schema.targets:
            labelled[:, self.schema.target_index] = self._labels_of(self.probabilities(codes), generator)
        return labelled

    def _features(self, rows: int, generator: np.random.Generator) -> Codes:
        return np.column_stack([systematic_sample(d, rows, generator) for d in self.distributions])


def _options(contract: Contract) -> IndependentOptions:
    options = contract.method.options
    if not isinstance(options, IndependentOptions):
        given = getattr(options, "structure", contract.method.name)
        raise TypeError(f"Expected structure 'independent', given {given!r}.")
    return options


def _histograms(contract: Contract, schema: Schema, share: float) -> Demand:
    columns = len(schema.columns)
    return Demand(
        "marginals",
        (TRAIN,),
        share,
        integer_queries(DiscreteGaussian(1.0, contract.privacy.max_records, columns)),
        "a histogram of every column",
        {"columns": columns, "cells": sum(column.size for column in schema.columns)},
    )


def _calibration_size(schema: Schema) -> int:
    return 2 * CONFIDENCE_BINS * schema[schema.target].cells


def _train(
    label_model: LabelModel,
    records: CodedRecords,
    schema: Schema,
    plan: ReleasePlan,
    options: IndependentOptions,
    progress: Progress,
    checkpoints: Checkpoints | None,
) -> Arrays:
    event = plan["label_model"].event
    if not isinstance(event, PoissonGaussian):
        raise TypeError("Expected 'label_model' to be DP-SGD in the plan.")
    labels = torch.from_numpy(records.codes[:, schema.target_index].astype(np.int64))

    def batch(chosen: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        return label_model.features(records.codes[chosen]), labels[chosen]

    settings = dpsgd.TrainingSettings(
        clipping_norm=options.clipping_norm,
        expected_batch=options.batch_size,
        learning_rate=options.learning_rate,
        steps=options.steps,
        checkpoint_every=options.checkpoint_every,
    )
    ownership = Ownership(records.owners)
    averaged = dpsgd.train(label_model.network, ownership, batch, event, settings, progress, checkpoints)
    return {name: value.numpy() for name, value in averaged.items()}
