"""What the pages name exists: links, files, tests, commands with their options, variables, fields, texts of errors."""

from __future__ import annotations

import ast
import html
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from synth.cli import app
from synth.release.facts import ReleaseFacts
from synth.release.statement import statement
from tests.release.conftest import contract, made

__all__ = ["contract", "made"]  # fixtures

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docker" / "README.md"]
NAMED = [page.relative_to(ROOT).as_posix() for page in PAGES]

# Mark -> what it promises: "$NAME" a variable, "sluice ..." a command line, "Policy.x" or "Contract.x.y" a field,
# "=2" that it takes this number, "synth/x.py" a module.
# A mark without a promise that can be looked up is for a reader to check: it must not outlive this list either.
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_PATH = re.compile(r"(?:synth|operators|dags|tests|docs|docker)/[\w./-]*")
_MODULE = re.compile(r"(?:synth|operators|dags|tests)(?:\.\w+)+")
_VARIABLE = re.compile(r"\bSLUICE_[A-Z_]+\b")
_SHELLS = ("console", "bash", "sh")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose_of(name: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", text_of(name))


def codes_of(name: str) -> list[str]:
    """What stands in backticks, paragraph by paragraph, whether or not a line ends inside."""
    paragraphs = (re.sub(r"\s*\n\s*", " ", paragraph) for paragraph in re.split(r"\n\s*\n", prose_of(name)))
    return [code for paragraph in paragraphs for code in _CODE.findall(paragraph)]


def test_every_page_is_read() -> None:
    assert len(PAGES) >= 9
    assert all(codes_of(name) for name in NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_every_link_leads_somewhere(name: str) -> None:
    missing = []
    for found in _LINK.finditer(prose_of(name)):
        target = found[1] or found[2]
        if re.match(r"https?:|mailto:", target):
            continue
        place, _, heading = target.partition("#")
        path = ((ROOT / name).parent / place).resolve() if place else ROOT / name
        if not path.exists() or (heading and heading not in headings(path)):
            missing.append(target)
    assert missing == []


def headings(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMED)
def test_every_file_and_test_that_is_named_exists(name: str) -> None:
    assert [code for code in codes_of(name) if not _exists(code)] == []


def test_a_file_and_a_test_that_do_not_exist_are_found() -> None:
    for code in (
        "synth/plans.py",
        "tests/test_leaks.py::test_nothing",
        "test_nothing_at_all",
        "synth.plan.make_a_plan",
    ):
        assert not _exists(code)


def _exists(code: str) -> bool:
    """Whether what looks like a file, a test or a module is one; anything else is none of these."""
    place, _, test = code.partition("::")
    if _PATH.fullmatch(place):
        path = ROOT / place
        return path.exists() and (not test or f"def {test}(" in path.read_text(encoding="utf-8"))
    if re.fullmatch(r"test_\w+", code):
        return code in named_tests()
    return not _MODULE.fullmatch(code) or _module_exists(code)


@cache
def named_tests() -> frozenset[str]:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE))


def _module_exists(dotted: str) -> bool:
    """Whether a module is there, or one that defines the last part."""
    path, last = ROOT.joinpath(*dotted.split(".")[:-1]), dotted.rsplit(".", 1)[1]
    if (path / last).is_dir() or (path / f"{last}.py").is_file():
        return True
    modules = [path.with_suffix(".py"), path / "__init__.py"]
    return any(module.is_file() and re.search(rf"\b{last}\b", module.read_text("utf-8")) for module in modules)


def commands_of(name: str) -> Iterator[str]:
    """Every command line of the page: lines of shell blocks, and code in the text, alternatives spelled out."""
    for language, block in _FENCE.findall(text_of(name)):
        if language not in _SHELLS:
            continue
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            found = re.search(r"(?:^|\s)(sluice\s.+)$", re.sub(r"\s#\s.*$", "", line.strip()))
            if found and (
                line.strip().startswith(("$", "sluice", "SLUICE", "docker")) or "=" in line.split("sluice")[0]
            ):
                yield found[1].strip()
    for code in codes_of(name):
        if code.startswith("sluice "):
            first, *others = code.split(" | ")
            yield first
            yield from (f"{first.rsplit(' ', 1)[0]} {other}" for other in others)


@pytest.mark.parametrize("name", NAMED)
def test_every_command_exists_with_its_options(name: str) -> None:
    refused = {line: why for line in commands_of(name) if (why := why_refused(line))}
    assert refused == {}


def test_the_pages_show_commands_at_all() -> None:
    lines = [line for name in NAMED for line in commands_of(name)]
    assert len(lines) > 60
    assert "sluice budget show" in lines
    assert "sluice budget migrate --officer ledger_officer --worker ledger_writer" in lines


@pytest.mark.parametrize(
    "line",
    [
        "sluice publish X",
        "sluice run FILE --runid X",
        "sluice verify --json",
        "sluice budget show A B",
        "sluice decide F R yes --by A --reason B",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    assert why_refused(line)


def why_refused(line: str) -> str:
    """What the command line would say against this call; nothing for a command that is named without its arguments."""
    words = shlex.split(re.sub(r"\s*[>].*$", "", line.replace("approve|reject", "approve").replace(" …", " X")))[1:]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not words:
            return ""
        if words[0].startswith("-"):
            break
        found = command.commands.get(words[0])
        if found is None:
            return f"no command {words[0]!r}"
        command, words = found, words[1:]
    if not words:
        return ""
    try:
        command.make_context("sluice", words)
    except typer.Exit:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("name", NAMED)
def test_every_variable_is_read_by_the_code(name: str) -> None:
    missing = {variable for variable in _VARIABLE.findall(text_of(name)) if not _is_read(variable)}
    # The connection sluice_bucket as a variable of Airflow's own, and the data of benchmarks, which tests read.
    missing -= {"SLUICE_BUCKET"} if "AIRFLOW_CONN_SLUICE_BUCKET" in text_of(name) else set()
    assert missing == set()


def _is_read(variable: str) -> bool:
    folders = ("synth/settings.py", "operators", "dags", *(["tests"] if variable == "SLUICE_DATA" else []))
    paths = [path for folder in folders for path in [ROOT / folder, *(ROOT / folder).rglob("*.py")] if path.is_file()]
    return any(re.search(rf"[\"']{variable}[\"']", path.read_text("utf-8")) for path in paths)


def test_every_error_that_the_runbook_quotes_is_a_text_of_the_code() -> None:
    """Where … stands for a value; so that an operator who searches for an error finds its entry."""
    said, unsaid = [], []
    for paragraph in re.split(r"\n\s*\n", prose_of("docs/runbook.md")):
        for code in _CODE.findall(re.sub(r"\s*\n\s*", " ", paragraph)):
            if "…" in code or (paragraph.startswith("**Symptom.**") and " " in code):
                (said if _is_said(code) else unsaid).append(code)
    assert len(said) >= 30
    assert unsaid == []


def test_a_text_that_the_code_does_not_say_is_found() -> None:
    assert not _is_said("policy … does not admit that run …")
    assert _is_said("policy … does not admit …")


def _is_said(symptom: str) -> bool:
    parts = [part.strip() for part in symptom.split("…") if part.strip(" .;:")]
    pattern = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
    return any(pattern.search(said) for said in sayings())


@cache
def sayings() -> tuple[str, ...]:
    """Every text in the code, a mark in the place of each value."""
    said = []
    for path in (path for folder in ("synth", "operators") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                said.append("".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    return tuple(said)


def test_every_error_has_an_entry_in_the_runbook() -> None:
    source = (ROOT / "synth" / "errors.py").read_text(encoding="utf-8")
    names = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    table = text_of("docs/runbook.md").split("## Budget exhausted")[0]
    elsewhere = {"SluiceError", "ContractError", "NotSupportedYet", "NotReserved", "SourceUnavailable"}
    assert {name for name in names if f"`{name}`" not in table} <= elsewhere


def test_every_field_of_the_statement_that_a_page_names_is_there(made: tuple[ReleaseFacts, Any]) -> None:
    document = statement(made[0])
    codes = [code for code in codes_of("docs/standards.md") if re.fullmatch(r"[a-z_0-9]+(\.[a-z_0-9]+)*", code)]
    fields = [code for code in codes if code.split(".")[0] in document]
    assert len(fields) > 50
    assert [field for field in fields if not _holds(document, field)] == []


def _holds(document: Any, field: str) -> bool:
    for part in field.split("."):
        if not isinstance(document, dict) or part not in document:
            return False
        document = document[part]
    return True


def test_pictures_say_what_they_show() -> None:
    for name in NAMED:
        for tag in re.findall(r"<img [^>]+>", text_of(name)):
            found = re.search(r'alt="([^"]*)"', tag)
            assert found, tag
            assert len(html.unescape(found[1])) > 30, tag
