"""What holds after every fault, whatever it was."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from synth import steps
from synth.errors import SluiceError
from synth.release.verify import verify_release
from synth.run import Run
from tests.conftest import Deployment, people, starts
from tests.ledger.postgres import PASSWORD

CELL = "424242.42"
SECRET = "qzxsecret"
# Words of drivers and libraries, none of which says what to do.
_THEIRS = ("psycopg", "sqlalchemy", "sqlite3", "botocore", "Errno", "Traceback", "refused by the test", "server closed")
_REMEDIES = ("try again", "start a new run")


def table() -> pd.DataFrame:
    """The made-up people, one of whom holds a value to look for."""
    made = people()
    made.loc[5, "income"] = float(CELL)
    return made


@contextmanager
def refused(
    kind: type[SluiceError] | tuple[type[SluiceError], ...], *, retry: bool = True
) -> Iterator[pytest.ExceptionInfo[SluiceError]]:
    """The block ends in an error for the person who can act, with nothing of a library and nothing private in it."""
    with pytest.raises(SluiceError) as caught:
        yield caught
    error = caught.value
    assert isinstance(error, kind), f"{type(error).__name__}: {error}"
    assert error.retry is retry
    assert error.__cause__ is None
    assert error.__context__ is None
    text = "".join(traceback.format_exception_only(error))
    assert any(remedy in text for remedy in _REMEDIES), text
    assert not [word for word in (*_THEIRS, CELL, PASSWORD, SECRET) if word in text], text


def complete(
    deployment: Deployment,
    *,
    extra: Mapping[str, int] | None = None,
    run: Run | None = None,
    twice: tuple[str, ...] = (),
) -> dict[str, Any]:
    """All steps of the same run from the first one, as after a restart; what they did before is found and kept.

    :param extra: attempts that the fault cost, by mechanism.
    :param twice: kinds of facts of which the ledger may hold more than one.
    """
    run = run or deployment.run()
    facts = {step.__name__: step(run) for step in steps.STEPS}
    facts["settle"] = steps.settle(run)
    assert starts(run) == {m.name: 1 + (extra or {}).get(m.name, 0) for m in run.plan.mechanisms}
    run.ledger.verify(run.policy_name)
    kinds = [entry.kind for entry in run.ledger.entries(run.policy_name, run.name)]
    for kind in ("reserve", "gate", "decision", "publishing", "published", "settled"):
        assert kind in twice or kinds.count(kind) == 1, kinds
    assert list((run.workspace.root / "private").iterdir()) == []
    assert leftovers(deployment) == []
    verified = verify_release(facts["publish"]["uri"])
    assert verified.ok, verified.problems
    if facts["publish"]["uri"].startswith("file:"):
        statement = Path(facts["publish"]["uri"].removeprefix("file://")) / "privacy_statement.json"
        charged = {m["name"]: m["attempts_charged"] for m in json.loads(statement.read_text())["mechanisms"]}
        assert charged == starts(run)
        assert released(deployment) == [statement.parent]
    return facts


def leftovers(deployment: Deployment) -> list[Path]:
    """Half-written files in workspaces, reports and the bucket."""
    folders = ("runs", "reports", "bucket")
    return [p for name in folders for p in (deployment.folder / name).rglob(".*")]


def released(deployment: Deployment) -> list[Path]:
    """The folders in a local bucket that readers would take for releases."""
    return [path.parent for path in (deployment.folder / "bucket").glob("*/*/manifest.json")]


def up_to(run: Run, last: Callable[[Run], Any]) -> None:
    """All steps before ``last``."""
    for step in steps.STEPS[: steps.STEPS.index(last)]:
        step(run)
