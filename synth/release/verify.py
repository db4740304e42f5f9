"""Verification of a published release by anyone who can read it.

Files are compared with the manifest, rows and noisy counts with the statement's columns, the stated ε with what the
stated mechanisms compose to, and the approval with the files it is about. It finds damage and a claim that its own
numbers do not bear out. It cannot find a forger who rewrites statement, manifest and approval together: compare the
manifest's digest with the one that the ledger recorded, or that was announced elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from synth.measurements import MEASUREMENTS
from synth.release.bucket import open_place
from synth.release.claim import claim_problems
from synth.release.data import part_problems
from synth.release.manifest import FORMAT_VERSION, MANIFEST, artifact_digest, manifest_digest, sha256_of
from synth.release.noisy_counts import measurement_problems
from synth.release.stamp import NOT_PRIVATE
from synth.release.statement import STATEMENT_VERSION

_STATEMENT = "privacy_statement.json"
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Verification:
    """What was found.

    :ivar problems: one line each; empty if the release is sound.
    :ivar facts: what to print about it: name, version, claim, approval, digests.
    """

    problems: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_release(uri: str, storage_options: Mapping[str, Any] | None = None) -> Verification:
    """Check the release at an address. Reads every file twice; memory: one row group.

    :param storage_options: what fsspec needs to read there, beyond the URI and the environment; never shown.
    """
    facts: dict[str, Any] = {"uri": uri}
    try:
        place = open_place(uri, storage_options)
        reader = _Reader(place.file_system, place.path, facts)
        return Verification(tuple(reader.problems()), facts)
    except Exception as error:  # clients of object stores raise what they like
        return Verification((f"{uri} cannot be read ({type(error).__name__}); check the address",), facts)


class _Reader:
    def __init__(self, file_system: fsspec.AbstractFileSystem, root: str, facts: dict[str, Any]) -> None:
        self.file_system = file_system
        self.root = root
        self.facts = facts

    def problems(self) -> Iterator[str]:
        """Everything that is wrong, most basic first."""
        present = self._present()
        if MANIFEST not in present:
            yield f"{MANIFEST} is missing: this is not a release, or an upload that never finished"
            return
        try:
            manifest = self._document(MANIFEST)
            yield from self._manifest_problems(manifest, present)
            names = [entry["path"] for entry in manifest["files"]]
        except _MALFORMED:
            yield f"{MANIFEST} does not have the form of a manifest"
            return
        if _STATEMENT not in present:
            return
        try:
            yield from self._statement_problems(self._document(_STATEMENT), manifest, sorted(present & set(names)))
        except _MALFORMED:
            yield f"{_STATEMENT} does not have the form of a statement"

    def _present(self) -> set[str]:
        self.file_system.invalidate_cache()
        prefix = self.file_system._strip_protocol(self.root).rstrip("/") + "/"
        return {path.removeprefix(prefix) for path in self.file_system.find(self.root)}

    def _document(self, name: str) -> dict[str, Any]:
        document = json.loads(self.file_system.cat_file(f"{self.root}/{name}"))
        if not isinstance(document, dict):
            raise TypeError(f"Expected a mapping in {name}.")
        return document

    def _manifest_problems(self, manifest: dict[str, Any], present: set[str]) -> Iterator[str]:
        if manifest["format_version"] != FORMAT_VERSION:
            yield f"{MANIFEST} has format_version {manifest['format_version']}, this program reads {FORMAT_VERSION}"
        stated = {entry["path"]: entry for entry in manifest["files"]}
        for path in sorted(present - set(stated) - {MANIFEST}):
            yield f"{path} is not in the manifest"
        for path, entry in sorted(stated.items()):
            if path not in present:
                yield f"{path} is missing"
                continue
            with self.file_system.open(f"{self.root}/{path}", "rb") as file:
                size, digest = sha256_of(file)
            if (size, digest) != (entry["bytes"], entry["sha256"]):
                yield f"{path} is not what the manifest says: {size} bytes, SHA-256 {digest}"
        artifact = artifact_digest(manifest["files"])
        approval = manifest.get("approval") or {}
        if approval.get("artifact_digest") != artifact:
            yield f"the approval is about artifact {approval.get('artifact_digest')}, these files are {artifact}"
        self.facts |= {
            "dataset": manifest["dataset"],
            "version": manifest["version"],
            "created_at": manifest["created_at"],
            "artifact_digest": artifact,
            "manifest_digest": manifest_digest(manifest),
            "approval": f"{approval.get('mode')} by {approval.get('by')} at {approval.get('at')}",
        }

    def _statement_problems(
        self, statement: dict[str, Any], manifest: dict[str, Any], names: list[str]
    ) -> Iterator[str]:
        if statement["statement_version"] != STATEMENT_VERSION:
            yield (
                f"{_STATEMENT} has statement_version {statement['statement_version']}, this program reads "
                f"{STATEMENT_VERSION}"
            )
            return
        if "not_private" in statement:
            yield f"{_STATEMENT} says {NOT_PRIVATE}: it was drawn with --unsafe-seed, and there is no claim to verify"
            return
        claim, release = statement["claim"], statement["release"]
        self.facts |= {
            "rows": release["rows"],
            "epsilon": claim["epsilon"],
            "delta": claim["delta"],
            "unit": claim["unit"]["text"],
        }
        told = (statement["dataset"]["name"], release["version"])
        if told != (manifest["dataset"], manifest["version"]):
            yield f"{_STATEMENT} is about {told[0]} {told[1]}, the manifest about another release"
        for problem in claim_problems(statement):
            yield f"{_STATEMENT}: {problem}"
        rows, constraints = 0, statement["public_information"].get("constraints", [])
        for name in names:
            if not (name.startswith("data/") and name.endswith(".parquet")):
                continue
            with self.file_system.open(f"{self.root}/{name}", "rb") as file:
                try:
                    in_part, wrong = part_problems(file, statement["columns"], constraints)
                except (OSError, *_MALFORMED) as error:
                    in_part, wrong = 0, [f"cannot be read as Parquet ({type(error).__name__})"]
            rows += in_part
            for problem in wrong:
                yield f"{name} {problem}"
        if rows != release["rows"]:
            yield f"the data hold {rows} rows, the statement says {release['rows']}"
        if "noisy_counts" in statement:
            yield from self._measurement_problems(statement, names)

    def _measurement_problems(self, statement: dict[str, Any], names: list[str]) -> Iterator[str]:
        if MEASUREMENTS not in names:
            yield f"{_STATEMENT} names {MEASUREMENTS}, which is not among the files"
            return
        with self.file_system.open(f"{self.root}/{MEASUREMENTS}", "rb") as file:
            try:
                wrong = measurement_problems(file, statement)
            except (OSError, *_MALFORMED) as error:
                wrong = [f"cannot be read as Parquet ({type(error).__name__})"]
        for problem in wrong:
            yield f"{MEASUREMENTS} {problem}"
