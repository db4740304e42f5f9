"""Tables that differ by one person: the same task states, and nothing outside the workspace that tells them apart."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth.contract import Contract
from synth.plan import ReleasePlan
from synth.run import plan_release
from tests.conftest import Deployment, contract_document, people
from tests.leaks.observed import Numbers, Seen, carry_out, differing, false_positive_rate, told_apart

pytestmark = [pytest.mark.slow, pytest.mark.statistical, pytest.mark.timeout(900)]

RUNS = 13
PEOPLE = 500
STRUCTURES = {
    "mixture": {"structure": "mixture", "components": 8},
    "independent": {"structure": "independent", "batch_size": 128, "steps": 10},
}
ORDINARY = "77001,44,31000.5,south,true,yes\n"

# What one person more puts at the end of the file.
PERSONS = {
    "ordinary": ORDINARY,
    "outlier": "77001,90,300000,south,true,yes\n",
    "out of the domain": f"77001,-1e308,{'9' * 100_000},Atlantis,maybe,\x00\n",
    "broken": '"77001,44,"31000\n',
    "five rows": ORDINARY * 5,
    "only one in west": "77001,44,31000.5,west,true,yes\n",
}
# Every person under the default structure; under the other one the one who is likeliest to be seen.
CASES = [*(("mixture", person) for person in PERSONS), ("independent", "outlier")]
Runs = Callable[[str, str], list[Seen]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The runs of a structure on a table: made at the first call, the same ones for all tests."""
    root = tmp_path_factory.mktemp("n")
    made: dict[tuple[str, str], list[Seen]] = {}
    plans: dict[str, ReleasePlan] = {}

    def planned(contract: Contract, fraction: float, **paced: Any) -> ReleasePlan:
        if contract.digest() not in plans:
            plans[contract.digest()] = plan_release(contract, fraction, **paced)
        return plans[contract.digest()]

    def all_of(structure: str, table: str) -> list[Seen]:
        key = structure, table
        if key not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("synth.steps.plan_release", planned)
                folders = [root / f"{len(made):02d}{n:02d}" for n in range(RUNS)]
                made[key] = [one_run(folder, structure, table, patch) for folder in folders]
        return made[key]

    yield all_of
    shutil.rmtree(root, ignore_errors=True)


def one_run(folder: Path, structure: str, table: str, patch: pytest.MonkeyPatch) -> Seen:
    """One run in a deployment of its own, whose path is as long as every other's."""
    patch.setenv("SLUICE_TEST_FOLDER", str(folder))
    folder.mkdir()
    deployment = Deployment(folder)
    rows, _, more = table.partition("+")
    deployment.write(people(PEOPLE).iloc[: int(rows)])
    with (folder / "people.csv").open("a", encoding="utf-8") as file:
        file.write(PERSONS.get(more, ""))
    deployment.register()
    schema = contract_document(folder)["schema"]
    schema["region"]["categories"] = ["north", "south", "east", "west"]
    # A tolerance that noise does not reach; where hardly anybody is there is none, so nothing is expected.
    expected = contract_document(folder)["expectations"] if int(rows) > 1 else []
    run = deployment.run(
        schema=schema,
        method={"options": STRUCTURES[structure]},
        rows=600,
        quality={},
        expectations=[{**expectation, "tolerance": 0.2} for expectation in expected],
    )
    with run:
        return carry_out(deployment, run)


@pytest.mark.parametrize(("structure", "person"), CASES)
def test_one_person_more_is_seen_nowhere(runs: Runs, structure: str, person: str) -> None:
    """False positives: below one in 300 for all of these tables together, see :mod:`tests.leaks.observed`."""
    without, with_person = runs(structure, f"{PEOPLE}"), runs(structure, f"{PEOPLE}+{person}")
    compare(without, with_person, tables=len(CASES))


@pytest.mark.parametrize(("fewer", "more"), [("0", "1"), ("0", "0+out of the domain")])
def test_one_person_more_than_hardly_anybody_is_seen_nowhere(runs: Runs, fewer: str, more: str) -> None:
    compare(runs("mixture", fewer), runs("mixture", more), tables=2)


def compare(one: list[Seen], other: list[Seen], *, tables: int) -> None:
    states = {tuple(seen.states.items()) for seen in (*one, *other)}
    assert len(states) == 1, states
    assert [*one[0].states.values()] == ["success"] * 8
    left, right = ([seen.numbers() for seen in runs] for runs in (one, other))
    assert len(set().union(*left, *right)) > 1000
    varying = differing([*left, *right])
    assert len(varying) > 100
    assert tables * false_positive_rate(RUNS, len(varying)) < 1 / 300
    assert told_apart(left, right) == {}


# Broken twins: what a step could do wrong, done to runs that are right. Each is the exact number of lines somewhere.


def lines(seen: Seen) -> int:
    return (seen.deployment.folder / "people.csv").read_bytes().count(b"\n")


def in_a_fact(seen: Seen) -> None:
    seen.facts["train"]["units"] = lines(seen)


def in_the_length_of_a_text(seen: Seen) -> None:
    seen.facts["train"]["method"] = "m" * lines(seen)


def in_the_ledger(seen: Seen) -> None:
    seen.entries.extend(seen.entries[-1:] * (lines(seen) % 7))


def in_the_number_of_released_rows(seen: Seen) -> None:
    (part,) = seen.deployment.folder.glob("bucket/*/*/data/part-00000.parquet")
    table = pq.read_table(part)
    pq.write_table(pa.concat_tables([table, table.slice(0, lines(seen) % 100)]), part, compression="zstd")


def in_the_size_of_a_file(seen: Seen) -> None:
    (card,) = seen.deployment.folder.glob("bucket/*/*/README.md")
    card.write_text("x" * lines(seen), encoding="utf-8")


def in_the_name_of_a_file(seen: Seen) -> None:
    (card,) = seen.deployment.folder.glob("bucket/*/*/README.md")
    card.rename(card.with_name(f"README-{lines(seen)}.md"))


def in_a_published_document(seen: Seen) -> None:
    (report,) = seen.deployment.folder.glob("bucket/*/*/quality_report.json")
    report.write_text(f'{{"units": {lines(seen)}}}', encoding="utf-8")


def in_the_state_of_a_task(seen: Seen) -> None:
    if pd.read_csv(seen.deployment.folder / "people.csv")["age"].max() > 89 and lines(seen) % 2 == 0:
        seen.states["validate"] = "StepFailed"


TWINS = (
    in_a_fact,
    in_the_length_of_a_text,
    in_the_ledger,
    in_the_number_of_released_rows,
    in_the_size_of_a_file,
    in_the_name_of_a_file,
    in_a_published_document,
    in_the_state_of_a_task,
)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_a_step_that_tells_the_number_of_people_is_found(
    runs: Runs, tmp_path: Path, twin: Callable[[Seen], None]
) -> None:
    numbers: list[list[Numbers]] = []
    for side, table in enumerate((f"{PEOPLE}", f"{PEOPLE}+outlier")):
        copies = [copied(seen, tmp_path / f"{side}{n:02d}") for n, seen in enumerate(runs("mixture", table))]
        for seen in copies:
            twin(seen)
        numbers.append([seen.numbers() for seen in copies])
    assert told_apart(*numbers)


def copied(seen: Seen, folder: Path) -> Seen:
    shutil.copytree(seen.deployment.folder, folder)
    facts = {step: dict(facts) for step, facts in seen.facts.items()}
    return dataclasses.replace(
        seen, deployment=Deployment(folder), facts=facts, states=dict(seen.states), entries=[*seen.entries]
    )
