"""DP-SGD (Abadi et al., 2016) on Opacus: the one trainer that every neural method uses.

*Sensitivity.* A batch is a Poisson sample of units: each enters it independently with the declared rate, with all of
its rows. The gradients of a unit's rows are added up and their sum is clipped to norm C, so adding or removing a unit
that is in the batch moves the batch's sum by at most C, however many rows it has; noise of standard deviation
``noise_multiplier`` times C is added. That is exactly the event's ``steps``-fold composition of a Poisson-subsampled
Gaussian.

What would break it, and what is done instead: batches of a fixed size from a shuffle (each batch is drawn anew, and may
be empty); dividing by the actual batch size (by the expected one); layers that mix rows (refused by Opacus); noise
from a public seed (drawn from the operating system, on a GPU by a secretly seeded generator: :mod:`synth.device`); a
gradient that is not a number (set to zero for its own row); clipping row by row where a unit has several. The loss is
never shown: it would be an answer without noise.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
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
from synth.guard import Checkpoints
from synth.progress import Progress, silent
from synth.randomness import poisson_mask, standard_normal
from synth.records import Ownership

Batch = Callable[[npt.NDArray[np.int64]], tuple[torch.Tensor, torch.Tensor]]
Normal = Callable[[torch.Tensor], torch.Tensor]

_WARM_UP_STEPS = 10
_WORTH_THREADS = 50_000_000  # numbers in the per-row gradients of a batch


@dataclass(frozen=True)
class TrainingSettings:
    """Knobs that do not change what is charged, given the event.

    :ivar clipping_norm: bound on the norm of the sum of one unit's gradients.
    :ivar expected_batch: the public number of units that a noisy sum is divided by.
    :ivar learning_rate: peak of Adam's rate; warm-up, then cosine to zero.
    :ivar steps: how many are taken; the event may count more, for steps that are lost and taken again.
    :ivar checkpoint_every: steps in a segment, after which the state is kept; None for one piece.
    :ivar averaging: decay of the exponential average of the weights, which is post-processing.
    :ivar physical_batch: rows whose gradients are held at once; changes memory, not the result.
    """

    clipping_norm: float
    expected_batch: float
    learning_rate: float
    steps: int
    checkpoint_every: int | None = None
    averaging: float = 0.98
    physical_batch: int = 4096


class SecureDPOptimizer(DPOptimizer):
    """Opacus' optimizer with secret noise, for units of several rows; rows with broken gradients count as zero.

    :param normal: standard normal draws of the shape, type and device of what it is given.
    :ivar owners: before each step, the unit of each row of the batch, numbered from 0; rows of a unit come together.
    """

    owners: torch.Tensor

    def __init__(self, optimizer: torch.optim.Optimizer, *, normal: Normal, **settings: Any) -> None:
        super().__init__(optimizer, **settings)
        self._normal = normal

    def clip_and_accumulate(self) -> None:
        """Add up the gradients of each unit's rows, clip each unit's sum over all parameters, and add up."""
        units = int(self.owners[-1]) + 1 if len(self.owners) else 0
        for parameter in self.params:
            rows = self._get_flat_grad_sample(parameter)
            torch.nan_to_num_(rows, nan=0.0, posinf=0.0, neginf=0.0)
            if units < len(rows):
                sums = rows.new_zeros(units, *rows.shape[1:]).index_add_(0, self.owners, rows)
                torch.nan_to_num_(sums, nan=0.0, posinf=0.0, neginf=0.0)  # sums of finite rows may overflow
                parameter.grad_sample = sums
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
    ownership: Ownership,
    batch: Batch,
    event: PoissonGaussian,
    settings: TrainingSettings,
    progress: Progress = silent,
    checkpoints: Checkpoints | None = None,
    device: torch.device | None = None,
) -> dict[str, torch.Tensor]:
    """Train on private rows with cross-entropy; returns the averaged weights, the only thing that may leave.

    Model and result are on the CPU, before and after.

    :param model: maps features (rows, width) to logits (rows, classes); its start must not depend on private rows.
    :param ownership: which rows are of one unit; used for the coins and for clipping alone.
    :param batch: features and labels of given rows; must look at each row alone.
    :param event: what is charged. Cost: ``steps`` batches of about sampling rate x units, with their rows.
    :param checkpoints: where a training in segments is resumed from, if an attempt died.
    :param device: where to train; by default :func:`synth.device.training_device`.
    :raises ValueError: if a layer mixes rows, or more steps are asked for than are charged.
    """
    if settings.steps > event.steps:
        raise ValueError(f"Expected at most the {event.steps} steps that are charged, given {settings.steps}.")
    device = device or training_device()
    model.train()
    _validate(model)
    model.to(device)
    with warnings.catch_warnings(), _threads_worth_having(model, settings):
        warnings.simplefilter("ignore")  # about hooks of the empty batch and the first layer; of no use to anyone
        training = _Training(model, event, settings, device)
        every = settings.checkpoint_every if checkpoints is not None and settings.checkpoint_every else settings.steps
        if checkpoints is not None and (kept := checkpoints.latest()) is not None:
            training.load(kept)
        while training.done < settings.steps:
            if checkpoints is not None:
                checkpoints.begin_segment()
            for _ in range(every):
                units = np.flatnonzero(poisson_mask(ownership.units, event.sampling_rate))
                training.step(ownership, units, batch)
                progress("train", training.done, settings.steps)
            if checkpoints is not None and training.done < settings.steps:
                training.load(checkpoints.keep(training.done // every, training.state()))
    model.to(CPU)
    return {name: value.to(CPU) for name, value in training.average.items()}


class _Training:
    """A model in training: everything that changes from step to step, all of it functions of noisy gradients."""

    def __init__(
        self, model: nn.Module, event: PoissonGaussian, settings: TrainingSettings, device: torch.device
    ) -> None:
        self.done = 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._model, self._settings, self._device = model, settings, device
        self._private = GradSampleModule(model, loss_reduction="sum")
        self._adam = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        self._optimizer = SecureDPOptimizer(
            self._adam,
            noise_multiplier=event.noise_multiplier,
            max_grad_norm=settings.clipping_norm,
            expected_batch_size=settings.expected_batch,
            normal=normal_on(device),
        )

    def step(self, ownership: Ownership, units: npt.NDArray[np.int64], batch: Batch) -> None:
        """One step on the units of a batch."""
        settings = self._settings
        for group in self._adam.param_groups:
            group["lr"] = settings.learning_rate * _schedule(self.done, settings.steps)
        _step(self._private, self._optimizer, ownership, units, batch, settings.physical_batch, self._device)
        decay = min(settings.averaging, (self.done + 1) / (self.done + 10))
        for name, value in self._model.state_dict().items():
            self.average[name].mul_(decay).add_(value.detach(), alpha=1 - decay)
        self.done += 1

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Weights, their average, and Adam's moments; no randomness."""
        tensors = {f"model.{name}": value for name, value in self._model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for parameter, moments in self._adam.state_dict()["state"].items():
            tensors |= {f"adam.{parameter}.{name}": value for name, value in moments.items()}
        return {"done": np.array(self.done), **{name: value.detach().cpu().numpy() for name, value in tensors.items()}}

    def load(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a state."""
        tensors: dict[str, dict[str, torch.Tensor]] = {"model": {}, "average": {}, "adam": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            if part in tensors:
                tensors[part][rest] = torch.from_numpy(np.array(value))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors["adam"].items():
            parameter, _, kind = name.partition(".")
            moments.setdefault(int(parameter), {})[kind] = tensor
        self.done = int(state["done"])
        self.average = {name: value.to(self._device) for name, value in tensors["average"].items()}
        self._model.load_state_dict(tensors["model"])
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})


def normal_on(device: torch.device) -> Normal:
    """What draws the noise on a device; :func:`synth.device.noise_source` says it in words."""
    if device.type != CPU:
        return DeviceNormal(device)
    return lambda like: torch.from_numpy(standard_normal(like.numel())).to(like).view_as(like)


def _step(
    private: GradSampleModule,
    optimizer: SecureDPOptimizer,
    ownership: Ownership,
    units: npt.NDArray[np.int64],
    batch: Batch,
    physical_batch: int,
    device: torch.device,
) -> None:
    """One logical batch, in parts that fit in memory and cut no unit; an empty one still takes its noise."""
    optimizer.zero_grad()
    rows = int(ownership.row_counts(units).sum())
    parts = max(1, math.ceil(rows / physical_batch))
    for number, part in enumerate(np.array_split(units, parts)):
        chosen, owners = ownership.rows_of(part)
        features, labels = batch(chosen)
        optimizer.owners = torch.from_numpy(owners).to(device)
        loss = nn.functional.cross_entropy(private(features.to(device)), labels.to(device), reduction="sum")
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
