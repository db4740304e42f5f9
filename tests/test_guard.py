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
from synth import steps
from synth.boundary import _public
from synth.errors import PrivateDataGuarded
from synth.guard import Sealed, Spend, spending
from synth.records import HOLDOUT, TRAIN, Ownership
from synth.source import Snapshot
from tests.conftest import Deployment, after_validation

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


OPENED_ELSEWHERE = {"Ledger", "fsspec", "os", "self._protection", "self.file_system", "path", "self.root / name"}


def opens(text: str) -> list[tuple[str, bool]]:
    """What `.open(` is called on, and whether its one argument is a spend token that the function was given."""
    found = []

    def look(node: ast.AST, given: set[str]) -> None:
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            given = {argument.arg for argument in node.args.args}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "open":
            names = [argument.id for argument in node.args if isinstance(argument, ast.Name)]
            found.append((ast.unparse(node.func.value), names == ["spend"] and "spend" in given))
        for child in ast.iter_child_nodes(node):
            look(child, given)

    look(ast.parse(text), set())
    return found


def test_rows_are_opened_only_by_computations_that_are_handed_to_once() -> None:
    opened = 0
    for path in Path(synth.__file__).parent.rglob("*.py"):
        if path.name == "guard.py":
            continue
        for what, by_token in opens(path.read_text()):
            assert by_token or what in OPENED_ELSEWHERE, (path, what)
            opened += by_token
    assert opened >= 6


def test_rows_opened_without_a_token_of_once_are_found() -> None:
    broken = "def train(run, rows):\n    token = spending()\n    return rows.open(token)"
    assert opens(broken) == [("rows", False)]


def mistakes(run: Any, rows: Any) -> dict[str, Callable[[], Any]]:
    """The likeliest ones, made with what a step really holds."""
    return {
        "print": lambda: print(rows),
        "log": lambda: logging.getLogger("step").warning(f"rows: {rows}"),
        "return": lambda: _public("train", {"rows": rows}),
        "raise": lambda: str(ValueError(rows)),
        "XCom": lambda: json.dumps({"rows": rows}),
        "publish": lambda: run.workspace.write_frame("public/rows.parquet", rows),
    }


@pytest.mark.parametrize("mistake", ["print", "log", "return", "raise", "XCom", "publish"])
def test_a_mistake_in_a_step_fails_at_once_and_shows_nothing(
    deployment: Deployment, mistake: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run = after_validation(deployment.run())
    rows = steps._rows(run, TRAIN)
    capfd.readouterr()
    with pytest.raises((PrivateDataGuarded, TypeError, AttributeError)):
        mistakes(run, rows)[mistake]()
    shown = "".join(capfd.readouterr())
    with spending("m", (TRAIN,)) as spend:
        cells = set(rows.open(spend).parsed["income"].astype(str))
    assert len(cells) > 500
    assert not any(cell in shown for cell in cells if len(cell) > 5)


def test_opened_rows_show_nothing_of_themselves(deployment: Deployment) -> None:
    rows = steps._rows(after_validation(deployment.run()), TRAIN)
    with spending("m", (TRAIN,)) as spend:
        records = rows.open(spend)
    coded = records.encoded(deployment.run().schema.encode)
    for private in (records, coded, Ownership(records.owners)):
        assert repr(private) == str(private) == f"<private {type(private).__name__}>"
    snapshot = Snapshot(records.parsed, records.owners, np.zeros(len(records.owners), bool))
    assert f"{snapshot}" == "<private Snapshot>"


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
