"""Contracts, policies and private tables in which every text that must not get out can be searched for."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import yaml

# Every unit id holds the first one; the others are cells that do not fit the domain, and a column nobody declared.
# The number is none that a ratio of two counts runs into: n/81 repeats 987654320.
PLANTED = (
    "person-qzx",
    "qzx.mail@example.test",
    "Qzxcategory",
    "746291835",
    "qzx note",
)

# Of the workspaces, as an Airflow connection holds it.
WORKSPACE_KEY = "cXp4d29ya3NwYWNla2V5cXp4d29ya3NwYWNla2V5cXo="

CONTRACT: dict[str, Any] = {
    "version": 1,
    "dataset": {
        "name": "people",
        "title": "People",
        "owner": "tests",
        "description": "Made for a test.",
        "licence": "none",
    },
    "source": {"uri": "people.csv"},
    "privacy": {"unit": {"column": "person"}, "epsilon": 3.0, "delta": 1e-6, "approximate_units": 1500},
    "schema": {
        "region": {"type": "categorical", "categories": ["north", "south", "west"]},
        "amount": {"type": "number", "min": 0, "max": 100},
        "member": {"type": "boolean"},
    },
    "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "amount"}, "tolerance": 0.2}],
    "task": {"target": "member", "kind": "binary"},
    "method": {"options": {"structure": "mixture", "components": 8}},
    "rows": 900,
    "approval": {"mode": "automatic"},
    "publish": {"uri": "bucket"},
}
IMPOSSIBLE = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "amount", "min_value": 99, "max_value": 100},
}
POLICY: dict[str, Any] = {
    "name": "people_policy",
    "sources": ["people.csv"],
    "unit": {"column": "person"},
    "epsilon": 40.0,
    "delta": 1e-5,
    "max_release_epsilon": 10.0,
    "approval": {"mode": "automatic"},
}
INDEPENDENT = {"options": {"structure": "independent", "batch_size": 128, "steps": 20}}
# Long enough in training to be killed there, and still a matter of seconds.
SLOW = {"options": {"structure": "independent", "batch_size": 128, "steps": 4000}}

SHORT_DELAYS = """
from datetime import timedelta

from airflow.sdk import DAG

for _dag in [value for value in globals().values() if isinstance(value, DAG)]:
    for _task in _dag.tasks:
        _task.retry_delay = timedelta(milliseconds=10)
"""

# A step whose error quotes the private table, and its context too.
_LEAKY = """
from pathlib import Path

import yaml
from airflow.sdk import DAG

from operators.base import SluiceOperator
from synth.contract import contract_from_document

_CONTRACT = Path(__file__).parents[1] / "contracts" / "people.yaml"


class LeakyOperator(SluiceOperator):
    def step(self, run):
        text = Path(run.contract.source.uri).read_text()
        try:
            return {"total": float(text)}
        except ValueError:
            return {"total": int(text)}


with DAG("leaky", schedule=None):
    LeakyOperator(task_id="leak", document=contract_from_document(yaml.safe_load(_CONTRACT.read_text())).document())
"""


# A worker that dies between reserving the budget and saying so, at every attempt.
_HALF_ALLOCATED = """
from pathlib import Path

import yaml

from operators.allocate import AllocateOperator
from operators.dag import build_dag

_CONTRACT = Path(__file__).parents[1] / "contracts" / "people.yaml"


class DyingAllocateOperator(AllocateOperator):
    def step(self, run):
        super().step(run)
        raise OSError("no space left on device")


half_allocated = build_dag(yaml.safe_load(_CONTRACT.read_text()), "half_allocated")
half_allocated.get_task("allocate").__class__ = DyingAllocateOperator
"""


def contract(home: Path, name: str, source: str, **changes: Any) -> dict[str, Any]:
    """The contract of a dataset in ``home``, with sections updated."""
    document = copy.deepcopy(CONTRACT)
    document["dataset"]["name"] = name
    document["source"]["uri"] = str(home / "data" / source)
    document["publish"]["uri"] = str(home / "bucket")
    for section, values in changes.items():
        document[section] = {**document.get(section, {}), **values} if isinstance(values, dict) else values
    return document


def make_world(home: Path) -> None:
    """Tables, policies and contracts in ``home``."""
    for folder in ("data", "policies", "contracts", "bucket", "dags"):
        (home / folder).mkdir()
    shipped = Path(__file__).resolve().parents[2] / "dags" / "share.py"
    (home / "dags" / "share.py").write_text(shipped.read_text() + SHORT_DELAYS)
    (home / "dags" / "leaky.py").write_text(_LEAKY)
    (home / "dags" / "half_allocated.py").write_text(_HALF_ALLOCATED + SHORT_DELAYS)
    write_table(home / "data" / "people.csv")
    # Not what its name says, and a parser that reports what it met would quote it.
    (home / "data" / "garbage.parquet").write_bytes((home / "data" / "people.csv").read_bytes())
    write_table(home / "data" / "poor.csv")
    write_table(home / "data" / "human.csv")

    approvers = {"approval": {"mode": "human", "approvers": ["olga"]}}
    for source, changes in {
        "people.csv": {},
        "garbage.parquet": {},
        "poor.csv": {"epsilon": 1.0, "delta": 1e-6, "max_release_epsilon": 1.0},
        "human.csv": approvers,
    }.items():
        name = source.partition(".")[0]
        policy = {**POLICY, "name": f"{name}_policy", "sources": [str(home / "data" / source)], **changes}
        (home / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))
    for document in (
        contract(home, "people", "people.csv"),
        contract(home, "unreachable_quality", "people.csv", quality={"min_accuracy_gradient_boosting": 1.0}),
        contract(home, "violated", "people.csv", expectations=[IMPOSSIBLE]),
        contract(home, "garbage", "garbage.parquet"),
        contract(home, "poor", "poor.csv", privacy={"epsilon": 1.0}),
        contract(home, "asked", "human.csv", approval={"mode": "human"}, method=INDEPENDENT),
        contract(home, "broken", "people.csv", privacy={"delta": 0.5}),
    ):
        path = home / "contracts" / f"{document['dataset']['name']}.yaml"
        path.write_text(yaml.safe_dump(document))


def write_table(path: Path) -> Path:
    """About 1500 people whose membership follows the amount, and some rows that do not fit the domain."""
    draw = random.Random(5)
    lines = ["person,region,amount,member,note"]
    for i in range(1500):
        amount = draw.uniform(0, 100)
        member = draw.random() < (0.9 if amount > 50 else 0.1)
        region = draw.choice(["north", "south", "west"])
        lines.append(f"person-qzx-{i:05d},{region},{amount:.2f},{str(member).lower()},qzx note {i}")
    lines.append("person-qzx-90001,Qzxcategory,12.5,true,qzx note")
    lines.append("person-qzx-90002,north,qzx.mail@example.test,false,qzx note")
    lines.append("person-qzx-90003,south,746291835,true,qzx note")
    path.write_text("\n".join(lines) + "\n")
    return path
