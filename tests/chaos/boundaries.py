"""Every durable action of a process, counted, wherever in the program it is made.

The interpreter reports each change of a file system before it happens, the database toolkit each statement and each
end of a transaction, and the client of an object store makes each call through one function. So a step, an artifact or
an entry that is added to the library later is found without a word here. Only a child carries this: an audit hook
cannot be taken away again.

The state of the disk between two actions is the one before the later of them; so stopping *before* each action reaches
every state. *After* is counted where something that is not durable lies between: after a transaction, and before and
after a look (`instruments`).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from tests.chaos.trace import Trace

_LOCKED = ("ledger insert", "ledger commit")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TOKEN = re.compile(r"[0-9a-f]{8,}")
_READS = ("get_object", "head_object", "head_bucket", "list_objects_v2", "list_buckets")


def pausable(name: str) -> bool:
    """Whether a process that stops here holds no lock that another one waits for."""
    return not name.startswith(_LOCKED)


class Boundaries:
    """Counts durable actions below ``folder`` and in databases; sends this process a signal at chosen ones.

    A boundary is called ``train+3``: the third after the beginning of a step, which itself is number 0.

    :param at: signals by boundary: SIGKILL, or SIGSTOP to be continued; that one waits until no lock is held.
    :param more: how many boundaries after it was stopped it is killed, if at all.
    """

    def __init__(self, folder: Path, trace: Trace, at: Mapping[str, signal.Signals], more: int | None = None) -> None:
        self.names: dict[str, str] = {}
        self._step = ""
        self._number = 0
        self._more = more
        self._due: signal.Signals | None = None
        self._left: int | None = None
        self._folder = f"{folder}/"
        self._trace = trace
        self._at = dict(at)
        self._inserting: str | None = None
        self._committed = False

    def step(self, name: str) -> None:
        """A step begins."""
        self._step, self._number = name, -1
        self.reached(f"step {name}")

    def reached(self, name: str) -> None:
        """The process is at a boundary."""
        self._number += 1
        place = f"{self._step}+{self._number}"
        self.names[place] = name
        self._due = self._at.get(place, self._due)
        if self._due == signal.SIGKILL or (self._due == signal.SIGSTOP and pausable(name)):
            self._send(self._due, place)
            self._due, self._left = None, self._more
        elif self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._send(signal.SIGKILL, place)

    def _send(self, which: signal.Signals, place: str) -> None:
        self._trace.note("signal", signal=which.name, at=place, name=self.names[place])
        os.kill(os.getpid(), which)

    def install(self) -> None:
        """From here on, for the life of this process."""
        sys.addaudithook(self._audited)
        event.listen(Engine, "before_cursor_execute", self._executing)
        event.listen(Engine, "commit", self._committing)
        event.listen(Pool, "checkin", self._given_back)

    def install_for_objects(self) -> None:
        """Count the calls that change an object store."""
        import s3fs

        call = s3fs.S3FileSystem._call_s3

        async def counted(file_system: Any, method: str, *arguments: Any, **options: Any) -> Any:
            if method in _READS:
                return await call(file_system, method, *arguments, **options)
            key = options.get("Key", "")
            self.reached(f"object {method} {self._public(key)}")
            answer = await call(file_system, method, *arguments, **options)
            self.reached(f"object {method} {self._public(key)} done")
            return answer

        s3fs.S3FileSystem._call_s3 = counted

    def _audited(self, name: str, arguments: tuple[Any, ...]) -> None:
        read = _CHANGES.get(name)
        if read is None:
            return
        paths = [_absolute(path, folder) for path, folder in read(arguments)]
        below = [path.removeprefix(self._folder) for path in paths if path.startswith(self._folder)]
        if below and not below[0].startswith("ledger.db"):  # what happens to that one is told by the toolkit
            self.reached(f"file {name.removeprefix('os.')} {' '.join(map(self._public, below))}")

    def _executing(
        self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: Any
    ) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            values = (getattr(context, "compiled_parameters", None) or [{}])[0]
            self._inserting = f"{values.get('kind', statement[:30])} {_mechanism(values.get('key', ''))}".strip()
            self.reached(f"ledger insert {self._inserting}")

    def _committing(self, connection: Any) -> None:
        if self._inserting is not None:
            self.reached(f"ledger commit {self._inserting}")
            self._committed = True

    def _given_back(self, connection: Any, record: Any) -> None:
        inserted, committed = self._inserting, self._committed
        self._inserting, self._committed = None, False
        if committed:
            self.reached(f"ledger has {inserted}")

    def _public(self, path: str) -> str:
        """The same in every run."""
        return _TOKEN.sub("*", path)


def _mechanism(key: str) -> str:
    parts = key.split(":")
    return parts[1] if len(parts) > 2 else ""


def _absolute(path: Any, folder: int = -1) -> str:
    """Where a path leads: relative to an open folder, or an open file itself."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}") if path >= 0 else ""
    text = os.fsdecode(path)
    if os.path.isabs(text):
        return text
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd(), text)


_Named = list[tuple[Any, int]]


def _opened(arguments: tuple[Any, ...]) -> _Named:
    path, _, flags = arguments
    return [(path, -1)] if isinstance(flags, int) and flags & _WRITES else []


_CHANGES: dict[str, Callable[[tuple[Any, ...]], _Named]] = {
    "open": _opened,
    "os.link": lambda a: [(a[1], a[3]), (a[0], a[2])],
    "os.mkdir": lambda a: [(a[0], a[2])],
    "os.remove": lambda a: [(a[0], a[1])],
    "os.rename": lambda a: [(a[1], a[3]), (a[0], a[2])],
    "os.rmdir": lambda a: [(a[0], a[1])],
    "os.symlink": lambda a: [(a[1], a[2])],
    "os.truncate": lambda a: [(a[0], -1)],
}
