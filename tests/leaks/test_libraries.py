"""A library fails, warns, logs or prints with a cell in the text, in any of its calls: none of it leaves the step."""

from __future__ import annotations

import errno
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from synth import boundary, steps
from synth.errors import SluiceError
from synth.run import Run
from tests.conftest import Deployment
from tests.leaks.planted import contents, holding

CELL = "qzx.cell@eccles.example"

# What a step calls on private rows or on what came from them, by the step; `module:path`.
CALLS = {
    "preflight": ("fsspec:open", "csv:reader", "great_expectations:get_context"),
    "validate": (
        "fsspec:open",
        "csv:reader",
        "pyarrow:array",
        "pyarrow:table",
        "pandas:DataFrame.to_parquet",
        "pandas:read_parquet",
        "hmac:digest",
        "great_expectations:get_context",
        "opendp.prelude:m.make_gaussian",
        "numpy:savez",
        "os:link",
        "os:fsync",
    ),
    "train": (
        "pandas:read_parquet",
        "opendp.prelude:m.make_gaussian",
        "torch:from_numpy",
        "torch.nn.functional:cross_entropy",
        "torch.optim:Adam.step",
        "numpy:savez",
        "numpy:load",
        "safetensors.numpy:save",
    ),
    "generate": ("safetensors.numpy:load", "pandas:DataFrame.to_parquet"),
    "check": (
        "pandas:read_parquet",
        "opendp.prelude:m.make_gaussian",
        "sklearn.ensemble:HistGradientBoostingClassifier.fit",
        "sklearn.ensemble:HistGradientBoostingClassifier.predict",
        "pyarrow.parquet:ParquetWriter.write_table",
        "shutil:copyfile",
    ),
    "publish": ("fsspec:core.url_to_fs", "os:rename"),
    "settle": ("shutil:rmtree",),
}
PLACES = [(step, call) for step, calls in CALLS.items() for call in calls]


def value_error() -> Exception:
    """As pandas has them: a text, a note, a cause and a context that quote the cell."""
    error = ValueError(f"could not convert {CELL!r}")
    error.add_note(f"at cell {CELL}")
    error.__cause__ = error.__context__ = KeyError(CELL)
    return error


def disk_error() -> Exception:
    """Its file is named like a cell."""
    return OSError(errno.ENOSPC, f"no room for {CELL}", f"/tmp/{CELL}")


def decode_error() -> Exception:
    """Holds the whole line."""
    return UnicodeDecodeError("utf-8", CELL.encode(), 0, 1, CELL)


class OwnError(Exception):
    """A library's class whose attributes and representation quote the cell."""

    def __init__(self) -> None:
        super().__init__(CELL)
        self.value = CELL

    def __repr__(self) -> str:
        return CELL


def interrupt() -> BaseException:
    """A person, or a scheduler's timeout, while a library's exception is being handled."""
    error = KeyboardInterrupt()
    error.__context__ = ValueError(CELL)
    return error


@pytest.fixture(autouse=True)
def every_logger_speaks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], BaseException]], list[str]]:
    """Makes a call of a library fail; the list says how often it was called."""

    def fail(call: str, make: Callable[[], BaseException]) -> list[str]:
        module, _, path = call.partition(":")
        *parents, name = path.split(".")
        owner: Any = import_module(module)
        for parent in parents:
            owner = getattr(owner, parent)
        original, called = getattr(owner, name), []

        def failing(*arguments: Any, **options: Any) -> Any:
            if not _by_a_step():
                return original(*arguments, **options)
            called.append(call)
            raise make()

        monkeypatch.setattr(owner, name, failing)
        return called

    return fail


def _by_a_step() -> bool:
    """Whether a step's own code is below in the stack: the ledger and Python's own machinery use these calls, too."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("synth.ledger", "sqlalchemy", "importlib", "pytest")):
            return False
        if name == boundary.__name__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def raised_by(work: Callable[[], Any]) -> Exception | None:
    try:
        work()
    except Exception as error:
        return error
    return None


def everything_shown(error: BaseException) -> str:
    """The error as loggers and debuggers print it: chain, notes, attributes, and the locals of the steps' frames."""
    shown = []
    seen: BaseException | None = error
    while seen is not None:
        shown += [str(seen), repr(seen), repr(seen.args), repr(vars(seen)), repr(getattr(seen, "__notes__", None))]
        seen = seen.__cause__ or seen.__context__
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in report.stack:
        if "/synth/" in frame.filename:
            shown += [f"{name}={value}" for name, value in (frame.locals or {}).items()]
    return "\n".join(shown)


@pytest.mark.parametrize(("step", "call"), PLACES, ids=[f"{step} {call}" for step, call in PLACES])
def test_a_library_that_fails_with_a_cell_in_its_text_does_not_show_it(
    step: str,
    call: str,
    done: Callable[[str], Run],
    failing: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = done(step)
    make = (value_error, disk_error, decode_error, OwnError)[PLACES.index((step, call)) % 4]
    called = failing(call, make)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        error = raised_by(lambda: getattr(steps, step)(run))
    assert called, "the step does not make this call any more: take it off the list"
    if error is not None:
        assert isinstance(error, SluiceError), type(error)
        assert CELL not in everything_shown(error)
        assert error.__cause__ is error.__context__ is None
    output = "".join(capfd.readouterr()) + caplog.text + "".join(str(one.message) for one in warned)
    assert CELL not in output
    assert holding(contents(run.settings.workspaces.parent), (CELL,)) == []


def test_an_interrupt_loses_the_exception_that_it_came_upon(
    done: Callable[[str], Run], failing: Callable[..., list[str]]
) -> None:
    run = done("train")
    failing("torch.nn.functional:cross_entropy", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        steps.train(run)
    shown = "".join(traceback.format_exception(caught.value))
    assert CELL not in shown


def test_the_same_test_finds_an_error_that_quotes_a_cell() -> None:
    """The broken twin: a step outside the boundary."""
    for make in (value_error, disk_error, decode_error, OwnError, interrupt):
        assert CELL in everything_shown(make())

    def step(row: str) -> None:
        raise ValueError from None

    with pytest.raises(ValueError) as caught:
        step(CELL)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert any(CELL in str(frame.locals) for frame in report.stack)


def test_what_great_expectations_prints_logs_and_warns_of_is_held_back(
    done: Callable[[str], Run],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import great_expectations

    original = great_expectations.get_context

    def talkative(*arguments: Any, **options: Any) -> Any:
        print(CELL)
        print(CELL, file=sys.stderr)
        logging.getLogger("great_expectations").critical(CELL)
        warnings.warn(CELL, stacklevel=1)
        return original(*arguments, **options)

    monkeypatch.setattr(great_expectations, "get_context", talkative)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        facts = steps.validate(done("validate"))
    assert CELL not in "".join(capfd.readouterr()) + caplog.text + json.dumps(facts) + str([w.message for w in warned])


@pytest.fixture
def done(leaky: Deployment) -> Callable[[str], Run]:
    """A run of which all steps before the named one were carried out."""

    def upto(step: str) -> Run:
        run: Run = leaky.run()
        for one in steps.STEPS:
            if one.__name__ == step or (step == "settle" and one is steps.train):
                break
            one(run)
        return leaky.run()

    return upto
