"""Broken versions of the library, installed in a child only: each makes one counter fail."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synth import workspace
from synth.ledger import Ledger
from synth.release import publish
from synth.release.manifest import MANIFEST, manifest_bytes
from tests.chaos.instruments import rebind


def charge_after_the_look() -> None:
    """A mechanism starts in the ledger once its output is there."""
    begin, commit, waiting = Ledger.begin, Ledger.commit, {}

    def promised(ledger: Ledger, policy: str, run: str, mechanism: str, **options: Any) -> int:
        waiting[mechanism] = options
        return ledger.attempts(policy, run)[mechanism] + 1

    def late(ledger: Ledger, policy: str, run: str, mechanism: str, attempt: int, **more: Any) -> Any:
        if mechanism in waiting:
            begin(ledger, policy, run, mechanism, **waiting.pop(mechanism))
        return commit(ledger, policy, run, mechanism, attempt, **more)

    Ledger.begin, Ledger.commit = promised, late  # type: ignore[method-assign, assignment]


def last_writer_wins() -> None:
    """What is linked replaces what is there."""

    def link(source: str, target: str, **options: Any) -> None:
        copy = f"{target}.{secrets.token_hex(8)}"
        shutil.copyfile(source, copy)
        os.replace(copy, target)

    os.link = link  # type: ignore[assignment]


def manifest_first() -> None:
    """A release is visible before its files are."""

    def published(
        folder: Path, uri: str, dataset: str, version: str, manifest: Mapping[str, Any], *more: Any, **options: Any
    ) -> str:
        target = Path(os.path.expandvars(uri)) / dataset / version
        (target / "data").mkdir(parents=True, exist_ok=True)
        (target / MANIFEST).write_bytes(manifest_bytes(manifest))
        for entry in manifest["files"]:
            shutil.copyfile(folder / entry["path"], target / entry["path"])
        return f"file://{target}"

    rebind(publish.publish_bundle, published)


def artifacts_written_in_place() -> None:
    """A killed write leaves half an artifact under the artifact's name."""

    def write(path: Path, parts: Iterable[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)

    rebind(workspace._link, write)


def rows_are_kept() -> None:
    """Nothing erases private rows."""
    rebind(workspace.erase_private, lambda root: None)


def attempts_are_forgotten() -> None:
    """A statement names one attempt of each mechanism, whatever was started."""
    attempts = Ledger.attempts
    Ledger.attempts = lambda *arguments: dict.fromkeys(attempts(*arguments), 1)  # type: ignore[method-assign]


TWINS = {
    twin.__name__: twin
    for twin in (
        charge_after_the_look,
        last_writer_wins,
        manifest_first,
        artifacts_written_in_place,
        rows_are_kept,
        attempts_are_forgotten,
    )
}
