"""What a figure was taken on: the machine's kind, the packages' versions, and the code itself."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_CODE = ("synth/**/*.py", "tests/benchmarks/**/*.py", "tests/benchmarks/contracts/*.yaml")


@cache
def machine() -> str:
    """Processor, cores and memory, in one line."""
    parts = [platform.machine(), f"{os.cpu_count()} cores", _processor(), f"{_memory_gb():.0f} GB of memory"]
    return ", ".join(part for part in parts if part)


def versions(packages: Sequence[str]) -> str:
    """Python's and those of the packages, in one line."""
    named = [f"{package} {version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *named])


@cache
def code_version() -> str:
    """Twelve digits of the SHA-256 of all code and contracts that a figure depends on, committed or not."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _CODE for path in _ROOT.glob(pattern)):
        digest.update(f"{path.relative_to(_ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
