"""What follows from the entries alone: balances, the state of runs, and whether the chain is whole.

`Replay` folds over a policy's entries by the ledger's rules without looking at the balances they carry; so it
can tell whether those are right. Nothing here decides an admission: that reads the last entry only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synth.errors import TamperedArtifact
from synth.ledger import entries as keys
from synth.ledger.balance import (
    Balance,
    Charge,
    delta_total,
    held_under,
    in_window,
    minus,
    opening,
    plus,
    total,
    windows_of,
)
from synth.ledger.entries import Entry, Splits, canonical_json


@dataclass(frozen=True)
class RunSummary:
    """One run that reserved budget.

    ``state`` is 'reserved' (nothing started), 'started', 'freed' (settled before anything started), 'settled'
    or 'published'. ``cost_train`` and ``cost_holdout`` are what the run has spent or still reserves in each
    branch, in nano-nats; ``details`` is what the reservation recorded, ``published`` what the publication
    did.
    """

    run: str
    reserved_at: str
    state: str
    plan_digest: str
    split_id: str
    window: str
    cost_train: int
    cost_holdout: int
    details: Mapping[str, Any]
    published: Mapping[str, Any] | None


@dataclass
class _Run:
    reservation: Entry
    split_id: str
    window: str
    max_attempts: int
    charges: dict[str, Charge]
    held: Splits = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)
    settled: bool = False
    published: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        return held_under(self.window, self.split_id)

    @property
    def pending(self) -> set[str]:
        """Mechanisms that neither started nor were freed."""
        return set(self.charges) - set(self.attempts) - self.freed

    @property
    def state(self) -> str:
        """See `RunSummary`."""
        if self.published is not None:
            return "published"
        if len(self.freed) == len(self.charges):
            return "freed"
        if self.settled or self.freed:
            return "settled"
        return "started" if self.attempts else "reserved"


@dataclass
class Replay:
    """A fold over one policy's entries, in order: `apply` each."""

    capacity: int = 0
    delta_capacity: int = 0
    succeeds: Mapping[str, Any] | None = None
    held: Splits = field(default_factory=dict)
    spent: Splits = field(default_factory=dict)
    runs: dict[str, _Run] = field(default_factory=dict)
    last: Entry | None = None

    @classmethod
    def of(cls, history: Iterable[Entry]) -> Replay:
        replay = cls()
        for entry in history:
            replay.apply(entry)
        return replay

    def apply(self, entry: Entry) -> None:
        """Take the next entry in; `TamperedArtifact` where the ledger's rules do not allow it there."""
        try:
            self._apply(entry)
        except Exception:  # whatever a forged payload makes of the fold, the entry is not the ledger's
            raise tampered(entry.policy, entry.sequence, "the ledger's rules do not allow it where it stands") from None
        self.last = entry

    def _apply(self, entry: Entry) -> None:
        payload = entry.payload
        if self.capacity == 0 or entry.kind == "policy":
            _require(self.capacity == 0 and entry.kind == "policy" and entry.key == keys.POLICY_KEY)
            self.capacity, self.succeeds = payload["capacity"], payload.get("succeeds")
            self.delta_capacity = payload.get("delta_capacity", 0)
            self.held = self.spent = opening(payload)
            _require(all(total(self.held, window) >= 0 and self._within(window) for window in windows_of(self.held)))
        elif entry.kind == "reserve":
            _require(entry.key == keys.reserve_key(entry.run) and entry.run not in self.runs)
            charges = {charge["mechanism"]: Charge.from_json(charge) for charge in payload["charges"]}
            window = payload.get("window", "")
            run = _Run(entry, payload["split_id"], window, payload["max_attempts"], charges)
            self.runs[entry.run] = run
            self._add(run, charges.values())
        elif entry.kind in ("start", "free"):
            self._begin(entry, self.runs[entry.run], payload["mechanism"], payload["attempt"])
        elif entry.kind == "commit":
            mechanism, attempt = payload["mechanism"], payload["attempt"]
            _require(entry.key == keys.commit_key(entry.run, mechanism, attempt))
            _require(1 <= attempt <= self.runs[entry.run].attempts[mechanism])
        else:
            bare = keys.fact_key(entry.run, entry.kind)
            _require(entry.key == bare or entry.key.startswith(f"{bare}:"))
            if entry.run in self.runs and entry.kind == "settled":
                self.runs[entry.run].settled = True
            if entry.run in self.runs and entry.kind == "published":
                self.runs[entry.run].published = payload

    def balance(self, window: str = "") -> Balance:
        spent, both = total(self.spent, window), total(self.held, window)
        return Balance(
            capacity=self.capacity,
            spent=spent,
            reserved=both - spent,
            left=self.capacity - both,
            by_split={split_id: dict(branches) for split_id, branches in in_window(self.held, window).items()},
            window=window,
            delta_held=delta_total(self.held, window),
            delta_capacity=self.delta_capacity,
        )

    def summaries(self) -> list[RunSummary]:
        """Every run that reserved, in order of reservation."""
        return [_summary(name, run) for name, run in self.runs.items()]

    def unfinished(self) -> list[str]:
        """The runs that could still go on: not settled, or with a mechanism that neither started nor was freed."""
        return [name for name, run in self.runs.items() if run.state in ("reserved", "started") or run.pending]

    def carried(self) -> dict[str, dict[str, int]]:
        """What a successor takes over, by window: all that is held, and how many releases were admitted."""
        before = self.succeeds["carried"] if self.succeeds is not None else {}
        admitted = Counter(run.window for run in self.runs.values() if run.state != "freed")
        carried = {
            window: {
                "total": total(self.held, window),
                "releases": admitted[window] + before.get(window, {}).get("releases", 0),
            }
            | ({"delta": delta_total(self.held, window)} if delta_total(self.held, window) else {})
            for window in sorted(windows_of(self.held))
        }
        return {window: what for window, what in carried.items() if what["total"]}

    def _begin(self, entry: Entry, run: _Run, mechanism: str, attempt: int) -> None:
        charge = run.charges[mechanism]
        _require(entry.key == keys.begin_key(entry.run, mechanism, attempt))
        _require(mechanism not in run.freed and attempt == run.attempts.get(mechanism, 0) + 1)
        if entry.kind == "free":
            _require(attempt == 1)
            run.freed.add(mechanism)
            self.held = minus(self.held, run.key, [charge])
            run.held = minus(run.held, run.key, [charge])
            return
        _require(attempt <= run.max_attempts)
        charge = charge.of_attempt(attempt, run.reservation.payload.get("units_may_move", False))
        run.attempts[mechanism] = attempt
        self.spent = plus(self.spent, run.key, [charge])
        if attempt > 1:
            self._add(run, [charge])

    def _add(self, run: _Run, charges: Iterable[Charge]) -> None:
        charges = list(charges)
        self.held = plus(self.held, run.key, charges)
        run.held = plus(run.held, run.key, charges)
        _require(self._within(run.window))

    def _within(self, window: str) -> bool:
        return total(self.held, window) <= self.capacity and delta_total(self.held, window) <= self.delta_capacity


def verify_chain(policy: str, history: Iterable[Entry], anchors: Mapping[int, str]) -> Replay:
    """Recompute digests, links, sequence and balances, in one pass.

    :param anchors: digests that were noted elsewhere, by sequence number: they show what the chain alone
        cannot, a tail cut off or a history rewritten whole.
    :raises TamperedArtifact: names the first entry that is not what the ledger wrote.
    """
    replay = Replay()
    held, text = replay.held, canonical_json(replay.held)
    digests: dict[int, str] = {}
    for entry in history:
        _require_place(policy, replay.last, entry)
        if not entry.is_intact():
            raise tampered(policy, entry.sequence, "it does not carry its own digest")
        replay.apply(entry)
        if entry.sequence in anchors:
            digests[entry.sequence] = entry.digest
        if replay.held is not held:  # a balance is replaced where it changes, never changed itself
            held, text = replay.held, canonical_json(replay.held)
        if entry.balance_text != text:
            raise tampered(policy, entry.sequence, "its balance does not follow from the entries up to it")
    for sequence, digest in sorted(anchors.items()):
        if digests.get(sequence) != digest:
            raise tampered(policy, sequence, "its digest is not the one that was noted elsewhere")
    return replay


def _require_place(policy: str, before: Entry | None, entry: Entry) -> None:
    if before is None:
        if entry.sequence != 1 or entry.previous != "":
            raise tampered(policy, 1, "it is missing or is not the first")
    elif entry.sequence != before.sequence + 1:
        raise tampered(policy, before.sequence + 1, "it is missing or there twice")
    elif entry.previous != before.digest:
        raise tampered(policy, entry.sequence, "it does not follow the entry before it")


def tampered(policy: str, sequence: int, fault: str) -> TamperedArtifact:
    """The error that says from which entry on a ledger is not what was written."""
    return TamperedArtifact(
        f"policy {policy!r}: the ledger is not intact from entry {sequence} on: {fault}; do not release "
        "from this database, restore it from a trusted copy"
    )


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError


def _summary(name: str, run: _Run) -> RunSummary:
    payload, held = run.reservation.payload, run.held[run.key]
    return RunSummary(
        run=name,
        reserved_at=run.reservation.at,
        state=run.state,
        plan_digest=payload["plan_digest"],
        split_id=run.split_id,
        window=run.window,
        cost_train=held["train"],
        cost_holdout=held["holdout"],
        details=payload["details"],
        published=run.published,
    )
