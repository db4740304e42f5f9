"""The budget ledger: who may spend what, what was spent, and what was decided.

Guarantees, with any number of threads, processes and hosts on one database:

- a policy's total, in each window, never passes its capacity, nor what is added to δ what was set aside for that, and
  no more releases are admitted than it plans: admission and the entry that spends are one serial transaction;
- a mechanism starts only on budget that was reserved before, for exactly the plan that was reserved;
- every attempt that started stays charged, and one that was freed can never start;
- the same request, repeated, is recorded once.

What breaks them: a row changed in spite of the triggers (`Ledger.verify` finds it), a caller that looks at
private rows without `Ledger.begin`, or a cost that was rounded down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from synth.errors import LedgerError, PolicyError
from synth.ledger import entries as keys
from synth.ledger import pacing, spending, succession
from synth.ledger.balance import Balance, Charge, window_name, windows_of
from synth.ledger.chain import Chain, registrations
from synth.ledger.database import REGISTRATION_LOCK, Database
from synth.ledger.entries import Entry, canonical_json
from synth.ledger.history import Replay, RunSummary
from synth.ledger.policies import PolicyRecord, policy_payload, refuse_another, refuse_shared_sources
from synth.ledger.rights import Duty
from synth.ledger.spending import reservation_payload
from synth.ledger.succession import lineage, take_over


class Ledger:
    """The API of the ledger; `Ledger.open` makes one. Safe to use from several threads and to fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Ledger:
        """The ledger at ``url``. An SQLite file is created and migrated; PostgreSQL must be current."""
        database = Database.connect(url)
        if database.is_sqlite:
            database.migrate()
        elif not database.is_current():
            raise LedgerError(
                f"the ledger at {database.place} does not show this version's tables to the role that the URL "
                "connects as; run `sluice budget migrate` with the role that owns them, and name this one by --worker "
                "or --officer"
            )
        return cls(database)

    @staticmethod
    def migrate(url: str, *, officer: str | None = None, worker: str | None = None) -> None:
        """Bring the schema at ``url`` to this version's and give database roles the rights they need, and no more.

        :param officer: a role that registers policies. :param worker: a role that runs workflows.
        """
        database = Database.connect(url)
        database.migrate()
        database.grant({Duty.OFFICER: officer, Duty.WORKER: worker})
        database.close()

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Policies

    def register(
        self,
        name: str,
        document: Mapping[str, Any],
        capacity: int,
        by: str,
        *,
        succeeds: str | None = None,
        delta_capacity: int = 0,
    ) -> Entry:
        """Register a policy. The same document and capacity again return the first registration.

        :param document: the policy; its ``sources`` lists the normalised URIs that belong to it.
        :param capacity: nano-nats of Rényi divergence at the policy's order, rounded down.
        :param succeeds: the policy that this one takes over from, with its sources and all that was charged.
        :param delta_capacity: what is set aside of δ, in 10⁻¹⁸, for charges that add to it whatever the ε.
        :raises PolicyError: the name is registered with other fields, a source belongs to another policy, or the
            policy to succeed has an unfinished run, a successor, another capacity or a source that this one lacks.
        """
        payload = policy_payload(keys.policy_name(name), document, capacity, by, delta_capacity)
        locks = [REGISTRATION_LOCK] if succeeds is None else [REGISTRATION_LOCK, _lock(keys.policy_name(succeeds))]
        with self._database.writing(*locks, duty=Duty.OFFICER) as connection:
            chain = Chain(connection, name)
            registered = chain.registration()
            if registered is not None:
                refuse_another(PolicyRecord.from_entry(registered), document, capacity, succeeds, delta_capacity)
                return registered
            records = [PolicyRecord.from_entry(entry) for entry in registrations(connection)]
            mine = []
            if succeeds is not None:
                before = Chain(connection, succeeds)
                payload["succeeds"] = take_over(before, name, document, capacity, delta_capacity)
                mine = lineage(records, succeeds)
            refuse_shared_sources(name, document, [record for record in records if record.name not in mine])
            return chain.register(payload)

    def policy(self, name: str) -> PolicyRecord:
        with self._reading(name) as chain:
            return PolicyRecord.from_entry(chain.policy_entry())

    def policies(self) -> list[PolicyRecord]:
        with self._database.reading() as connection:
            return [PolicyRecord.from_entry(entry) for entry in registrations(connection)]

    def lineage(self, name: str) -> list[str]:
        """The policies that ``name`` succeeded, oldest first, then ``name``: one budget, taken over and over."""
        return lineage(self.policies(), self.policy(name).name)

    def policy_for_source(self, uri: str) -> PolicyRecord:
        """The policy that a source belongs to now; one that was succeeded has no sources any more."""
        records = self.policies()
        succeeded = {record.succeeds for record in records}
        for record in records:
            if uri in record.document["sources"] and record.name not in succeeded:
                return record
        raise PolicyError(
            f"source {uri!r} belongs to no policy, so nothing may be released from it; the privacy officer "
            "registers one with `sluice budget register`"
        )

    # Spending

    def reserve(
        self,
        policy: str,
        run: str,
        *,
        plan_digest: str,
        split_id: str,
        max_attempts: int,
        charges: Sequence[Charge],
        details: Mapping[str, Any],
        window: str = "",
        horizon: int | None = None,
        units_may_move: bool = False,
    ) -> Entry:
        """Reserve one attempt of every mechanism of a plan, before anything reads private rows.

        :param window: where the policy gives a fresh total per window: the one whose total this is taken from.
        :param horizon: how many releases the policy plans, in each window.
        :param units_may_move: whether a unit may be in another branch in another release under the same split.
        :raises BudgetExceeded: the policy's total would pass its capacity, or as many releases as planned were
            admitted.
        :raises PlanChanged: the run has reserved another plan.
        """
        payload = reservation_payload(plan_digest, split_id, max_attempts, charges, details, window, units_may_move)
        with self._writing(policy) as chain:
            return spending.reserve(chain, run, payload, horizon)

    def pace(self, policy: str, horizon: int, window: str = "") -> int:
        """How many nano-nats the next release may cost, so that the planned number of them fits what is left.

        :param horizon: how many releases the policy plans, in each window.
        :raises BudgetExceeded: as many were admitted.
        """
        with self._reading(policy) as chain:
            return pacing.pace(chain, horizon, window)

    def delta_pace(self, policy: str, horizon: int, window: str = "") -> int:
        """As :meth:`pace`, of what is set aside of δ, in 10⁻¹⁸."""
        with self._reading(policy) as chain:
            return pacing.delta_pace(chain, horizon, window)

    def releases_left(self, policy: str, horizon: int, window: str = "") -> int:
        """How many releases may still be admitted in a window, at least one.

        :raises BudgetExceeded: if as many as planned were admitted.
        """
        with self._reading(policy) as chain:
            return pacing.releases_left(chain, horizon, window)

    def begin(self, policy: str, run: str, mechanism: str, *, plan_digest: str) -> int:
        """Start an attempt of a reserved mechanism; it stays charged from here on, whatever becomes of it.

        Call it only where no committed output of the mechanism is at hand: every call is another attempt, and
        from the second on its cost is charged again.

        :returns: the attempt's number, from 1.
        :raises ReservationReleased: the mechanism was freed, or the fact 'settled' is recorded for the run.
        """
        with self._writing(policy) as chain:
            return spending.begin(chain, run, mechanism, plan_digest)

    def commit(self, policy: str, run: str, mechanism: str, attempt: int) -> Entry:
        """Record that the output of an attempt is kept; again is the same."""
        with self._writing(policy) as chain:
            return spending.commit(chain, run, mechanism, attempt)

    def committed(self, policy: str, run: str, mechanism: str) -> bool:
        commits = (entry for entry in self.entries(policy, run) if entry.kind == "commit")
        return any(entry.payload["mechanism"] == mechanism for entry in commits)

    def attempts(self, policy: str, run: str) -> dict[str, int]:
        """How often each reserved mechanism was started; empty where nothing was reserved."""
        with self._reading(policy) as chain:
            reserved = chain.find(keys.reserve_key(run))
            if reserved is None:
                return {}
            started = {charge.mechanism: 0 for charge in spending.charges_of(reserved.payload)}
            for entry in chain.history(run):
                if entry.kind == "start":
                    started[entry.payload["mechanism"]] += 1
            return started

    def settle(self, policy: str, run: str) -> list[str]:
        """Give back what never started, for good; what started stays spent.

        :returns: every mechanism of the run that was freed, now or before; none where nothing was reserved.
        """
        with self._writing(policy) as chain:
            return spending.settle(chain, run)

    # Facts

    def record(self, policy: str, run: str, kind: str, payload: Mapping[str, Any], *, suffix: str = "") -> Entry:
        """Record a fact of a run: a gate's verdict, a decision, a publication.

        :param suffix: tells apart facts of one kind, where a run has several.
        :raises LedgerError: the fact is recorded with another payload.
        """
        key = keys.fact_key(run, kind, suffix)
        with self._writing(policy) as chain:
            recorded = chain.find(key)
            if recorded is None:
                return chain.append(kind, key, run, dict(payload))
            if recorded.payload_text != canonical_json(payload):
                raise LedgerError(
                    f"run {run!r}: {kind!r} is recorded with another content and entries cannot be changed; "
                    "record a further one under a suffix"
                )
            return recorded

    def find(self, policy: str, run: str, kind: str, *, suffix: str = "") -> Entry | None:
        """The run's reservation (kind 'reserve') or a recorded fact, if there is one."""
        key = keys.reserve_key(run) if kind == "reserve" else keys.fact_key(run, kind, suffix)
        with self._reading(policy) as chain:
            return chain.find(key)

    def entries(self, policy: str, run: str | None = None) -> list[Entry]:
        with self._reading(policy) as chain:
            return chain.history(run)

    def runs(self, policy: str) -> list[RunSummary]:
        with self._reading(policy) as chain:
            return Replay.of(chain.stream()).summaries()

    def balance(self, policy: str, window: str = "") -> Balance:
        """Where the policy stands in a window; what was charged in another one does not count."""
        with self._reading(policy) as chain:
            return Replay.of(chain.stream()).balance(window_name(window))

    def windows(self, policy: str) -> list[str]:
        """The windows in which something was ever reserved, sorted; ``""`` stands for no window."""
        with self._reading(policy) as chain:
            return sorted(windows_of(chain.last().balance))

    def head(self, policy: str) -> Entry:
        """The last entry, whose sequence and digest are worth noting elsewhere."""
        with self._reading(policy) as chain:
            return chain.last()

    def verify(self, policy: str, *, anchors: Mapping[int, str] | None = None) -> Entry:
        """Recompute the policy's chain and balances from its entries, and from its predecessors' what it took over.

        :param anchors: digests noted elsewhere, by sequence number, or `SUCCESSOR` for the registration of a policy
            that took over; only they reveal a tail cut off.
        :returns: the last entry, whose sequence and digest are worth noting elsewhere.
        :raises TamperedArtifact: names the first entry that is not what was written.
        """
        with self._database.reading() as connection:
            last = succession.verify(Chain(connection, policy), anchors or {}).last
        if last is None:
            raise PolicyError(f"policy {policy!r} is not registered, so there is nothing to verify")
        return last

    @contextmanager
    def _reading(self, policy: str) -> Iterator[Chain]:
        with self._database.reading() as connection:
            chain = Chain(connection, policy)
            chain.policy_entry()
            yield chain

    @contextmanager
    def _writing(self, policy: str) -> Iterator[Chain]:
        with self._database.writing(_lock(policy)) as connection:
            chain = Chain(connection, policy)
            chain.policy_entry()
            yield chain


def _lock(policy: str) -> str:
    return f"policy {policy}"
