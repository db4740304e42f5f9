"""What secret noise costs: per draw, against generators that are not secret, and as a share of a training step.

Rows of {measured, size, ns, compared_with, compared_ns, ratio}; ``ns`` is for each of ``size`` numbers, or for a whole
step where a step is measured, and ``ratio`` is ``ns`` over ``compared_ns``. CPU nanoseconds, because other users of
the machine would be measured too; but for what runs on all cores, which is wall time beside a control: hashing, which
needs no lock either, and shows what the cores give at that moment. Medians of several turns, both sides of a row in
turn.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from synth import dpsgd, mechanisms
from synth.dpsgd import TrainingSettings
from synth.events import PoissonGaussian
from synth.mechanisms import noisy_integers
from synth.randomness import poisson_mask, random_words, standard_normal
from synth.records import Ownership
from tests.benchmarks.common import report
from tests.sealed import own_units

TURNS = 5
_SIGMA = 30.0
_CELLS = 200_000
_MASK_ROWS = (30_000, 1_000_000)
_STEPS = (  # title, rows, width, hidden units, expected batch, steps
    ("linear, 120 features", 30_000, 120, 0, 1024, 60),
    ("linear, 500 features", 30_000, 500, 0, 1024, 40),
    ("linear, a million rows", 1_000_000, 120, 0, 1024, 20),
    ("MLP, 200 hidden", 30_000, 500, 200, 512, 4),
)
Work = Callable[[], object]


def measure() -> list[dict[str, Any]]:
    """The rows of the report."""
    torch.set_num_threads(1)
    return [*_counts(), *_normals(), *_masks(), *_steps()]


def _counts() -> Iterator[dict[str, Any]]:
    exact, block = np.zeros(_CELLS, np.int64), bytes(64 << 20)
    cores = os.cpu_count() or 1

    def hash_on_all() -> None:
        with ThreadPoolExecutor(cores) as threads:
            list(threads.map(lambda _: hashlib.sha256(block).digest(), range(cores)))

    yield _row(
        "discrete Gaussian, all cores", _CELLS, lambda: noisy_integers(exact, _SIGMA),
        "one core", lambda: mechanisms._drawn(exact, _SIGMA), time.perf_counter,
    )  # fmt: skip
    yield _row(
        "control: hashing, all cores", cores, hash_on_all,
        "one core", lambda: [hashlib.sha256(block).digest() for _ in range(cores)], time.perf_counter,
    )  # fmt: skip


def _normals() -> Iterator[dict[str, Any]]:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def keystream(count: int) -> npt.NDArray[np.uint64]:
        cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
        return np.frombuffer(cipher.update(bytes(8 * count)), dtype=np.uint64)

    for size in (242, 100_000):
        yield _row("noise of DP-SGD", size, partial(standard_normal, size), "torch.randn", partial(torch.randn, size))
        yield _row("random words", size, partial(random_words, size), "AES-CTR keystream", partial(keystream, size))


def _masks() -> Iterator[dict[str, Any]]:
    generator = np.random.default_rng()

    def whole_words(rows: int, rate: float) -> npt.NDArray[np.bool_]:
        return random_words(rows) < np.uint64(int(rate * 2**64))

    def not_secret(rows: int, rate: float) -> npt.NDArray[np.bool_]:
        return generator.random(rows) < rate

    for rows in _MASK_ROWS:
        rate = 1024 / rows
        for title, other in (("8 bytes a coin", whole_words), ("NumPy's generator", not_secret)):
            yield _row("Poisson mask", rows, partial(poisson_mask, rows, rate), title, partial(other, rows, rate))


def _steps() -> Iterator[dict[str, Any]]:
    for title, rows, width, hidden, batch, steps in _STEPS:
        turns = [_train(rows, width, hidden, batch, steps) for _ in range(TURNS)]
        whole = statistics.median(turn["whole"] for turn in turns) / steps
        for part, words in (("noise", "noise"), ("mask", "Poisson mask")):
            share = statistics.median(turn[part] / turn["whole"] for turn in turns)
            yield {
                "measured": f"step: {words} ({title})",
                "size": int(turns[0]["parameters"]),
                "ns": share * whole * 1e9,
                "compared_with": "whole step",
                "compared_ns": whole * 1e9,
                "ratio": share,
            }


def _train(rows: int, width: int, hidden: int, batch: int, steps: int) -> dict[str, float]:
    """CPU seconds of a training, and of its noise and masks."""
    features, labels = torch.randn(20_000, width), torch.randint(0, 2, (20_000,))
    layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 2)] if hidden else [nn.Linear(width, 2)]
    model, spent = nn.Sequential(*layers), {"noise": 0.0, "mask": 0.0}

    def chosen(positions: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        return features[positions % 20_000], labels[positions % 20_000]

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            started = time.process_time()
            try:
                return work(*arguments)
            finally:
                spent[name] += time.process_time() - started

        return run

    before = dpsgd.standard_normal, dpsgd.poisson_mask
    dpsgd.standard_normal, dpsgd.poisson_mask = timed("noise", before[0]), timed("mask", before[1])
    try:
        started = time.process_time()
        dpsgd.train(
            model, Ownership(own_units(rows)), chosen, PoissonGaussian(1.0, batch / rows, steps),
            TrainingSettings(1.0, batch, 0.01, steps), device=torch.device("cpu"),
        )  # fmt: skip
        whole = time.process_time() - started
    finally:
        dpsgd.standard_normal, dpsgd.poisson_mask = before
    return {**spent, "whole": whole, "parameters": sum(parameter.numel() for parameter in model.parameters())}


def _row(
    measured: str,
    size: int,
    work: Work,
    compared_with: str,
    other: Work,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    turns = [(_ns(work, size, clock), _ns(other, size, clock)) for _ in range(TURNS)]
    ns, compared_ns = (statistics.median(side) for side in zip(*turns, strict=True))
    return {
        "measured": measured,
        "size": size,
        "ns": ns,
        "compared_with": compared_with,
        "compared_ns": compared_ns,
        "ratio": ns / compared_ns,
    }


def _ns(work: Work, size: int, clock: Callable[[], float]) -> float:
    repeats = max(1, 200_000 // size) if clock is time.process_time else 1
    started = clock()
    for _ in range(repeats):
        work()
    return (clock() - started) / repeats / size * 1e9


if __name__ == "__main__":
    report("noise", f"Secret noise: nanoseconds, median of {TURNS}", measure())
