"""Carries out steps in a process of its own and writes down what anyone could see of it.

``python -m tests.leaks.watched REQUEST``: the request is a JSON file, see :class:`Request`. Every logger speaks, every
warning is shown, and each file that Python opens for writing is noted. At a named moment the process stops for good, to
be killed, or crashes.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

_PR_GET_DUMPABLE = 3


@dataclass(frozen=True)
class Request:
    """:ivar moment: ``module:attribute`` of a function at whose call the process stops, or ``progress``.
    :ivar crash: at the moment, crash and leave a core file if the system lets it.
    :ivar unprotected: the broken twin: steps do nothing about core files.
    """

    contract: dict[str, Any]
    run_id: str
    settings: dict[str, Any]
    steps: list[str]
    report: str
    moment: str = ""
    crash: bool = False
    unprotected: bool = False

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path


def main(request: Request) -> None:
    """Carry out the steps; the report is a file of JSON lines, flushed as it grows."""
    from synth import boundary, steps
    from synth.contract import contract_from_document
    from synth.run import Run
    from synth.settings import Settings

    report = Path(request.report).open("a", encoding="utf-8")  # noqa: SIM115 - open until the process dies

    def tell(**facts: Any) -> None:
        report.write(json.dumps(facts, default=str) + "\n")
        report.flush()

    def now() -> None:
        tell(reached=request.moment)
        if request.crash:
            os.abort()
        signal.pause()

    def progress(*arguments: Any) -> None:
        tell(progress=arguments)
        if request.moment == "progress" and arguments[1] == arguments[2] // 2:
            now()

    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    faulthandler.enable()
    if request.crash:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    if request.unprotected:
        boundary.keep_memory_from_dumps = lambda: None
    opened = _writes()
    settings = {k: Path(v) if k != "ledger_url" and v else v for k, v in request.settings.items()}
    run = Run(contract_from_document(request.contract), request.run_id, Settings(**settings), progress=progress)
    _stop_at(request.moment, now)
    for name in request.steps:
        facts = getattr(steps, name)(run)
        tell(step=name, facts=facts, environment=dict(os.environ), **_seen_by_others())
    tell(opened=sorted(opened), dumpable=ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))


def _seen_by_others() -> dict[str, str]:
    """What ``ps`` shows, on Linux."""
    place = Path("/proc/self")
    return {name: (place / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ", "comm")}


def _writes() -> set[str]:
    found: set[str] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            found.add(str(arguments[0]))

    sys.addaudithook(hook)
    return found


def _stop_at(moment: str, now: Callable[[], None]) -> None:
    if ":" not in moment:
        return
    module, _, attribute = moment.partition(":")
    original = getattr(import_module(module), attribute)

    def stopping(*arguments: Any, **options: Any) -> Any:
        """Before an :func:`os.link` of the snapshot, and before anything else."""
        if attribute != "link" or "private" in str(arguments[1]):
            now()
        return original(*arguments, **options)

    setattr(import_module(module), attribute, stopping)


if __name__ == "__main__":
    main(Request(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
