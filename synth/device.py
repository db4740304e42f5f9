"""Where DP-SGD runs, and what its noise is drawn with there.

The device is chosen by a public rule, so it tells nothing about any row. On the CPU noise comes from the operating
system's cryptographic generator (:mod:`synth.randomness`). On a GPU there is none to be had at that speed: noise comes
from PyTorch's generator of that device, a generator object of its own, seeded with 64 secret bits that are kept
nowhere. PyTorch's global generators are never seeded. Which one was used is a public fact that the privacy statement
carries; :func:`noise_source` has its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synth.randomness import random_words

if TYPE_CHECKING:
    import torch

CPU, CUDA = "cpu", "cuda"
DEVICES = (CPU, CUDA)


@dataclass(frozen=True)
class NoiseSource:
    """What a statement says of a generator.

    :ivar source: what draws.
    :ivar caveat: what is not claimed about it.
    """

    source: str
    caveat: str


_ROUNDED = (
    "floating-point: sums, clipping and noise are rounded, so the lowest bits are not those of an ideal Gaussian "
    "(Mironov, 2012). The accounting is that of the ideal mechanism; no more is claimed."
)
_SOURCES = {
    CPU: NoiseSource(
        "the operating system's cryptographic generator, through Box and Muller's transform in double precision",
        _ROUNDED,
    ),
    CUDA: NoiseSource(
        "PyTorch's generator of the GPU (Philox), seeded for each training with 64 bits from the operating system's "
        "cryptographic generator, which are not kept",
        "not cryptographic: Philox is a statistical generator, and nothing is claimed against an observer who could "
        "infer its state from the released model. Also " + _ROUNDED,
    ),
}


def training_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    import torch

    return torch.device(CUDA if torch.cuda.is_available() else CPU)


def noise_source(device: str) -> NoiseSource:
    """What DP-SGD's noise is drawn with on a kind of device, and its caveat.

    :raises KeyError: for a kind of device whose generator nobody has described.
    """
    return _SOURCES[device]


class DeviceNormal:
    """Standard normal draws by PyTorch's generator of a device, in double precision.

    Single precision would end the tails below seven standard deviations.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._generator = torch.Generator(device=device)
        self._generator.manual_seed(int(random_words(1)[0]))

    def __call__(self, like: torch.Tensor) -> torch.Tensor:
        """Independent draws of the shape, type and device of ``like``."""
        import torch

        drawn = torch.randn(like.shape, generator=self._generator, dtype=torch.float64, device=like.device)
        return drawn.to(like.dtype)
