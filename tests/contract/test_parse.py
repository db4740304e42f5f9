"""What a contract's author reads when something is wrong, and what a contract keeps when nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from synth.contract import (
    Contract,
    contract_from_document,
    load_contract,
    load_policy,
    parse_contract,
    resolve_uri,
)
from synth.errors import ContractError, NotSupportedYet
from tests.example_contract import REMOVED, contract, document

REPOSITORY = Path(__file__).parents[2]
POLICY = {
    "name": "clinic_people",
    "sources": ["clinic.csv"],
    "unit": {"column": "person"},
    "epsilon": 4.0,
    "delta": 1e-4,
    "max_release_epsilon": 2.0,
    "approval": {"mode": "automatic"},
}

ILL, AGE = {"target": "ill", "kind": "binary"}, {"target": "age", "kind": "regression"}
SEVERAL: dict[str, Any] = {"method.options": {}, "task": {}}


def report(changes: dict[str, Any]) -> str:
    with pytest.raises(ContractError) as caught:
        contract_from_document(document(changes))
    return str(caught.value)


def test_every_fault_is_in_one_report_with_its_path_what_was_given_and_what_is_accepted() -> None:
    text = report(
        {
            "dataset.name": "Not A Name",
            "privacy.epsilon": -1,
            "schema.age.min": 120,
            "schema.city.type": "colour",
            "task.target": "nobody",
            "approval.mode": "perhaps",
            "publish": REMOVED,
            "nonsense": 1,
        }
    )
    assert text.startswith("contract: 8 faults")
    for parts in (
        ("dataset.name", "Not A Name", "pattern"),
        ("privacy.epsilon", "-1", "greater than 0"),
        ("schema.age", "min=120", "max=99"),
        ("schema.city.type", "'colour'", "'integer', 'number', 'categorical', 'boolean'"),
        ("task.target", "'nobody'", "age, income, city, tier, smoker, ill"),
        ("approval.mode", "'perhaps'", "'automatic' or 'human'"),
        ("publish", "missing", "required"),
        ("nonsense", "unknown field", "accepted: version, dataset, source"),
    ):
        line = next(line for line in text.splitlines() if line.startswith(f"  - {parts[0]}:"))
        assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("changes", "path", "accepted"),
    [
        ({"privacy.unit": "household"}, "privacy.unit", "row, or {column: NAME}"),
        ({"privacy.window": "quarter"}, "privacy.window", "accepted: {column: NAME, every: month|quarter|year}"),
        ({"privacy.window": {"column": "day"}}, "privacy.window.every", "missing; it is required"),
        ({"privacy.horizon": 12}, "privacy.horizon", "belongs in the officer's policy"),
        ({"privacy.succeeds": "other"}, "privacy.succeeds", "belongs in the officer's policy"),
        ({"method.options.max_resumes": 1}, "method.options", "max_resumes needs checkpoint_every"),
        ({"privacy.epsilon": float("nan")}, "privacy.epsilon", "finite"),
        ({"privacy.epsilon": 51}, "privacy.epsilon", "less than or equal to 50"),
        ({"privacy.delta": 0.0005}, "privacy", "below 1/approximate_units=0.0005"),
        ({"schema.person": {"type": "integer", "min": 0, "max": 9}}, "schema.person", "remove it from the schema"),
        ({"schema.age.max": 2**60}, "schema.age.max", "less than or equal to"),
        ({"schema.age.bins": 1}, "schema.age.bins", "greater than or equal to 2"),
        ({"schema.city.categories": ["Bern", "Bern "]}, "schema.city", "more than once: Bern"),
        ({"schema.city.categories": ["Bern", " "]}, "schema.city", "nullable"),
        ({"schema.city.categories": [1, "Bern"]}, "schema.city.categories", "all text or all whole numbers"),
        ({"schema.city.categories": [2**53 + 1, 2]}, "schema.city.categories", "give text"),
        ({"task.target": "age"}, "task.target", "boolean or categorical, or kind: regression"),
        ({"task": {"target": "ill"}}, "task", "or {kind: none}"),
        ({"task": {"target": "ill", "kind": "none"}}, "task", "{targets: [{target, kind, share}, ...]}"),
        ({"task": {"kind": "binary"}}, "task", "{target, kind}"),
        ({"task": {"targets": []}}, "task", "{target, kind}"),
        ({"task": {"targets": ["ill"]}}, "task.targets.0", "accepted: a mapping of fields"),
        ({**SEVERAL, "task.targets": [ILL, ILL]}, "task", "given more than once: ill"),
        ({**SEVERAL, "task.targets": [{**ILL, "share": 0.5}, AGE]}, "task", "give each target a share"),
        ({**SEVERAL, "task.targets": [{**ILL, "share": 0.5}, {**AGE, "share": 0.4}]}, "task", "adding up to 1"),
        ({**SEVERAL, "task.targets": [ILL, {**AGE, "target": "x"}]}, "task.targets.1.target", "is not a column"),
        ({**SEVERAL, "task.targets": [ILL, {**AGE, "kind": "binary"}]}, "task.targets.1.target", "kind: regression"),
        (
            {"task": {"target": "ill", "kind": "regression"}, "method.options": {}},
            "task.kind",
            "use binary or multiclass",
        ),
        ({"task": {"target": "age", "kind": "regression"}}, "task.kind", "with structure: mixture"),
        ({"task": {"targets": [ILL, {"target": "smoker", "kind": "binary"}]}}, "task.targets", "structure: mixture"),
        (
            {"task": {"kind": "none"}, "quality.min_accuracy_gradient_boosting": 0.5},
            "quality.min_accuracy_gradient_boosting",
            "the task has none; leave it out",
        ),
        ({"quality.max_error_linear_regression": 0.5}, "quality.max_error_linear_regression", "leave it out"),
        ({"task.kind": "multiclass"}, "task.kind", "use binary"),
        ({"task.target": "tier"}, "task.kind", "3 categories, not 2"),
        (
            {
                "schema.tier.categories": list(range(101)),
                "task": {"target": "tier", "kind": "multiclass"},
                "method.options": {},
            },
            "task.target",
            "at most 100",
        ),
        ({"method.options.batch_size": 501}, "method.options.batch_size", "(500)"),
        ({"method.options.shares": {"validation": 0.5}}, "method.options.shares", "add up to 1"),
        ({"approval.max_epsilon": 1, "approval.mode": "human"}, "approval.max_epsilon", "automatic only"),
        ({"source.uri": "clinic.txt"}, "source", "parquet | csv"),
        ({"quality.subgroups": ["town"]}, "quality.subgroups", "not a column of the schema: age, income"),
        ({"quality.subgroups": ["income"]}, "quality.subgroups", "declare bins for this column, at most 50"),
        ({"quality.subgroups": ["city", "city"]}, "quality", "more than once"),
        ({"quality.max_subgroup_gap": 0.1}, "quality", "need subgroups: [COLUMN, ...]"),
        (
            {"quality.subgroups": ["city"], "schema.city.categories": list(range(51))},
            "quality.subgroups",
            "51 categories; accepted: at most 50",
        ),
        ({"rows": 0}, "rows", "greater than or equal to 1"),
        ({"version": 2}, "version", "1"),
        ({"method.options.learning": 1}, "method.options.learning", "unknown field"),
        ({"schedule": {"asset": "release_clinic"}}, "schedule.asset", "each would start the next"),
        ({"schedule": "@continuous"}, "schedule", "each run would start the next"),
    ],
)
def test_a_fault_names_its_field_and_what_is_accepted(changes: dict[str, Any], path: str, accepted: str) -> None:
    text = report(changes)
    assert text.startswith("contract: 1 fault\n")
    assert f"  - {path}: " in text
    assert accepted in text


@pytest.mark.parametrize(
    "changes",
    [
        {"quality.subgroups": ["city", "tier", "smoker", "ill"]},
        {"quality.subgroups": ["age"], "schema.age.bins": 10},
        {"quality.subgroups": ["age"], "schema.age.max": 49},
    ],
)
def test_columns_of_few_groups_can_be_subgroups(changes: dict[str, Any]) -> None:
    assert contract(changes).quality.subgroups == tuple(changes["quality.subgroups"])


@pytest.mark.parametrize("answers", ["[yes, no]", "[ON, OFF]", "[SE, NO]"])
def test_categories_that_yaml_turns_into_truth_values_are_refused(answers: str) -> None:
    assert "quote it" in report({"schema.city.categories": yaml.safe_load(answers)})


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        ({"type": "expect_column_values_to_be_unique", "kwargs": {"column": "age"}}, "not judged row by row"),
        ({"type": "expect_column_mean_to_be_between", "kwargs": {"column": "age"}}, "not judged row by row"),
        ({"type": "expect_column_values_to_not_be_null", "kwargs": {}}, "needs the column"),
        ({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}}, "not a column of the schema"),
        ({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "age", "mostly": 0.9}}, "tolerance"),
        ({"type": "expect_multicolumn_sum_to_equal", "kwargs": {"column_list": 5, "sum_total": 1}}, "needs the column"),
        ({"type": "expect_multicolumn_sum_to_equal", "kwargs": {"column_list": "age"}}, "needs the column"),
    ],
)
def test_an_expectation_that_is_not_about_single_rows_of_the_schema_is_refused(
    expectation: dict[str, Any], problem: str
) -> None:
    assert problem in report({"expectations": [expectation]})


@pytest.mark.parametrize("option", ["row_condition", "condition_parser", "result_format", "batch_id"])
def test_options_that_could_look_beyond_the_row_are_refused(option: str) -> None:
    """A row condition is a query over the frame: ``age > age.mean()`` would let one row decide for all others."""
    kwargs = {"column": "age", "min_value": 0, option: "age > age.mean()"}
    text = report({"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": kwargs}]})
    assert f"expectations.0.kwargs.{option}: unknown field; accepted: column, min_value" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"method.name": "tdpdm"},
        {"privacy.neighbouring": "replace_one"},
        {"source.format": "json"},
        {"schema.age.type": "image", "schema.age.min": REMOVED, "schema.age.max": REMOVED},
        {"compute.device": "cuda"},
        {"publish.connection": "aws"},
    ],
)
def test_fields_of_later_work_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(NotSupportedYet, match="not supported yet"):
        contract_from_document(document(changes))


def test_a_real_fault_beside_a_later_field_is_a_contract_error() -> None:
    with pytest.raises(ContractError) as caught:
        contract_from_document(document({"method.name": "tdpdm", "rows": -1}))
    assert not isinstance(caught.value, NotSupportedYet)
    assert "2 faults" in str(caught.value)


@pytest.mark.parametrize("uri", ["sftp://me:qzxsecret@host/releases", "s3://AKIA:qzxsecret@releases/open"])
def test_a_password_in_the_bucket_s_uri_is_refused_and_not_repeated(uri: str) -> None:
    text = report({"publish.uri": uri})
    assert "publish: uri holds a password" in text
    assert "qzxsecret" not in text


@pytest.mark.parametrize(
    "schedule", ["", " ", 5, [], ["visits"], {}, {"asset": ""}, {"asset": 5}, {"asset": "a" * 1501}, {"assets": ["a"]}]
)
def test_a_schedule_that_is_neither_a_cron_expression_nor_an_asset_is_one_fault(schedule: Any) -> None:
    text = report({"schedule": schedule})
    assert text.startswith("contract: 1 fault\n")
    assert "  - schedule: accepted: a cron expression, or {asset: NAME}" in text


@pytest.mark.parametrize("schedule", ["0 3 * * 1", {"asset": "visits"}, {"asset": "s3://lake/visits"}])
def test_a_schedule_is_kept_as_it_was_given_and_an_editor_accepts_it(schedule: Any) -> None:
    assert contract({"schedule": schedule}).document()["schedule"] == schedule
    editor = Draft202012Validator(Contract.model_json_schema(by_alias=True))
    assert editor.is_valid(document({"schedule": schedule}))
    assert not editor.is_valid(document({"schedule": {"assets": [schedule]}}))


@pytest.mark.parametrize("units", [200, 2000, 10**6])
def test_delta_must_be_below_one_over_the_units(units: int) -> None:
    changes = {"privacy.approximate_units": units, "method.options.batch_size": 16}
    contract_from_document(document({**changes, "privacy.delta": 0.99 / units}))
    assert "must be below" in report({**changes, "privacy.delta": 1 / units})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version: 1\nversion: 1", "'version' is given twice"),
        ("schema:\n  age: {type: boolean}\n  age: {type: boolean}", "'age' is given twice"),
        ("? [a]\n: 1", "expected a name"),
        ("{", "not YAML"),
        ("[" * 100_000, "nested more than 50 deep"),
        ("- " * 100_000, "nested more than 50 deep"),
        ("a: &a [*a]", "unknown field"),
        ("when: 2024-02-30", "a value cannot be read"),
        (f"rows: {'1' * 5000}", "a value cannot be read"),
        ("a: \ud800", "a value cannot be read"),
        ("- 1", "expected a mapping of fields, given list"),
        ("", "expected a mapping of fields, given NoneType"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_text_that_is_no_document_says_why(text: str, problem: str) -> None:
    with pytest.raises(ContractError, match=r"^page\.yaml: ") as caught:
        parse_contract(text, "page.yaml")
    assert problem in str(caught.value)


def test_a_missing_file_is_a_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="cannot be read"):
        load_contract(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"title: M\xfcller")
    with pytest.raises(ContractError, match="cannot be read as UTF-8"):
        load_contract(tmp_path / "latin.yaml")


def test_an_error_carries_its_faults_one_by_one() -> None:
    with pytest.raises(ContractError) as caught:
        contract_from_document(document({"rows": 0}))
    assert [getattr(fault, "path", None) for fault in caught.value.faults] == ["rows"]


def test_a_contract_survives_json_and_keeps_its_digest() -> None:
    original = contract(
        {"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "age"}}]}
    )
    again = contract_from_document(json.loads(json.dumps(original.document())))
    assert again == original
    assert again.digest() == original.digest()


@pytest.mark.parametrize("options", [{"checkpoint_every": 10}, {"checkpoint_every": 10, "max_resumes": 3}, {}])
def test_resumes_survive_json_and_are_one_by_default(options: dict[str, int]) -> None:
    original = contract({f"method.options.{name}": value for name, value in options.items()})
    again = contract_from_document(json.loads(json.dumps(original.document())))
    assert again == original
    assert again.method.options.resumes == (options.get("max_resumes", 1) if options else 0)


def test_the_digest_depends_on_every_value_and_on_no_order_of_keys() -> None:
    shuffled = {key: document()[key] for key in reversed(document())}
    assert contract_from_document(shuffled).digest() == contract().digest()
    assert contract({"privacy.epsilon": 2.0000001}).digest() != contract().digest()
    assert contract({"schema.age.max": 98}).digest() != contract().digest()
    assert contract({"compute.queue": "gpu"}).digest() != contract().digest()


def test_a_parsed_contract_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        contract().privacy.epsilon = 50.0  # type: ignore[misc]


def test_uris_take_variables_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLUICE_CLINIC_DATA", str(tmp_path))
    monkeypatch.delenv("NOT_SET", raising=False)
    assert resolve_uri("${SLUICE_CLINIC_DATA}/a.csv") == f"file://{tmp_path.resolve()}/a.csv"
    assert resolve_uri("s3://bucket/a.csv") == "s3://bucket/a.csv"
    with pytest.raises(ContractError, match="SLUICE_NOT_SET is not set"):
        resolve_uri("${SLUICE_NOT_SET}/a.csv")


def test_one_place_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise another spelling of a source would escape its policy's spending."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    spellings = ["a.csv", "./a.csv", "x/../a.csv", str(tmp_path / "a.csv"), f"file://{tmp_path}/a.csv", "link.csv"]
    assert len({resolve_uri(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize("path", sorted((REPOSITORY / "dags" / "contracts").glob("*.yaml")), ids=lambda p: p.name)
def test_the_repositorys_contracts_are_contracts(path: Path) -> None:
    loaded = load_contract(path)
    assert contract_from_document(loaded.document()) == loaded


@pytest.mark.parametrize("path", sorted((REPOSITORY / "dags" / "policies").glob("*.yaml")), ids=lambda p: p.name)
def test_the_repositorys_policies_are_policies(path: Path) -> None:
    assert load_policy(path).sources


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"max_release_epsilon": 5.0}, "above the total epsilon=4"),
        ({"approval": {"mode": "human"}}, "approvers"),
        ({"sources": []}, "sources"),
        ({"holdout_fraction": 0.9}, "holdout_fraction"),
        ({"unit": "visit"}, "row, or {column: NAME}"),
        ({"owner": "me"}, "owner: unknown field; accepted: name, sources"),
        ({"max_records": 3}, "belongs in the contract, privacy.max_records"),
        (
            {"window": {"column": "day", "every": "year", "release": "2026"}},
            "window.release: unknown field; belongs in the contract, privacy.window.release",
        ),
        ({"window": "quarter"}, "window: accepted: {column: NAME, every: month|quarter|year}"),
        ({"window": {"column": "day"}}, "window.every: missing; it is required"),
        ({"succeeds": "clinic_people"}, "succeeds='clinic_people' is this policy itself"),
    ],
)
def test_a_faulty_policy_says_what_is_wrong(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(POLICY | changes))
    with pytest.raises(ContractError) as caught:
        load_policy(path)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "name", ["PGPASSWORD", "AIRFLOW__CORE__FERNET_KEY", "SLUICE_WORKSPACE_KEY", "SLUICE_LEDGER_URL"]
)
def test_a_contract_cannot_read_a_worker_s_secrets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are shown; a variable in one would be too."""
    monkeypatch.setenv(name, "qzxsecret")
    with pytest.raises(ContractError, match=f"{name} is not for contracts") as caught:
        resolve_uri(f"${{{name}}}.csv")
    assert "qzxsecret" not in str(caught.value)


def test_targets_have_equal_shares_unless_they_say_otherwise() -> None:
    even = contract({**SEVERAL, "task.targets": [ILL, AGE]}).task.wanted
    assert [target.share for target in even] == [0.5, 0.5]
    given = contract({**SEVERAL, "task.targets": [{**ILL, "share": 0.9}, {**AGE, "share": 0.1}]}).task.wanted
    assert [target.share for target in given] == [0.9, 0.1]
    assert [target.share for target in contract().task.wanted] == [1.0]


@pytest.mark.parametrize("task", [ILL, {"kind": "none"}, {"targets": [ILL, {**AGE, "share": None}]}])
def test_a_task_is_kept_in_the_form_in_which_it_was_given(task: dict[str, Any]) -> None:
    made = contract({**SEVERAL, "task": task})
    assert set(made.document()["task"]) == set(task)
    assert contract_from_document(made.document()) == made


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ({"name": "aim", "options": {"rounds": 0}}, "method.options.rounds: Input should be greater than or equal"),
        ({"name": "mst", "options": {"steps": 3}}, "method.options.steps: unknown field"),
        ({"name": "mst", "options": {"shares": {"tables": 0.9}}}, "method.options.shares: the shares add up to 1.57"),
        ({"name": "independent", "options": {"structure": "mixture"}}, "method.options.structure: unknown field"),
        ({"name": "auto", "options": {}}, "method.options: unknown field"),
        ({"name": "mwem"}, "method.name: accepted: 'dpdsyn', 'independent', 'mst', 'aim', 'auto' (given: 'mwem')"),
        ("aim", "method: accepted: a mapping of fields, {name: NAME, options: {...}} (given: 'aim')"),
    ],
)
def test_a_fault_in_a_method_is_told_by_the_field_that_the_owner_wrote(method: Any, problem: str) -> None:
    assert problem in report({"method": method})
