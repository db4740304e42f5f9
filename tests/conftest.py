"""Fixtures that every test may use: a small public table, its contract and policy, and a deployment in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from synth import steps
from synth.contract import Contract, Policy, contract_from_document
from synth.errors import StepFailed
from synth.plan import ReleasePlan
from synth.run import Run, plan_release
from synth.settings import Settings

if TYPE_CHECKING:
    from tests.bucket import Server

PEOPLE = 1500
# Folders whose tests share something that is costly to start.
_TOGETHER = ("browser", "chaos", "operators", "production", "scheduler")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes (-n) one of them runs each file, or each folder whose tests share a deployment."""
    from xdist.scheduler import LoadScopeScheduling

    class ByDeployment(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            folder = file.split("/")[1]
            return folder if folder in _TOGETHER else file

    return ByDeployment(config, log)


def people(rows: int = PEOPLE, seed: int = 0) -> pd.DataFrame:
    """A made-up table in which income and age tell who buys."""
    generator = np.random.default_rng(seed)
    age = generator.integers(18, 91, rows)
    income = np.round(generator.gamma(2.0, 20_000, rows), 2)
    region = generator.choice(["north", "south", "east"], rows, p=[0.5, 0.3, 0.2])
    score = (age - 50) / 15 + (income - 40_000) / 20_000 + (region == "north") + generator.normal(0, 0.5, rows)
    return pd.DataFrame(
        {
            "person": np.arange(rows) + 10_000,
            "age": age,
            "income": income,
            "region": region,
            "member": generator.random(rows) < 0.4,
            "buys": np.where(score > 0.5, "yes", "no"),
        }
    )


def contract_document(folder: Path, **changes: Any) -> dict[str, Any]:
    """A contract for :func:`people`, with whole sections replaced by ``changes``."""
    return {
        "version": 1,
        "dataset": {
            "name": "people",
            "title": "Made-up people",
            "owner": "Tests",
            "description": "Rows from a random generator.",
            "licence": "CC0-1.0",
        },
        "source": {"uri": "${SLUICE_TEST_FOLDER}/people.csv"},
        "privacy": {"unit": {"column": "person"}, "epsilon": 4.0, "delta": 1e-5, "approximate_units": 1500},
        "schema": {
            "age": {"type": "integer", "min": 18, "max": 90},
            "income": {"type": "number", "min": 0, "max": 300_000, "nullable": True, "decimals": 2},
            "region": {"type": "categorical", "categories": ["north", "south", "east"]},
            "member": {"type": "boolean"},
            "buys": {"type": "categorical", "categories": ["no", "yes"]},
        },
        "expectations": [
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "age", "min_value": 18, "max_value": 90},
                "tolerance": 0.02,
            },
            {
                "type": "expect_column_values_to_be_in_set",
                "kwargs": {"column": "region", "value_set": ["north", "south", "east"]},
                "tolerance": 0.02,
            },
        ],
        "task": {"target": "buys", "kind": "binary"},
        "method": {"name": "dpdsyn", "options": {"structure": "independent", "batch_size": 256, "steps": 60}},
        "rows": 1200,
        "quality": {"min_accuracy_gradient_boosting": 0.5},
        "approval": {"mode": "automatic"},
        "publish": {"uri": "${SLUICE_TEST_FOLDER}/bucket"},
        **changes,
    }


def policy_document(folder: Path, **changes: Any) -> dict[str, Any]:
    """A policy that covers :func:`contract_document`."""
    return {
        "name": "people_policy",
        "sources": [str(folder / "people.csv")],
        "unit": {"column": "person"},
        "epsilon": 40.0,
        "delta": 1e-4,
        "max_release_epsilon": 8.0,
        "holdout_fraction": 0.2,
        "approval": {"mode": "automatic"},
        **changes,
    }


MIXTURE: dict[str, Any] = {"method": {"name": "dpdsyn", "options": {"structure": "mixture", "components": 20}}}
INDEPENDENT_COLUMNS: dict[str, Any] = {"method": {"name": "independent"}, "quality": {}}
MST: dict[str, Any] = {"method": {"name": "mst"}}
AIM: dict[str, Any] = {"method": {"name": "aim", "options": {"rounds": 4}}}
needs_mbi = pytest.mark.skipif(
    find_spec("mbi") is None, reason="MST and AIM are not tested: pip install 'sluice-dp[private-pgm]'"
)


class Deployment:
    """A ledger, workspaces and keys below one folder, and a source that the policy covers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(f"sqlite:///{folder / 'ledger.db'}", folder / "runs", folder / "keys")

    def register(self, **changes: Any) -> None:
        """Register the policy."""
        from synth.ledger import Ledger
        from synth.officer import register

        policy = Policy.model_validate(policy_document(self.folder, **changes))
        with Ledger.open(self.settings.ledger_url) as ledger:
            register(ledger, self.settings, policy, by="officer")

    def write(self, table: pd.DataFrame) -> None:
        """Put a table where the contract's source is."""
        table.to_csv(self.folder / "people.csv", index=False)

    def contract(self, **changes: Any) -> Contract:
        """The contract, with sections replaced."""
        return contract_from_document(contract_document(self.folder, **changes))

    def run(self, run_id: str = "one", **changes: Any) -> Any:
        """A run of the contract."""
        return Run(self.contract(**changes), run_id, self.settings)


@pytest.fixture(autouse=True)
def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contracts name the test's folder by a variable, so that their text is the same in all tests."""
    monkeypatch.setenv("SLUICE_TEST_FOLDER", str(tmp_path))


@pytest.fixture(autouse=True)
def planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan follows from public facts alone, so tests with the same contract share one and save its seconds."""

    def planned(contract: Contract, holdout_fraction: float, **paced: Any) -> ReleasePlan:
        key = (contract.digest(), holdout_fraction, repr(paced))
        if key not in _PLANS:
            _PLANS[key] = plan_release(contract, holdout_fraction, **paced)
        return _PLANS[key]

    monkeypatch.setattr("synth.steps.plan_release", planned)


_PLANS: dict[tuple[str, float, str], ReleasePlan] = {}


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    from tests.bucket import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An emulator of S3 with an empty bucket ``releases``, to which the environment leads."""
    from tests.bucket import releases_bucket, variables

    for name, value in variables(one_server.url).items():
        monkeypatch.setenv(name, value)
    with releases_bucket(one_server):
        yield one_server


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A deployment with a registered policy and the made-up table."""
    made = Deployment(tmp_path)
    made.write(people())
    made.register()
    return made


def run_all(run: Run) -> dict[str, Any]:
    """All steps in order, then settle."""
    facts = {step.__name__: step(run) for step in steps.STEPS}
    facts["settle"] = steps.settle(run)
    return facts


def starts(run: Run) -> dict[str, int]:
    """How often each mechanism was started."""
    return run.ledger.attempts(run.policy_name, run.name)


def after_validation(run: Run) -> Run:
    """The run with its first three steps done: the next one trains."""
    for step in steps.STEPS[:3]:
        step(run)
    return run


def train_that_dies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt of the mechanism ``marginals`` that starts and leaves nothing."""
    with monkeypatch.context() as patch:
        patch.setattr("synth.methods.tabular.dpdsyn.noisy_marginals", lambda *arguments: 1 / 0)
        with pytest.raises(StepFailed):
            steps.train(run)
