"""A real disk of some megabytes that a test fills, and a real bound on the size of files.

The disk is a file system in memory, which only root may mount; without that right the tests that need it are skipped
and say so. The bound is the process's own (``RLIMIT_FSIZE``), which needs no rights.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MEGABYTES = 24


class SmallDisk:
    """:param folder: of the test; what is on the disk is moved there when it is removed from its place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: Path | None = None

    def mount(self, place: Path) -> None:
        """From here on ``place`` is a disk of its own."""
        place.mkdir(parents=True, exist_ok=True)
        arguments = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m,mode=0700", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(arguments, check=False, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here (root may), so a full or read-only disk is NOT tested")
        self._place = place

    def fill(self, *, leaving: int = 0) -> None:
        """Take up all room but ``leaving`` bytes, rounded up to whole blocks."""
        assert self._place is not None
        state = os.statvfs(self._place)
        blocks = state.f_bavail - -(-leaving // state.f_frsize)
        assert blocks > 0, "less is free than is to be left"
        with (self._place / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, blocks * state.f_frsize)

    def free(self) -> None:
        """Make room again."""
        assert self._place is not None
        (self._place / "filler").unlink()

    def writable(self, yes: bool) -> None:
        """Allow writing, or not."""
        mode = "rw" if yes else "ro"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self._place)], check=True, capture_output=True)

    def remove(self) -> None:
        if self._place is not None:
            subprocess.run(["umount", "--lazy", str(self._place)], check=True, capture_output=True)
            self._place = None


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
