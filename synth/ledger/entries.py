"""Entries and their hash chain, as values.

An entry's digest is the SHA-256 of the canonical JSON of all its columns but ``id``; ``previous`` is the
digest of the policy's entry before it. So an edit, a gap or an insertion breaks the chain from there on. What
the chain alone cannot show is a tail cut off, or a history rewritten whole with every digest computed anew:
for that, note the digest of the last entry elsewhere and hand it to `Ledger.verify`. The first entry of a policy is
its registration.

Idempotency keys name what happened, never which try of a task made it happen. A part of a key is free of
``:`` (only the run, which comes first, may hold one), so two facts never share a key by accident.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from synth import canonical
from synth.errors import LedgerError, PolicyError

Splits = dict[str, dict[str, int]]

POLICY_KEY = "policy"
FACTS = ("request", "segment", "gate", "decision", "reopened", "publishing", "published", "settled", "note")

_POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIX = re.compile(r"[A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True)
class Entry:
    """One entry, without the ``id`` of its row; ``payload_text`` and ``balance_text`` hold canonical JSON."""

    policy: str
    sequence: int
    kind: str
    key: str
    run: str
    payload_text: str
    balance_text: str
    at: str
    previous: str
    digest: str

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.payload_text)
        return payload

    @property
    def balance(self) -> Splits:
        """Reserved plus spent, in nano-nats: ``{split_id: {"train": .., "holdout": ..}}``."""
        balance: Splits = json.loads(self.balance_text)
        return balance

    @classmethod
    def registration(cls, policy: str, payload_text: str, balance_text: str, at: str, digest: str = "") -> Entry:
        """The first entry of a policy; what is not given is the same for all of them."""
        return cls(policy, 1, "policy", POLICY_KEY, "", payload_text, balance_text, at, "", digest)

    def columns(self) -> dict[str, Any]:
        """The row, by column name."""
        return dict(zip(COLUMNS, vars(self).values(), strict=True))

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Entry:
        """The entry of a row whose columns come in the order of `COLUMNS`."""
        return cls(*row)

    def is_intact(self) -> bool:
        """Whether the entry carries its own digest."""
        try:
            return self.computed_digest() == self.digest
        except LedgerError:  # a column no longer holds what JSON can
            return False

    def sealed(self) -> Entry:
        """The entry with its digest."""
        return replace(self, digest=self.computed_digest())

    def computed_digest(self) -> str:
        """What `digest` has to be.

        The canonical JSON is put together here: verifying a long history is little else.

        :raises LedgerError: if a column does not hold what the ledger writes there.
        """
        try:
            text = (
                f'{{"at":{_quoted(self.at)},"balance":{_quoted(self.balance_text)},"key":{_quoted(self.key)},'
                f'"kind":{_quoted(self.kind)},"payload":{_quoted(self.payload_text)},"policy":{_quoted(self.policy)},'
                f'"previous":{_quoted(self.previous)},"run":{_quoted(self.run)},"sequence":{self.sequence:d}}}'
            )
        except (TypeError, ValueError):
            raise LedgerError("a column of a ledger entry does not hold text, or its sequence no number") from None
        return hashlib.sha256(text.encode()).hexdigest()


COLUMNS = tuple(field.name.removesuffix("_text") for field in fields(Entry))
"""The columns of a row, in the order of an entry's fields."""


def canonical_json(value: object) -> str:
    """The canonical text of a payload.

    :raises LedgerError: if it is not JSON.
    """
    try:
        return canonical.canonical_json(value)
    except (TypeError, ValueError):
        raise LedgerError(
            "a ledger payload must be JSON: text, finite numbers, true, false, null, lists, and mappings "
            "with text keys; convert the value before recording it"
        ) from None


def policy_name(name: str) -> str:
    """``name`` if a policy can be called that."""
    if not isinstance(name, str) or not _POLICY_NAME.fullmatch(name):
        raise PolicyError(
            f"policy name {name!r} is not accepted: up to 100 letters, digits, '.', '_' and '-', a letter "
            "or digit first"
        )
    return name


def run_name(run: str) -> str:
    """``run`` if it can be part of a key."""
    if not isinstance(run, str) or not 0 < len(run) <= 250 or not run.isprintable():
        raise LedgerError(f"run {run!r} is not accepted: between 1 and 250 printable characters")
    return run


def mechanism_name(mechanism: str) -> str:
    """``mechanism`` if it can be part of a key."""
    if (
        not isinstance(mechanism, str)
        or not 0 < len(mechanism) <= 200
        or not mechanism.isprintable()
        or ":" in mechanism
    ):
        raise LedgerError(
            f"mechanism {mechanism!r} is not accepted: between 1 and 200 printable characters, none of them ':'"
        )
    return mechanism


def reserve_key(run: str) -> str:
    return f"{run_name(run)}:reserve"


def begin_key(run: str, mechanism: str, attempt: int) -> str:
    """Shared by 'start' and 'free', so exactly one of the two can ever be written."""
    return f"{run_name(run)}:{mechanism_name(mechanism)}:begin:{attempt}"


def commit_key(run: str, mechanism: str, attempt: int) -> str:
    return f"{run_name(run)}:{mechanism_name(mechanism)}:commit:{attempt}"


def fact_key(run: str, kind: str, suffix: str = "") -> str:
    """``run:kind``, or ``run:kind:suffix`` where a kind may be recorded more than once."""
    if kind not in FACTS:
        raise LedgerError(f"kind {kind!r} is not a recorded fact: one of {', '.join(FACTS)}")
    if not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix) or suffix in (*FACTS, "reserve"):
        raise LedgerError(
            f"suffix {suffix!r} is not accepted: up to 100 letters, digits, '.', '_' and '-', and not itself a kind"
        )
    return f"{run_name(run)}:{kind}" + (f":{suffix}" if suffix else "")
