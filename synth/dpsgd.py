"""DP-SGD (Abadi et al., 2016) on Opacus: the one trainer that every neural method uses.

*Sensitivity.* A batch is a Poisson sample: each unit enters it independently with the declared rate. A unit has one
row, whose gradient is clipped to norm C, so adding or removing a unit that is in the batch moves the summed gradient
by at most C; noise of standard deviation ``noise_multiplier`` times C is added to the sum. That is exactly the
event's ``steps``-fold composition of a Poisson-subsampled Gaussian.

What would break it, and what is done instead: batches of a fixed size from a shuffle (each batch is drawn anew, and may
be empty); dividing by the actual batch size (by the expected one); layers that mix rows (refused by Opacus); noise
from a public seed (drawn from the operating system, on a GPU by a secretly seeded generator: :mod:`synth.device`); a
gradient that is not a number (set to zero for its own row). The loss is never shown: it would be an answer without
noise.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn

from synth.device import CPU, DeviceNormal, training_device
from synth.events import PoissonGaussian
from synth.progress import Progress, silent
from synth.randomness import poisson_mask, standard_normal

Batch = Callable[[npt.NDArray[np.int64]], tuple[torch.Tensor, torch.Tensor]]
Normal = Callable[[torch.Tensor], torch.Tensor]

_WARM_UP_STEPS = 10
_WORTH_THREADS = 50_000_000  # numbers in the per-row gradients of a batch


@dataclass(frozen=True)
class TrainingSettings:
    """Knobs that do not change what is charged, given the event.

    :ivar clipping_norm: bound on the norm of one row's gradient.
    :ivar expected_batch: the public number that a noisy sum is divided by.
    :ivar learning_rate: peak of Adam's rate; warm-up, then cosine to zero.
    :ivar averaging: decay of the exponential average of the weights, which is post-processing.
    :ivar physical_batch: rows whose gradients are held at once; changes memory, not the result.
    """

    clipping_norm: float
    expected_batch: float
    learning_rate: float
    averaging: float = 0.98
    physical_batch: int = 4096


class SecureDPOptimizer(DPOptimizer):
    """Opacus' optimizer with secret noise; rows with broken gradients count as zero.

    :param normal: standard normal draws of the shape, type and device of what it is given.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, normal: Normal, **settings: Any) -> None:
        super().__init__(optimizer, **settings)
        self._normal = normal

    def clip_and_accumulate(self) -> None:
        """Clip each row's gradient over all parameters and add up."""
        for gradient in self.grad_samples:
            torch.nan_to_num_(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Gaussian noise on the summed gradient of every parameter."""
        for parameter in self.params:
            scale = self.noise_multiplier * self.max_grad_norm
            noise = self._normal(parameter.summed_grad)
            parameter.grad = (parameter.summed_grad + scale * noise).view_as(parameter)

    def scale_grad(self) -> None:
        """Divide by the expected size of the whole batch, in however many parts it was added up."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size


def train(
    model: nn.Module,
    rows: int,
    batch: Batch,
    event: PoissonGaussian,
    settings: TrainingSettings,
    progress: Progress = silent,
    device: torch.device | None = None,
) -> dict[str, torch.Tensor]:
    """Train on private rows with cross-entropy; returns the averaged weights, the only thing that may leave.

    Model and result are on the CPU, before and after.

    :param model: maps features (rows, width) to logits (rows, classes); its start must not depend on private rows.
    :param rows: how many private rows there are; used for the coins alone.
    :param batch: features and labels of given positions; must look at each row alone.
    :param event: what is charged. Cost: ``steps`` batches of about ``rows`` x sampling rate rows.
    :param device: where to train; by default :func:`synth.device.training_device`.
    :raises ValueError: if a layer mixes rows.
    """
    device = device or training_device()
    model.train()
    _validate(model)
    model.to(device)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings(), _threads_worth_having(model, settings):
        warnings.simplefilter("ignore")  # about hooks of the empty batch and the first layer; of no use to anyone
        private = GradSampleModule(model, loss_reduction="sum")
        adam = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        optimizer = SecureDPOptimizer(
            adam,
            noise_multiplier=event.noise_multiplier,
            max_grad_norm=settings.clipping_norm,
            expected_batch_size=settings.expected_batch,
            normal=normal_on(device),
        )
        for step in range(event.steps):
            for group in adam.param_groups:
                group["lr"] = settings.learning_rate * _schedule(step, event.steps)
            chosen = np.flatnonzero(poisson_mask(rows, event.sampling_rate))
            _step(private, optimizer, chosen, _moved(batch, device), settings.physical_batch)
            decay = min(settings.averaging, (step + 1) / (step + 10))
            for name, value in model.state_dict().items():
                average[name].mul_(decay).add_(value.detach(), alpha=1 - decay)
            progress("train", step + 1, event.steps)
    model.to(CPU)
    return {name: value.to(CPU) for name, value in average.items()}


def normal_on(device: torch.device) -> Normal:
    """What draws the noise on a device; :func:`synth.device.noise_source` says it in words."""
    if device.type != CPU:
        return DeviceNormal(device)
    return lambda like: torch.from_numpy(standard_normal(like.numel())).to(like).view_as(like)


def _moved(batch: Batch, device: torch.device) -> Batch:
    def on_device(chosen: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        features, labels = batch(chosen)
        return features.to(device), labels.to(device)

    return on_device


def _step(
    private: GradSampleModule,
    optimizer: SecureDPOptimizer,
    chosen: npt.NDArray[np.int64],
    batch: Batch,
    physical_batch: int,
) -> None:
    """One logical batch, in parts that fit in memory; an empty one still takes its noise."""
    optimizer.zero_grad()
    parts = max(1, math.ceil(len(chosen) / physical_batch))
    for number, part in enumerate(np.array_split(chosen, parts)):
        features, labels = batch(part)
        loss = nn.functional.cross_entropy(private(features), labels, reduction="sum")
        loss.backward()
        if number == parts - 1:
            break
        optimizer.signal_skip_step(do_skip=True)
        optimizer.step()
        optimizer.zero_grad()
    optimizer.signal_skip_step(do_skip=False)
    optimizer.step()


def _validate(model: nn.Module) -> None:
    logging.getLogger("opacus").setLevel(logging.ERROR)
    faults: list[Any] = ModuleValidator.validate(model, strict=False)
    if faults:
        kinds = ", ".join(sorted({type(fault).__name__ for fault in faults}))
        raise ValueError(f"model={type(model).__name__} has layers that per-row gradients do not allow: {kinds}.")


@contextmanager
def _threads_worth_having(model: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """One thread for small work: where cores are shared, threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    if settings.expected_batch * sum(parameter.numel() for parameter in model.parameters()) < _WORTH_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _schedule(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
    return warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))
