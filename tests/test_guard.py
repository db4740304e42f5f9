"""Sealed rows open to a charged mechanism of their branch, and to nothing else; the likeliest mistakes fail at once."""

from __future__ import annotations

import ast
import copy
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synth
from synth.boundary import _public
from synth.errors import PrivateDataGuarded
from synth.guard import Sealed, Spend, spending
from synth.records import HOLDOUT, TRAIN

PLANTED = "Qzx Planted-4711"


@pytest.fixture
def rows() -> Sealed[pd.DataFrame]:
    return Sealed(pd.DataFrame({"name": [PLANTED]}), (TRAIN,))


def test_a_charged_mechanism_of_the_branch_opens_them(rows: Sealed[pd.DataFrame]) -> None:
    with spending("marginals", (TRAIN,)) as spend:
        assert rows.open(spend)["name"].tolist() == [PLANTED]
        assert rows.then(len).open(spend) == 1


def test_a_token_is_good_while_its_mechanism_computes(rows: Sealed[pd.DataFrame]) -> None:
    with spending("marginals", (TRAIN,)) as spend:
        pass
    with pytest.raises(PrivateDataGuarded, match="while its mechanism computes"):
        rows.open(spend)
    with pytest.raises(ZeroDivisionError), spending("marginals", (TRAIN,)) as spend:
        raise ZeroDivisionError
    with pytest.raises(PrivateDataGuarded):
        rows.then(len).open(spend)


def test_a_mechanism_opens_only_branches_that_it_is_charged_for() -> None:
    everyone, held = Sealed([1, 2], (TRAIN, HOLDOUT)), Sealed([2], (HOLDOUT,))
    with spending("marginals", (TRAIN,)) as spend:
        for sealed in (everyone, held, held.then(len)):
            with pytest.raises(
                PrivateDataGuarded, match="'marginals' is charged to train and cannot open rows of holdout"
            ):
                sealed.open(spend)
    with spending("validation", (TRAIN, HOLDOUT)) as spend:
        assert everyone.open(spend) == [1, 2]


def test_a_function_in_the_way_runs_once_and_only_when_opened(rows: Sealed[pd.DataFrame]) -> None:
    calls: list[int] = []
    longer = rows.then(lambda frame: calls.append(len(frame)) or "made")
    assert calls == []
    with spending("marginals", (TRAIN,)) as spend:
        assert longer.open(spend) == longer.open(spend) == "made"
    assert calls == [1]


def fail_at_once(sealed: Any) -> dict[str, Callable[[], Any]]:
    return {
        "print": lambda: print(sealed),
        "text": lambda: str(sealed),
        "f-string": lambda: f"{sealed}",
        "format": lambda: f"{sealed:>10}",
        "percent": lambda: "%s" % sealed,  # noqa: UP031
        "iterate": lambda: list(sealed),
        "measure": lambda: len(sealed),
        "test": lambda: bool(sealed),
        "compare": lambda: sealed == sealed,
        "index": lambda: sealed[0],
        "array": lambda: np.asarray(sealed),
        "pickle": lambda: pickle.dumps(sealed),
        "copy": lambda: copy.deepcopy(sealed),
        "hash": lambda: {sealed},
        "attribute": lambda: sealed.shape,
        "json, as XCom would": lambda: json.dumps({"rows": sealed}),
        "exception": lambda: str(ValueError(sealed)),
        "publish": lambda: pd.DataFrame(sealed).to_parquet("/dev/null"),
        "vars": lambda: vars(sealed),
    }


@pytest.mark.parametrize("mistake", fail_at_once(None))
def test_a_mistake_fails_at_once_and_shows_nothing(
    rows: Sealed[pd.DataFrame], mistake: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((PrivateDataGuarded, TypeError, AttributeError, ValueError)) as caught:
        fail_at_once(rows)[mistake]()
    assert PLANTED not in repr(caught.value)
    assert PLANTED not in "".join(capfd.readouterr())


def test_a_log_line_holds_none_of_it(rows: Sealed[pd.DataFrame], capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("test of the guard")
    logger.propagate = False
    logger.addHandler(handler := logging.StreamHandler())
    try:
        logger.error("rows: %s", rows)
        logger.error("rows: %r", rows)
    finally:
        logger.removeHandler(handler)
    shown = "".join(capfd.readouterr())
    assert PLANTED not in shown
    assert "<sealed private rows of train>" in shown


def test_a_token_cannot_leave_its_process() -> None:
    with spending("marginals", (TRAIN,)) as spend, pytest.raises(PrivateDataGuarded):
        pickle.dumps(spend)


def test_only_the_run_hands_out_tokens_and_only_the_source_seals() -> None:
    users: dict[str, set[str]] = {"spending": set(), "Spend": set(), "Sealed": set()}
    root = Path(synth.__file__).parent
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "synth.guard"
            for alias in node.names
        }
        for node in ast.walk(tree):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            if called in users and called in imported:
                users[called].add(str(path.relative_to(root)))
    assert users == {"spending": {"run.py"}, "Spend": set(), "Sealed": {"source.py"}}


def test_steps_open_nothing_themselves() -> None:
    """Private rows are opened inside what is handed to `Run.once`: every `.open(` takes a token called spend."""
    for path in Path(synth.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.FunctionDef) and any(a.arg == "spend" for a in node.args.args)):
                continue
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "open":
                    assert [argument.id for argument in call.args if isinstance(argument, ast.Name)] == ["spend"], path


def test_a_token_is_made_of_nothing_private() -> None:
    assert set(vars(Spend("m", (TRAIN,), None))) == {"mechanism", "branches", "checkpoints", "live"}


@pytest.mark.parametrize(
    "leaked", [pd.DataFrame({"name": [PLANTED]}), np.array([3]), np.float64(2.0), PLANTED.encode(), Sealed(1, (TRAIN,))]
)
def test_a_step_cannot_return_rows_among_its_facts(leaked: Any) -> None:
    for facts in ({"rows": leaked}, {"rows": [{"all": leaked}]}):
        with pytest.raises(PrivateDataGuarded, match="step 'leaky' returned a ") as caught:
            _public("leaky", facts)
        assert PLANTED not in str(caught.value)
