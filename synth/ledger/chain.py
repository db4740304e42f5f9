"""One policy's chain inside one transaction: look up, append.

Each lookup reads a bounded number of rows by index, however long the history is, and an entry that does not
carry its own digest is refused before anything is decided on it. `append` must run under the policy's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from synth.errors import PolicyError, TamperedArtifact
from synth.ledger.entries import POLICY_KEY, Entry, Splits, canonical_json, policy_name
from synth.ledger.models import entries as table

_COLUMNS = [column for column in table.columns if column.name != "id"]


@dataclass(frozen=True)
class Chain:
    """:param connection: a connection in a transaction. :param policy: the policy's name."""

    connection: Connection
    policy: str

    def policy_entry(self) -> Entry:
        """The registration; `PolicyError` where there is none."""
        entry = self.find(POLICY_KEY)
        if entry is None:
            raise PolicyError(
                f"policy {policy_name(self.policy)!r} is not registered; the privacy officer registers it "
                "with `sluice budget register`"
            )
        return entry

    def last(self) -> Entry | None:
        found = self._read(self._mine().order_by(table.c.sequence.desc()).limit(1))
        return found[0] if found else None

    def find(self, key: str) -> Entry | None:
        found = self._read(self._mine().where(table.c.key == key))
        return found[0] if found else None

    def find_all(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries under ``keys``, by key."""
        return {entry.key: entry for entry in self._read(self._mine().where(table.c.key.in_(keys)))}

    def append(self, kind: str, key: str, run: str, payload: dict[str, Any], balance: Splits | None = None) -> Entry:
        """Insert the next entry; without ``balance`` the last entry's is carried on."""
        last = self.last()
        draft = Entry(
            policy=self.policy,
            sequence=last.sequence + 1 if last else 1,
            kind=kind,
            key=key,
            run=run,
            payload_text=canonical_json(payload),
            balance_text=canonical_json(balance) if balance is not None else last.balance_text if last else "{}",
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            previous=last.digest if last else "",
            digest="",
        )
        entry = replace(draft, digest=draft.computed_digest())
        self.connection.execute(insert(table).values(entry.columns()))
        return entry

    def history(self, run: str | None = None) -> list[Entry]:
        """Every entry, or every entry of one run, in order and as stored: digests are not checked here."""
        statement = self._mine().order_by(table.c.sequence)
        if run is not None:
            statement = statement.where(table.c.run == run)
        return [Entry.from_columns(row) for row in self.connection.execute(statement).mappings()]

    def _mine(self) -> Select[Any]:
        return select(*_COLUMNS).where(table.c.policy == self.policy)

    def _read(self, statement: Select[Any]) -> list[Entry]:
        found = [Entry.from_columns(row) for row in self.connection.execute(statement).mappings()]
        for entry in found:
            if not entry.is_intact():
                raise TamperedArtifact(
                    f"policy {self.policy!r}: ledger entry {entry.sequence} does not carry its own digest, "
                    "so it was changed after it was written; run `sluice budget verify` and restore the "
                    "database from a trusted copy"
                )
        return found


def registrations(connection: Connection) -> list[Entry]:
    """The registration of every policy, by name."""
    statement = select(*_COLUMNS).where(table.c.key == POLICY_KEY).order_by(table.c.policy)
    return [Entry.from_columns(row) for row in connection.execute(statement).mappings()]
