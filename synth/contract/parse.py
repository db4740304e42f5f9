"""From a YAML text to a :class:`Contract` or :class:`Policy`, or to one report of everything that is wrong with it.

Each section is parsed on its own, so that a fault in one does not hide the faults of the others; the checks between
sections run on those that parsed. Every fault names its path, what was given and what is accepted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from synth.contract.columns import LATER_COLUMN_TYPES, REFUSED_COLUMN_TYPES, IdentifierColumn
from synth.contract.constraint_faults import constraint_faults
from synth.contract.id_patterns import IdPattern
from synth.contract.methods import METHODS, IndependentOptions
from synth.contract.models import AssetUpdate, Contract, Policy, UnitColumn
from synth.contract.open_columns import selection_faults
from synth.contract.row_expectations import ROW_EXPECTATIONS, column_problems
from synth.contract.subgroups import subgroup_problems
from synth.contract.task_faults import task_faults
from synth.errors import ContractError, NotSupportedYet

_Model = TypeVar("_Model", bound=BaseModel)
# The faults that show only where the document and the sections that parsed are seen together.
_Between = Callable[[dict[str, Any], dict[str, Any]], Iterable["Fault"]]

# Understood, planned, and refused by name until it works: path (with * for any key) -> values.
_LATER: dict[str, tuple[str, ...]] = {
    "method.name": ("tdpdm", "dp_geng", "mixture"),
    "privacy.neighbouring": ("replace_one",),
    "source.format": ("idx", "npz", "images", "json"),
    "schema.*.type": LATER_COLUMN_TYPES,
}
_LATER_FIELDS = (
    "compute.device",
    "publish.connection",
)  # fmt: skip
# What an unknown field is commonly meant to be.
_INSTEAD: dict[type[BaseModel], dict[str, str]] = {
    Contract: {
        "compute.image": "use compute.pod.image",
        "compute.pod.env": "a contract is public; the environment and its secrets belong in the deployment's pod "
        "template",
        "privacy.horizon": "belongs in the officer's policy",
        "privacy.succeeds": "belongs in the officer's policy",
    },
    Policy: {
        "max_records": "belongs in the contract, privacy.max_records",
        "window.release": "belongs in the contract, privacy.window.release",
    },
}
# What a field that holds fields looks like, where a list of them would not say it.
_SHAPES = {
    "privacy.window": "{column: NAME, every: month|quarter|year}",
    "window": "{column: NAME, every: month|quarter|year}",
}
# The field that says which of several models a mapping is, where it is not its type.
_TAGS = {"constraints": "kind", "method": "name"}
# What pydantic calls the things that YAML has.
_WORDS = {
    "a valid tuple": "a list",
    "Tuple": "The list",
    "a valid dictionary": "a mapping",
    "Dictionary": "The mapping",
    " after validation": "",
}


_DEEPEST = 50
_FOR_CONTRACTS = "SLUICE_"
_NOT_FOR_CONTRACTS = ("SLUICE_LEDGER_URL", "SLUICE_WORKSPACE_KEY")
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs"}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a document."""

    path: str
    given: str
    problem: str
    later: bool = False

    def __str__(self) -> str:
        given = f" (given: {self.given})" if self.given else ""
        return f"{self.path}: {self.problem}{given}"


def load_contract(path: str | Path) -> Contract:
    """The contract in a YAML file.

    :raises ContractError: with every fault; :class:`NotSupportedYet` if all of them are fields of later work.
    """
    return parse_contract(_read(path), str(path))


def load_policy(path: str | Path) -> Policy:
    """The policy in a YAML file.

    :raises ContractError: with every fault.
    """
    document = _mapping(_read(path), str(path))
    return _finish(Policy, document, str(path))


def parse_contract(text: str, name: str = "contract") -> Contract:
    """The contract in a YAML text; ``name`` heads the report of faults."""
    return contract_from_document(_mapping(text, name), name)


def contract_from_document(document: dict[str, Any], name: str = "contract") -> Contract:
    """The contract in a mapping of plain values."""
    return _finish(Contract, document, name, _between_sections)


def resolve_uri(uri: str) -> str:
    """A URI with ``${NAME}`` read from the environment and local paths made absolute, so that one place has one name.

    A contract's author must not read a worker's secrets: addresses are shown. So a variable is for contracts only if
    its name says so.

    :raises ContractError: if a variable is not set, or is not for contracts.
    """

    def value(match: re.Match[str]) -> str:
        if not match[1].startswith(_FOR_CONTRACTS) or match[1] in _NOT_FOR_CONTRACTS:
            raise ContractError(
                f"uri {uri!r}: the environment variable {match[1]} is not for contracts, since addresses are shown; "
                f"name one {_FOR_CONTRACTS}… that holds an address, and no setting of Sluice"
            )
        if match[1] not in os.environ:
            raise ContractError(
                f"uri {uri!r}: the environment variable {match[1]} is not set; set it where the workflow runs"
            )
        return os.environ[match[1]]

    expanded = re.sub(r"\$\{(\w+)\}", value, uri)
    if "::" in expanded:
        raise ContractError(f"uri {uri!r}: chained protocols are not accepted: one place must have one name")
    scheme, separator, rest = expanded.partition("://")
    if not separator or scheme in ("file", "local"):
        return "file://" + os.path.realpath(rest if separator else expanded)
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    return f"{scheme}://{re.sub('/+', '/', rest)}"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None


# PyYAML's parser in C, ten times as fast, where it was built with one.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_SafeLoader):
    """YAML where a repeated key is a fault: silently taking the last would drop a declared column."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict | set):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping; expected a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _mapping(text: str, name: str) -> dict[str, Any]:
    try:
        _refuse_deep_nesting(text)
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ContractError(f"{name}: not YAML: {error}") from None
    except ValueError as error:  # a date that is none, a number too long to be one
        raise ContractError(f"{name}: a value cannot be read ({type(error).__name__}: {error})"[:300]) from None
    if not isinstance(document, dict):
        raise ContractError(f"{name}: expected a mapping of fields, given {type(document).__name__}")
    return document


def _refuse_deep_nesting(text: str) -> None:
    """The parser in C has no bound of its own, and would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError(f"lists and mappings are nested more than {_DEEPEST} deep")


def _finish(model: type[_Model], document: dict[str, Any], name: str, between: _Between | None = None) -> _Model:
    whole, error = _whole(model, document)
    values, faults = (dict(_fields(whole)), []) if whole is not None else _sections(model, document, error)
    faults += between(document, values) if between is not None else ()
    if whole is not None and not faults:
        return whole
    lines = [f"{name}: {len(faults)} fault{'s' if len(faults) > 1 else ''}", *(f"  - {fault}" for fault in faults)]
    kind = NotSupportedYet if all(fault.later for fault in faults) else ContractError
    raise kind("\n".join(lines), faults)


def _whole(model: type[_Model], document: dict[str, Any]) -> tuple[_Model | None, ValidationError | None]:
    try:
        return model.model_validate(document), None
    except ValidationError as error:
        return None, error


def _fields(whole: BaseModel) -> Iterator[tuple[str, Any]]:
    for name, field in type(whole).model_fields.items():
        yield field.alias or name, getattr(whole, name)


def _sections(
    model: type[BaseModel], document: dict[str, Any], of_whole: ValidationError | None
) -> tuple[dict[str, Any], list[Fault]]:
    """Each field of the model that parsed, and the faults of those that did not.

    :param of_whole: what is wrong with the whole: told where each of its parts is right.
    """
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    accepted = {field.alias or name: field for name, field in model.model_fields.items()}
    instead = _INSTEAD.get(model, {})
    for key in document:
        if key not in accepted:
            later = key in _LATER_FIELDS
            problem = "not supported yet" if later else f"unknown field; accepted: {', '.join(accepted)}"
            problem = "; ".join([problem, *filter(None, [instead.get(key)])])
            faults.append(Fault(str(key), "", problem, later))
    for key, field in accepted.items():
        if key not in document:
            if field.is_required():
                faults.append(Fault(key, "", "missing; it is required"))
            continue
        annotation: Any = field.annotation
        for constraint in field.metadata:
            annotation = _annotated(annotation, constraint)
        try:
            values[key] = TypeAdapter(annotation).validate_python(document[key])
        except ValidationError as error:
            faults.extend(_fault(key, detail, instead) for detail in error.errors(include_url=False))
    if not faults and of_whole is not None:
        faults.extend(_fault("", detail, instead) for detail in of_whole.errors(include_url=False))
    return values, faults


def _annotated(annotation: Any, constraint: Any) -> Any:
    from typing import Annotated

    return Annotated[annotation, constraint]


def _fault(prefix: str, detail: Any, instead: Mapping[str, str]) -> Fault:
    location = [str(part) for part in detail["loc"] if part != "[key]"]  # pydantic's mark of a fault in a key
    # A union's tag is an implementation detail of the parser.
    if prefix == "method" and location[:1] and location[0] in METHODS:
        del location[0]
        if location[:1] == ["chosen"] and len(location) > 1:
            del location[1]
    if prefix in ("schema", "constraints") and len(location) > 1:
        del location[1]
    if prefix == "method" and "options" in location[:2]:
        tag = location.index("options") + 1
        if location[tag : tag + 1] in (["independent"], ["mixture"]):
            del location[tag]
    path = ".".join(part for part in [prefix, *location] if part) or "document"
    given = detail.get("input")
    shown = "" if isinstance(given, dict | list | tuple) or detail["type"] == "missing" else repr(given)
    problem = str(detail["msg"]).removeprefix("Value error, ")
    for theirs, ours in _WORDS.items():
        problem = problem.replace(theirs, ours)
    later = False
    if detail["type"] == "missing":
        problem = "missing; it is required"
    if detail["type"] == "model_type":
        problem = f"accepted: {_SHAPES.get(path, 'a mapping of fields')}"
    if detail["type"] == "union_tag_invalid":
        path, shown = f"{path}.{_TAGS.get(prefix, 'type')}", repr(detail["ctx"]["tag"])
        problem = f"accepted: {detail['ctx']['expected_tags']}"
        if prefix == "schema":
            problem = REFUSED_COLUMN_TYPES.get(detail["ctx"]["tag"], problem)
    if detail["type"] == "union_tag_not_found" and prefix == "method":
        problem = "accepted: a mapping of fields, {name: NAME, options: {...}}"
    elif detail["type"] == "union_tag_not_found":
        path, shown = f"{path}.{_TAGS.get(prefix, 'type')}", ""
        problem = "missing; it is required"
    if detail["type"] == "extra_forbidden":
        problem, shown = "; ".join(["unknown field", *filter(None, [instead.get(path)])]), ""
        later = path in _LATER_FIELDS
    generic = re.sub(r"^schema\.[^.]+\.", "schema.*.", path)
    if shown.strip("'") in _LATER.get(generic, ()):
        later = True
    if later:
        problem = "not supported yet" + (f"; {problem}" if shown else "")
    return Fault(path, shown, problem, later)


def _between_sections(document: dict[str, Any], values: dict[str, Any]) -> Iterator[Fault]:
    privacy, task = values.get("privacy"), values.get("task")
    named = document.get("schema")
    known = list(named) if isinstance(named, dict) else []
    unit = privacy.unit.column if privacy is not None and isinstance(privacy.unit, UnitColumn) else None
    columns = values.get("schema", {})
    if unit in known and not isinstance(columns.get(unit), IdentifierColumn):
        yield Fault(
            f"schema.{unit}", "",
            "this column names the privacy unit; identifiers are never released: remove it from the schema, or declare "
            "type: identifier",
        )  # fmt: skip
    measured = {name: column for name, column in columns.items() if not isinstance(column, IdentifierColumn)}
    yield from _identifier_faults(columns, values.get("rows"))
    if known and task is not None:
        yield from (Fault(*fault) for fault in task_faults(task, known, values))
    for position, expectation in enumerate(values.get("expectations") or ()):
        path = f"expectations.{position}"
        if expectation.type not in ROW_EXPECTATIONS:
            accepted = ", ".join(sorted(ROW_EXPECTATIONS))
            yield Fault(
                f"{path}.type", expectation.type,
                f"is not judged row by row, so one person could change the verdict on others; accepted: {accepted}",
            )  # fmt: skip
            continue
        accepted_kwargs = ROW_EXPECTATIONS[expectation.type].accepted
        for key in expectation.kwargs:
            if key not in accepted_kwargs:
                yield Fault(f"{path}.kwargs.{key}", "", f"unknown field; accepted: {', '.join(accepted_kwargs)}")
        used = ROW_EXPECTATIONS[expectation.type].columns(expectation.kwargs)
        if not used:
            yield Fault(f"{path}.kwargs", "", f"{expectation.type} needs the column it is about")
        for column in used:
            if known and column not in known:
                yield Fault(f"{path}.kwargs", repr(column), "is not a column of the schema")
        for key, problem in column_problems(expectation.type, expectation.kwargs, columns):
            yield Fault(f"{path}.kwargs.{key}", "", problem)
    if "schema" in values:
        for path, given, problem in constraint_faults(values.get("constraints") or (), measured):
            yield Fault(path, given, problem)
    method, approval = values.get("method"), values.get("approval")
    options = getattr(method, "options", None)
    batch = options.batch_size if isinstance(options, IndependentOptions) else 0
    if privacy is not None and batch > privacy.approximate_units // 4:
        yield Fault(
            "method.options.batch_size", str(batch),
            f"accepted: at most a quarter of approximate_units ({privacy.approximate_units // 4})",
        )  # fmt: skip
    if privacy is not None and "schema" in values:
        for path, given, problem in selection_faults(values["schema"], privacy):
            yield Fault(path, given, problem)
    for given, problem in subgroup_problems(values.get("quality"), task, values.get("schema"), known):
        yield Fault("quality.subgroups", given, problem)
    if approval is not None and approval.mode == "human" and approval.max_epsilon is not None:
        yield Fault("approval.max_epsilon", str(approval.max_epsilon), "applies to mode: automatic only")
    schedule, dataset = values.get("schedule"), values.get("dataset")
    if isinstance(schedule, AssetUpdate) and dataset is not None and schedule.asset == dataset.release_asset:
        yield Fault(
            "schedule.asset", repr(schedule.asset),
            "this dataset's own releases update it: each would start the next, until the budget is spent",
        )  # fmt: skip


def _identifier_faults(columns: Mapping[str, Any], rows: int | None) -> Iterator[Fault]:
    identifiers = {name: column for name, column in columns.items() if isinstance(column, IdentifierColumn)}
    if columns and len(columns) - len(identifiers) < 2:
        yield Fault("schema", "", "needs two columns or more that are no identifiers")
    for name, column in identifiers.items():
        possible = IdPattern.of(column.pattern).possible if column.pattern is not None else None
        if possible is not None and rows is not None and possible < rows:
            yield Fault(
                f"schema.{name}.pattern", repr(column.pattern),
                f"has {possible:,} different identifiers, fewer than the {rows:,} rows; give it more places of # or @",
            )  # fmt: skip
