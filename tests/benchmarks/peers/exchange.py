"""How a synthesizer in an environment of its own is asked for rows: a folder with codes goes in, a folder comes out.

In: ``job.json`` (sizes, epsilon, delta, seed, rows, options) and ``codes.npy``, codes of shape (rows, columns), each
below its column's size. Out: ``release.npy`` of the same kind, and ``facts.json`` with seconds and megabytes. Needs
numpy alone, and nothing of Sluice, so that it runs in every environment.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Codes = Any  # integers of shape (rows, columns)
Sampler = Callable[[int], Codes]


@dataclass(frozen=True)
class Job:
    """What a synthesizer is asked for."""

    sizes: list[int]
    epsilon: float
    delta: float
    seed: int
    rows: int
    options: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """Column names that every package accepts."""
        return [f"c{i}" for i in range(len(self.sizes))]


def peak_mb() -> float:
    """The most memory that this program has held resident, its largest child's where that is more.

    Linux tells it of this program alone. What ``getrusage`` tells of a process includes what its parent held when it
    was started, which may be a gigabyte of another program.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024
    return max(own, children)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@dataclass
class Meter:
    """Seconds of named stages, and the memory of this process; made when all is imported.

    :ivar imports_mb: resident memory at the peak of importing.
    """

    imports_mb: float = field(default_factory=peak_mb)
    _seconds: dict[str, float] = field(default_factory=dict)
    _cpu_before: float = field(default_factory=_cpu_seconds)

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        """The result of the work, whose seconds are kept."""
        started = time.perf_counter()
        result = work()
        self._seconds[f"{stage}_s"] = time.perf_counter() - started
        return result

    def facts(self) -> dict[str, float]:
        """All that was measured: wall seconds of the stages, processor seconds of all since importing, memory."""
        cpu = _cpu_seconds() - self._cpu_before
        return {**self._seconds, "cpu_s": cpu, "peak_mb": peak_mb(), "imports_mb": self.imports_mb}


def serve(fit: Callable[[Job, Codes], Sampler]) -> None:
    """Do the job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    meter = Meter()
    codes = np.load(folder / "codes.npy")
    sample = meter.timed("fit", lambda: fit(job, codes))
    released = np.asarray(meter.timed("sample", lambda: sample(job.rows)))
    np.save(folder / "release.npy", released.astype(np.int32))
    (folder / "facts.json").write_text(json.dumps(meter.facts()), encoding="utf-8")


def rho_for(epsilon: float, delta: float) -> float:
    """The largest zero-concentrated cost that implies (ε, δ) (Canonne, Kamath, Steinke, 2020, Corollary 13)."""

    def implied_delta(rho: float) -> float:
        orders = 1 + np.geomspace(1e-3, 1e4, 4000)
        logs = (orders - 1) * (orders * rho - epsilon) + orders * np.log1p(-1 / orders) - np.log(orders - 1)
        return float(math.exp(min(0.0, logs.min())))

    low, high = 0.0, epsilon + 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if implied_delta(middle) <= delta else (low, middle)
    return low
