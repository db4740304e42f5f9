"""Secret randomness from the operating system's cryptographic generator.

Poisson masks, the choice of the record that is kept of a unit, and the noise of DP-SGD on the CPU are drawn from
``os.urandom``. There is no seed and no state to store, so none can leak and no fork repeats another's draws. A cipher
keyed from there would draw words ten times faster; but noise is a few per cent of a training step, so it would save
nothing that anyone notices, and coins need one byte each. The one exception is :func:`seeded`, for runs that are not
private. Noise of counts comes from OpenDP (:mod:`synth.mechanisms`).

Gaussian noise here is floating-point: it carries the known caveat that its lowest bits are not those of an ideal
real-valued Gaussian (Mironov, 2012).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt

_not_private: ContextVar[np.random.Generator | None] = ContextVar("sluice_not_private", default=None)


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """NOT PRIVATE: inside, everything here is drawn from ``seed``, for each purpose differently.

    Only :mod:`synth.unsafe` enters it. In other threads and after it nothing is seeded.
    """
    token = _not_private.set(np.random.default_rng([seed, *purpose.encode()]))
    try:
        yield
    finally:
        _not_private.reset(token)


def seeded_generator() -> np.random.Generator | None:
    """The generator of a run that is not private; None in every other, where nothing has a seed."""
    return _not_private.get()


def random_bytes(count: int) -> bytes:
    """Uniform bytes of the operating system."""
    generator = seeded_generator()
    return os.urandom(count) if generator is None else generator.bytes(count)


def random_words(count: int) -> npt.NDArray[np.uint64]:
    """Uniform 64-bit words, shape (count,). Cost: 8 bytes of kernel entropy each."""
    return np.frombuffer(random_bytes(8 * count), dtype=np.uint64)


def poisson_mask(count: int, rate: float) -> npt.NDArray[np.bool_]:
    """Independent coins that fall true with probability ``rate``, rounded down to a multiple of 2**-64.

    Rounding down keeps the accountant's sampling rate an upper bound of the one that runs. A coin is a 64-bit number
    below a threshold; its first byte nearly always decides, and only where that ties are the other seven drawn.
    """
    threshold = int(rate * 2**64)
    if threshold >= 2**64:
        return np.ones(count, dtype=np.bool_)
    first = np.frombuffer(random_bytes(count), dtype=np.uint8)
    high, low = divmod(threshold, 2**56)
    mask = np.asarray(first < high)
    ties = np.flatnonzero(first == high)
    mask[ties] = random_words(len(ties)) >> np.uint64(8) < np.uint64(low)
    return mask


def standard_normal(count: int) -> npt.NDArray[np.float64]:
    """Independent standard normal draws by Box and Muller's transform, shape (count,)."""
    pairs = (count + 1) // 2
    words = random_words(2 * pairs) >> np.uint64(11)
    uniforms = (words.astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniforms[:pairs]))
    angle = 2 * np.pi * uniforms[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
