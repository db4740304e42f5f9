"""Runs of DP-SGD on made-up rows, and the noisy gradients that reached the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from synth.dpsgd import TrainingSettings, train
from synth.events import PoissonGaussian
from synth.records import Ownership
from tests.sealed import own_units

SETTINGS = TrainingSettings(clipping_norm=0.7, expected_batch=50.0, learning_rate=0.01, steps=1)


@contextmanager
def gradients() -> Iterator[list[npt.NDArray[np.float64]]]:
    """The noisy gradients that Adam is handed, one vector a step."""
    seen: list[npt.NDArray[np.float64]] = []

    def look(optimizer: Any, *_: Any) -> None:
        if isinstance(optimizer, torch.optim.Adam):
            parts = [p.grad.detach().cpu().numpy().ravel() for group in optimizer.param_groups for p in group["params"]]
            seen.append(np.concatenate(parts).astype(np.float64))

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


class Rows:
    """Private rows; remembers which were asked for."""

    def __init__(self, features: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        self.features = torch.tensor(np.asarray(features), dtype=torch.float32)
        self.labels = torch.tensor(np.asarray(labels), dtype=torch.int64)
        self.asked: list[npt.NDArray[np.int64]] = []

    def __call__(self, chosen: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(chosen)
        return self.features[chosen], self.labels[chosen]

    def __len__(self) -> int:
        return len(self.labels)


def random_rows(count: int, width: int) -> Rows:
    generator = np.random.default_rng(5)
    return Rows(generator.normal(size=(count, width)) * 3, generator.integers(0, 2, count))


def each_alone(rows: int) -> Ownership:
    return Ownership(own_units(rows))


def linear(width: int, classes: int = 2) -> nn.Sequential:
    layer = nn.Linear(width, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer)


def run(rows: Rows, event: PoissonGaussian, settings: TrainingSettings = SETTINGS) -> list[npt.NDArray[np.float64]]:
    with gradients() as seen:
        train(linear(rows.features.shape[1]), each_alone(len(rows)), rows, event, replace(settings, steps=event.steps))
    return seen
