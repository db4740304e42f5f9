"""What leaves a step: its facts, and errors with the text that was written for them.

A library's exception may quote a cell, in its text, its cause, its context or the values of its frames. So a failure is
raised anew here, outside the handler, with nothing of the original but its type and the place in the code; warnings
are silenced, and a crash leaves no image of the memory.

A failure of a disk is told from a fault of the program by its error number, which no row has an influence on beyond how
much room the rows take up.
"""

from __future__ import annotations

import errno
import functools
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synth.errors import PrivateDataGuarded, SluiceError, StepFailed, StorageUnavailable
from synth.memory import keep_memory_from_dumps
from synth.release.stamp import stamp
from synth.run import Run
from synth.unsafe import begin, drawing, reserved_seed

Facts = dict[str, Any]
Step = Callable[[Run], Facts]

_DISK_FAULTS = {
    errno.ENOSPC: "a disk is full",
    errno.EDQUOT: "a disk quota is used up",
    errno.EFBIG: "a file would be larger than the system allows",
    errno.EROFS: "a disk is read-only",
    errno.EIO: "a disk fails",
    errno.ESTALE: "a network disk was remounted",
    errno.EACCES: "a file or folder may not be opened by this account",
    errno.EPERM: "a file or folder may not be changed by this account",
}


def step(function: Step) -> Step:
    """Makes a function of a run a step: no text of a library gets out of it; a run that is not private says so."""

    @functools.wraps(function)
    def guarded(run: Run) -> Facts:
        keep_memory_from_dumps()
        failure: SluiceError
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seed = reserved_seed(run) if function.__name__ == "settle" else begin(run)
                with drawing(seed, function.__name__):
                    return _public(function.__name__, function(run) | stamp(seed))
        except SluiceError as error:
            failure = error.with_traceback(None)
            failure.__context__ = failure.__cause__ = None
        except Exception as error:
            failure = _failure(function.__name__, run, error)
        except BaseException as error:  # an interrupt or a timeout, perhaps while a library's exception was handled
            error.__context__ = error.__cause__ = None
            raise
        raise failure

    return guarded


def _public(name: str, facts: Facts) -> Facts:
    """Facts, if they are of the types that facts are made of: a frame, an array or rows under seal are not.

    :raises PrivateDataGuarded: if they are not.
    """

    def check(value: Any) -> None:
        if isinstance(value, dict | list | tuple):
            for part in (*value, *value.values()) if isinstance(value, dict) else value:
                check(part)
        elif not (value is None or type(value) in (str, int, float, bool)):
            raise PrivateDataGuarded(
                f"step {name!r} returned a {type(value).__name__} among its facts, which anyone may see; facts are "
                "text, numbers, lists and mappings"
            )

    check(facts)
    return facts


def _failure(name: str, run: Run, error: Exception) -> SluiceError:
    fault = _DISK_FAULTS.get(error.errno or 0) if isinstance(error, OSError) else None
    if fault is None:
        return StepFailed(
            f"step {name!r} failed with {type(error).__name__} at {_place(error)}; the text of the error is withheld "
            "because it could quote private data",
            retry=isinstance(error, OSError | MemoryError),
        )
    return StorageUnavailable(
        f"step {name!r} stopped at {_place(error)}: {fault}. Check room and rights of SLUICE_WORKSPACES "
        f"({run.settings.workspaces}) and SLUICE_REPORTS ({run.settings.reports or 'not set'}), then try again with "
        "the same run: what was committed is kept"
    )


def _place(error: Exception) -> str:
    """The innermost lines of our own code and of the library that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "synth" in Path(frame.filename).parts]
    return " > ".join(f"{Path(f.filename).name}:{f.lineno}" for f in (*ours[-1:], *frames[-1:]))
