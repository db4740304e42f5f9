"""Secret randomness from the operating system's cryptographic generator.

Poisson masks, the choice of the record that is kept of a unit, and the noise of DP-SGD on the CPU are drawn from
``os.urandom``. There is no seed and no state to store, so none can leak. Noise of counts comes from OpenDP, which
draws from the same source. Gaussian noise here is floating-point: it carries the known caveat that its lowest bits
are not those of an ideal real-valued Gaussian (Mironov, 2012).
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt


def random_words(count: int) -> npt.NDArray[np.uint64]:
    """Uniform 64-bit words, shape (count,). Cost: 8 bytes of kernel entropy each."""
    return np.frombuffer(os.urandom(8 * count), dtype=np.uint64)


def poisson_mask(count: int, rate: float) -> npt.NDArray[np.bool_]:
    """Independent coins that fall true with probability ``rate``, rounded down to a multiple of 2**-64.

    Rounding down keeps the accountant's sampling rate an upper bound of the one that runs.
    """
    threshold = int(rate * 2**64)
    if threshold >= 2**64:
        return np.ones(count, dtype=np.bool_)
    return random_words(count) < np.uint64(threshold)


def standard_normal(count: int) -> npt.NDArray[np.float64]:
    """Independent standard normal draws by Box and Muller's transform, shape (count,)."""
    pairs = (count + 1) // 2
    words = random_words(2 * pairs) >> np.uint64(11)
    uniforms = (words.astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniforms[:pairs]))
    angle = 2 * np.pi * uniforms[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
