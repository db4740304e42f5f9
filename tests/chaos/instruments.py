"""What a child notes about looks and outputs, by wrapping the library from outside.

A *look* is a call of the computation that is handed to `Run.once`, or, where that runs in segments, each of these; a
*read* one of the source. At that very moment the ledger is asked, past the library, what is charged. Both are
boundaries too: a process may die just before and just after. Nothing here depends on what a computation takes or gives.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from synth import source
from synth.run import Run
from tests.chaos.boundaries import Boundaries
from tests.chaos.trace import Trace
from tests.chaos.world import World


def install(world: World, trace: Trace, boundaries: Boundaries) -> None:
    """Watch this process, a child, until it ends."""
    _watch_mechanisms(world, trace, boundaries)
    _watch_source(world, trace, boundaries)
    boundaries.install()
    if world.bucket.startswith("s3://"):
        boundaries.install_for_objects()


def rebind(original: Any, replacement: Any) -> None:
    """Put ``replacement`` wherever a module of the library names ``original``."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "synth":
            for key, value in list(vars(module).items()):
                if value is original:
                    setattr(module, key, replacement)


def _watch_mechanisms(world: World, trace: Trace, boundaries: Boundaries) -> None:
    once = Run.once

    def watched(run: Run, mechanism: str, compute: Callable[..., Any], *more: Any, **options: Any) -> Any:
        def look(paid_by: str) -> None:
            boundaries.reached(f"look {mechanism}")
            with trace.alone():  # so that the order of the lines is the order of the questions
                charges = [p for kind, p in world.entries() if kind == paid_by and p["mechanism"] == mechanism]
                trace.note("look", mechanism=mechanism, charged=len(charges))

        def looked(spend: Any) -> Any:
            if spend.checkpoints is None:
                look("start")
            else:
                spend.checkpoints = _Watched(spend.checkpoints, look)
            output = compute(spend)
            boundaries.reached(f"looked {mechanism}")
            return output

        output = once(run, mechanism, looked, *more, **options)
        trace.note("output", mechanism=mechanism, digest=_digest(output))
        return output

    Run.once = watched  # type: ignore[method-assign]


class _Watched:
    """Checkpoints whose every segment is a look, paid for by the slot that it took."""

    def __init__(self, checkpoints: Any, look: Callable[[str], None]) -> None:
        self._checkpoints, self._look = checkpoints, look
        self.latest, self.keep = checkpoints.latest, checkpoints.keep

    def begin_segment(self) -> None:
        self._checkpoints.begin_segment()
        self._look("segment")


def _watch_source(world: World, trace: Trace, boundaries: Boundaries) -> None:
    read = source.read_snapshot

    def watched(*arguments: Any, **options: Any) -> Any:
        boundaries.reached("read")
        kinds = {kind for kind, _ in world.entries()}
        trace.note("read", reserved="reserve" in kinds)
        snapshot = read(*arguments, **options)
        boundaries.reached("was read")
        return snapshot

    rebind(read, watched)


def _digest(arrays: Any) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(dict(arrays).items()):
        array = np.asarray(values)
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
