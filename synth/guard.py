"""The guard: what was read from a source is sealed, and opens to a charged mechanism only.

A sealed value has no data methods. It can be handed around, and functions can be put in its way that run when it is
opened; it cannot be printed, formatted, iterated, compared, measured, pickled or written. It opens to a *spend token*,
which exists while a mechanism computes that was charged in the ledger and that the plan lets see these rows. So the
likeliest mistakes fail where they are made: a print, a log line, a returned value, an exception's argument, an XCom, a
published file.

This guards against mistakes, not against malice: Python keeps nothing from code that wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import numpy.typing as npt

from synth.errors import PrivateDataGuarded

T = TypeVar("T")
U = TypeVar("U")


class Checkpoints(Protocol):
    """What a long mechanism keeps between its segments, so that an attempt that dies can be resumed."""

    def latest(self) -> Mapping[str, npt.NDArray[Any]] | None:
        """The newest state that was kept, if any."""
        ...

    def begin_segment(self) -> None:
        """Called before each segment looks at private rows.

        :raises AttemptsExhausted: if the plan counts no further segment.
        """
        ...

    def keep(self, segment: int, state: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        """Keep the state at the end of a segment, the first being 1; returns what is kept, from here on the only
        one."""
        ...


class Spend:
    """The token of one charged mechanism, good while it computes.

    :ivar mechanism: its name in the plan.
    :ivar branches: those that the plan lets it see.
    :ivar checkpoints: where the plan has the mechanism run in segments.
    """

    def __init__(self, mechanism: str, branches: tuple[str, ...], checkpoints: Checkpoints | None) -> None:
        self.mechanism = mechanism
        self.branches = branches
        self.checkpoints = checkpoints
        self.live = True

    def __reduce__(self) -> NoReturn:
        raise PrivateDataGuarded("a spend token is good inside one mechanism of one process; it cannot be pickled")


@contextmanager
def spending(mechanism: str, branches: tuple[str, ...], checkpoints: Checkpoints | None = None) -> Iterator[Spend]:
    """A token for as long as the block runs. Only :meth:`synth.run.Run.once` calls this, after it has charged."""
    spend = Spend(mechanism, branches, checkpoints)
    try:
        yield spend
    finally:
        spend.live = False


def _refusing(what: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise PrivateDataGuarded(
            f"private rows cannot be {what}; open them with the spend token of a charged mechanism"
        )

    return refuse


class Sealed(Generic[T]):
    """A private value of some branches.

    :param branches: whose rows it holds.
    """

    __slots__ = ("__branches", "__load")

    def __init__(self, value: T, branches: tuple[str, ...]) -> None:
        self.__load: Callable[[], T] = lambda: value
        self.__branches = branches

    def then(self, function: Callable[[T], U]) -> Sealed[U]:
        """The sealed result of a function, which runs once, when the result is first opened."""
        load, made = self.__load, list[U]()

        def apply() -> U:
            if not made:
                made.append(function(load()))
            return made[0]

        result: Sealed[U] = Sealed.__new__(Sealed)
        result.__load, result.__branches = apply, self.__branches
        return result

    def open(self, spend: Spend) -> T:
        """The value, for the mechanism that was charged for it.

        :raises PrivateDataGuarded: if the token is used up, or its mechanism was not planned to see these rows.
        """
        if not isinstance(spend, Spend) or not spend.live:
            raise PrivateDataGuarded(
                "private rows open to a spend token while its mechanism computes; hand Run.once the computation"
            )
        unplanned = set(self.__branches) - set(spend.branches)
        if unplanned:
            raise PrivateDataGuarded(
                f"mechanism {spend.mechanism!r} is charged to {', '.join(spend.branches)} and cannot open rows of "
                f"{', '.join(sorted(unplanned))}"
            )
        return self.__load()

    def __repr__(self) -> str:
        return f"<sealed private rows of {', '.join(self.__branches)}>"

    __str__ = __format__ = _refusing("printed or formatted")
    __iter__ = _refusing("iterated over")
    __len__ = _refusing("measured")
    __bool__ = _refusing("tested")
    __eq__ = _refusing("compared")
    __getitem__ = _refusing("indexed")
    __array__ = _refusing("turned into an array")
    __reduce__ = _refusing("pickled or copied")
    __hash__ = None  # type: ignore[assignment]
