"""One policy's chain inside one transaction: look up, append.

Each lookup but the count of `Chain.admitted` reads a bounded number of rows by index, however long the history is, and
an entry that does not carry its own digest is refused before anything is decided on it. `append` must run under the
policy's lock.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, not_, or_, select

from synth.errors import LedgerError, PolicyError, TamperedArtifact
from synth.ledger.balance import opening
from synth.ledger.entries import COLUMNS, Entry, Splits, canonical_json, policy_name
from synth.ledger.models import entries as table
from synth.ledger.models import policies

# The keys of a payload are sorted, so that of a reservation ends with its window, after the split.
_WINDOW_AT_THE_END = re.compile(r'","window":"([^"]*)"\}$')
_TAIL = 64
_FETCHED = 1_000

_COLUMNS = [table.columns[name] for name in COLUMNS]


@dataclass(frozen=True)
class Chain:
    """:param connection: a connection in a transaction. :param policy: the policy's name."""

    connection: Connection
    policy: str

    def policy_entry(self) -> Entry:
        """The registration; `PolicyError` where there is none."""
        entry = self.registration()
        if entry is None:
            raise PolicyError(
                f"policy {policy_name(self.policy)!r} is not registered; the privacy officer registers it "
                "with `sluice budget register`"
            )
        return entry

    def registration(self) -> Entry | None:
        """The first entry, if the policy is registered."""
        found = self._intact(self._first())
        return found[0] if found else None

    def register(self, payload: dict[str, Any]) -> Entry:
        """Insert the first entry."""
        text = canonical_json(payload)
        entry = Entry.registration(self.policy, text, _opening_text(text), _now()).sealed()
        row = {name: value for name, value in entry.columns().items() if name in policies.columns}
        self.connection.execute(insert(policies).values(row))
        return entry

    def successor(self) -> Entry | None:
        """The registration of the policy that took over from this one; reads the policies, however few match."""
        mentioned = policies.c.payload.contains(f'"policy":"{self.policy}"', autoescape=True)
        for entry in self._intact(_registrations(self.connection, select(policies).where(mentioned))):
            if entry.payload.get("succeeds", {}).get("policy") == self.policy:
                return entry
        return None

    def last(self) -> Entry:
        found = self._read(self._mine().order_by(table.c.sequence.desc()).limit(1))
        return found[0] if found else self.policy_entry()

    def find(self, key: str) -> Entry | None:
        found = self._read(self._mine().where(table.c.key == key))
        return found[0] if found else None

    def find_all(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries under ``keys``, by key."""
        return {entry.key: entry for entry in self._read(self._mine().where(table.c.key.in_(keys)))}

    def admitted(self) -> dict[str, int]:
        """How many runs reserved budget and did not get all of it back, by window.

        Settling frees whatever has not started at once: a run with something freed and nothing started got back all.
        """
        reserved = table.alias()
        runs = select(table.c.id).where(table.c.policy == self.policy, table.c.run == reserved.c.run)
        freed, started = (runs.where(table.c.kind == kind).exists() for kind in ("free", "start"))
        tail = func.substr(reserved.c.payload, func.length(reserved.c.payload) - (_TAIL - 1))
        ends = (
            select(tail.label("tail"))
            .where(reserved.c.policy == self.policy, reserved.c.kind == "reserve", or_(not_(freed), started))
            .subquery()
        )
        counts: Counter[str] = Counter()
        for end, number in self.connection.execute(select(ends.c.tail, func.count()).group_by(ends.c.tail)):
            found = _WINDOW_AT_THE_END.search(end)
            counts[found[1] if found else ""] += number
        return counts

    def append(self, kind: str, key: str, run: str, payload: dict[str, Any], balance: Splits | None = None) -> Entry:
        """Insert the next entry; without ``balance`` the last entry's is carried on."""
        last = self.last()
        entry = Entry(
            policy=self.policy,
            sequence=last.sequence + 1,
            kind=kind,
            key=key,
            run=run,
            payload_text=canonical_json(payload),
            balance_text=last.balance_text if balance is None else canonical_json(balance),
            at=_now(),
            previous=last.digest,
            digest="",
        ).sealed()
        self.connection.execute(insert(table).values(entry.columns()))
        return entry

    def history(self, run: str | None = None) -> list[Entry]:
        """Every entry, or every entry of one run, in order and as stored: digests are not checked here."""
        if run is None:
            return list(self.stream())
        statement = self._mine().where(table.c.run == run).order_by(table.c.sequence)
        return [Entry.from_row(row) for row in self.connection.execute(statement)]

    def stream(self) -> Iterator[Entry]:
        """Every entry, like :meth:`history`, but not all of them at once in memory."""
        yield from self._first()
        for rows in self.connection.execute(self._mine().order_by(table.c.sequence)).partitions(_FETCHED):
            yield from map(Entry.from_row, rows)

    def _first(self) -> list[Entry]:
        return _registrations(self.connection, select(policies).where(policies.c.policy == self.policy))

    def _mine(self) -> Select[Any]:
        return select(*_COLUMNS).where(table.c.policy == self.policy)

    def _read(self, statement: Select[Any]) -> list[Entry]:
        return self._intact([Entry.from_row(row) for row in self.connection.execute(statement)])

    def _intact(self, found: list[Entry]) -> list[Entry]:
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
    return _registrations(connection, select(policies).order_by(policies.c.policy))


def _registrations(connection: Connection, statement: Select[Any]) -> list[Entry]:
    return [
        Entry.registration(row.policy, row.payload, _opening_text(row.payload), row.at, row.digest)
        for row in connection.execute(statement)
    ]


def _opening_text(payload_text: str) -> str:
    """The balance of a registration, which follows from its payload and so is not stored."""
    try:
        return canonical_json(opening(json.loads(payload_text)))
    except (ValueError, TypeError, KeyError, AttributeError, LedgerError):
        return canonical_json({})  # a forged payload, to be found by its digest or by the replay


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
