"""Counting the reports of trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

COUNTED = ("uncharged_looks", "double_outputs", "partial_releases", "unfinished", "wrong_charges", "private_left")


def counts(reports: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many trials there were and in how many each thing went wrong."""
    reports = list(reports)
    return {"trials": len(reports)} | {
        name: sum(bool(report["problems"].get(name)) for report in reports) for name in COUNTED
    }


def rows(reports: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each place and kind of trial."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for report in reports:
        spec = report["spec"]
        kind = f"{spec['kind']} in {spec['step']}" if spec["kind"] == "random" else spec["kind"]
        place = ", ".join(filter(None, (spec["backend"], spec.get("structure"), "S3" if spec.get("bucket") else "")))
        groups.setdefault((place, kind), []).append(report)
    return [
        {
            "where": place,
            "kind": kind,
            **counts(group),
            "killed": sum(report["killed"] for report in group),
            "refused": sum(report["outcome"] not in ("finished", "given up") for report in group),
        }
        for (place, kind), group in groups.items()
    ]


def shown(table: list[dict[str, Any]]) -> str:
    """The rows as text; too wide for a frame on a narrow terminal."""
    names = list(table[0])
    lines = [[name.replace("_", " ") for name in names], *([str(row[name]) for name in names] for row in table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def boundaries_hit(reports: Iterable[dict[str, Any]]) -> Counter[str]:
    """How often a worker was killed or stopped at each action, by name."""
    return Counter(signal.split(" ", 2)[2] for report in reports for signal in report["signals"])


def troubles(reports: Iterable[dict[str, Any]]) -> list[str]:
    """One line for each trial in which something went wrong: enough to repeat it."""
    return [
        f"{report['spec']}: {report['outcome']}; {report['signals']}; "
        + str({name: found for name, found in report["problems"].items() if found})
        + f"; {report['errors']}"
        for report in reports
        if any(report["problems"].values())
    ]
