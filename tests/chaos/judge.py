"""What must hold, from evidence past the library: the harness' notes, raw files, raw entries, the bucket.

`observe` looks as a consumer and as a reader of the disk would, at any moment; `judge` compares all that was seen in a
trial once the run has ended and was settled.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from synth.release.bucket import Place, open_place
from synth.release.manifest import MANIFEST
from synth.release.verify import verify_release
from tests.chaos.trace import Trace
from tests.chaos.world import DATASET, PLANTED_BYTES, World

COUNTERS = ("uncharged_looks", "double_outputs", "partial_releases", "wrong_charges", "private_left")


@dataclass
class Observation:
    """What anyone may find at one moment.

    :ivar artifacts: digests of committed files by path.
    :ivar releases: digests of whole manifests by version, of what shows itself as a release.
    :ivar partial: what shows itself as a release and is none.
    """

    artifacts: dict[str, str] = field(default_factory=dict)
    releases: dict[str, str] = field(default_factory=dict)
    partial: list[str] = field(default_factory=list)


def observe(world: World) -> dict[str, Any]:
    """Look once, as plain values; leaves no trace."""
    seen = Observation()
    for path in (world.folder / "runs").rglob("*"):
        if path.parent.name in ("dp", "public") and not path.name.startswith(".") and path.is_file():
            seen.artifacts[str(path.relative_to(world.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    place = open_place(world.bucket)
    for version in _versions(place):
        address = f"{place.address}/{DATASET}/{version}"
        if place.file_system.exists(f"{place.path}/{DATASET}/{version}/{MANIFEST}"):
            found = verify_release(address)
            seen.releases[version] = str(found.facts.get("manifest_digest"))
            seen.partial += [f"{version}: {problem}" for problem in found.problems]
        elif not world.bucket.startswith("s3://"):
            seen.partial.append(f"{version}: a folder that is no release is visible")
    return asdict(seen)


def judge(world: World, trace: Trace, observations: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Everything that is wrong, by counter."""
    entries = world.entries()
    return {
        "uncharged_looks": _uncharged(trace, entries),
        "double_outputs": _double(world, trace, entries, observations),
        "partial_releases": [text for seen in observations for text in seen["partial"]],
        "wrong_charges": _wrongly_charged(world, entries),
        "private_left": _left(world),
    }


def _starts(entries: list[tuple[str, dict[str, Any]]]) -> Counter[str]:
    return Counter(payload["mechanism"] for kind, payload in entries if kind == "start")


def _segments(entries: list[tuple[str, dict[str, Any]]]) -> Counter[str]:
    return Counter(payload["mechanism"] for kind, payload in entries if kind == "segment")


def _uncharged(trace: Trace, entries: list[tuple[str, dict[str, Any]]]) -> list[str]:
    wrong = ["the source was read before anything was reserved" for note in trace.notes("read") if not note["reserved"]]
    looks: Counter[str] = Counter()
    for note in trace.notes("look"):
        looks[note["mechanism"]] += 1
        if note["charged"] < looks[note["mechanism"]]:
            wrong.append(f"look {looks[note['mechanism']]} of {note['mechanism']} with {note['charged']} charged")
    paid = _starts(entries) | _segments(entries)
    wrong += [
        f"{number} looks of {name}, {paid[name]} charged" for name, number in looks.items() if number > paid[name]
    ]
    return wrong


def _double(
    world: World, trace: Trace, entries: list[tuple[str, dict[str, Any]]], observations: list[dict[str, Any]]
) -> list[str]:
    outputs = {(note["mechanism"], note["digest"]) for note in trace.notes("output")}
    artifacts = {pair for seen in observations for pair in seen["artifacts"].items()}
    releases = {pair for seen in observations for pair in seen["releases"].items()}
    wrong = [f"{number} outputs of {name}" for name, number in _more_than_one(name for name, _ in outputs)]
    wrong += [f"{number} contents of {name}" for name, number in _more_than_one(path for path, _ in artifacts)]
    if len(releases) > 1:
        wrong.append(f"{len(releases)} releases of one run")
    facts = dict(entries)
    for version, manifest in releases:
        if "published" in facts and facts["published"]["manifest"] != manifest:
            wrong.append(f"release {version} is not the one that the ledger records")
        if facts["gate"]["version"] != version:
            wrong.append(f"release {version} is not the one that passed the gate")
    if "published" in facts and not wrong:
        wrong += _other_rows(world, facts["published"]["uri"])
    return wrong


def _other_rows(world: World, uri: str) -> list[str]:
    """The released rows are those that were committed."""
    place = open_place(uri)
    parts = sorted(path for path in place.file_system.find(f"{place.path}/data"))
    released = [pd.read_parquet(place.file_system.open(part)) for part in parts]
    workspace = world.run().workspace
    names = sorted(path.name for path in (workspace.root / "dp").glob("rows-*"))
    committed = pd.concat([workspace.read_frame(f"dp/{name}") for name in names], ignore_index=True).astype(str)
    if released and pd.concat(released, ignore_index=True).astype(str).equals(committed[list(released[0])]):
        return []
    return ["the released rows are not those that were committed"]


def _more_than_one(names: Any) -> list[tuple[str, int]]:
    return [(name, number) for name, number in Counter(names).items() if number > 1]


def _wrongly_charged(world: World, entries: list[tuple[str, dict[str, Any]]]) -> list[str]:
    starts = _starts(entries)
    freed = Counter(payload["mechanism"] for kind, payload in entries if kind == "free")
    wrong = [f"{name} started and was given back" for name in freed if starts[name]]
    facts = dict(entries)
    if "reserve" in facts:
        reserved = {charge["mechanism"] for charge in facts["reserve"]["charges"]}
        wrong += [f"{name} is neither spent nor given back" for name in reserved - set(starts) - set(freed)]
    if "published" in facts:
        place = open_place(facts["published"]["uri"])
        statement = f"{place.path}/privacy_statement.json"
        if place.file_system.exists(statement):  # what is not complete is counted elsewhere
            mechanisms = json.loads(place.file_system.cat_file(statement))["mechanisms"]
            stated = {mechanism["name"]: mechanism["attempts_charged"] for mechanism in mechanisms}
            if stated != dict(starts):
                wrong.append(f"the statement says {stated}, the ledger {dict(starts)}")
    return wrong


def _left(world: World) -> list[str]:
    """Files that outlive the settling of a run with rows in them, temporary files of killed writes included."""
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    wrong = [f"{_shown(world, path)} is there" for path in files if path.parent.name == "private"]
    return wrong + [
        f"{_shown(world, path)} holds a planted value" for path in files if holds_planted(path.read_bytes())
    ]


def holds_planted(content: bytes) -> bool:
    """Whether a planted value is in a file as text or as a number."""
    return any(value in content for value in PLANTED_BYTES)


def _shown(world: World, path: Path) -> str:
    return str(path.relative_to(world.folder))


def _versions(place: Place) -> list[str]:
    """What a consumer lists."""
    base = f"{place.path}/{DATASET}"
    place.file_system.invalidate_cache()
    if not place.file_system.exists(base):
        return []
    names = (path.rstrip("/").rsplit("/", 1)[-1] for path in place.file_system.ls(base, detail=False))
    return sorted(name for name in names if not name.startswith("."))
