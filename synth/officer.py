"""What the privacy officer does: register a policy, and what every run checks against it.

A policy binds source URIs, the privacy unit, the total (ε, δ), the most that one release may take, the approval and the
key of the split. It is immutable, and a contract can only be stricter. What has to change all the same, a lost key or
the approvers say, takes a policy that succeeds it: with a key of its own, the same total, and all that was spent before
charged to both branches.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth.accounting import RenyiFilter
from synth.anchors import note_successor, noted
from synth.canonical import canonical_json
from synth.contract import Contract, Policy, WindowRule, resolve_uri, selection_deltas
from synth.errors import PolicyError
from synth.ledger import Ledger
from synth.schema import Schema
from synth.settings import Settings

_KEY_BYTES = 32
# In these a policy may differ from the one it succeeds; the ledger sees to it that no source is dropped.
_MAY_CHANGE = {"name", "succeeds", "sources", "max_release_epsilon", "horizon", "holdout_fraction", "approval"}


@dataclass(frozen=True)
class RegisteredPolicy:
    """A policy as the ledger has it, with its filter and what names its split key."""

    policy: Policy
    filter: RenyiFilter
    sources: tuple[str, ...]
    key_fingerprint: str

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RegisteredPolicy:
        """From the document that :func:`register` handed to the ledger."""
        policy = Policy.model_validate(document["policy"])
        privacy_filter = RenyiFilter(
            document["order"], policy.epsilon, policy.delta, selection_delta=policy.selection_delta or 0.0
        )
        return cls(policy, privacy_filter, tuple(document["sources"]), document["key_fingerprint"])

    def split_key(self, keys: Path) -> bytes:
        """The secret key of the split.

        :raises PolicyError: if it is missing or not the registered one: the branches would change unseen.
        """
        path = keys / f"{self.policy.name}.key"
        try:
            key = path.read_bytes()
        except OSError:
            raise PolicyError(
                f"policy {self.policy.name!r}: its split key is not readable in the keys folder of this worker; "
                "restore it from the officer's backup"
            ) from None
        if _fingerprint(key) != self.key_fingerprint:
            raise PolicyError(
                f"policy {self.policy.name!r}: the split key is not the one that was registered; with another key "
                "people would change branches unseen: restore the registered key"
            )
        return key

    def units_by_content(self, contract: Contract) -> bool:
        """Whether some units have no id: a row that is edited, or numbered anew, may then change its branch."""
        return contract.privacy.unit == "row" or contract.privacy.null_ids == "row"

    def split_id(self, contract: Contract, schema: Schema) -> str:
        """Names the split: runs with the same id have each unit in the same branch.

        Two sources may write the same person's id differently, so the source is part of the id; what was spent under
        different ids adds up. Rows without a unit id are split by their content, so where such rows are units the
        declared columns are part of it too.
        """
        parts: list[Any] = [
            self.policy.name,
            self.key_fingerprint,
            self.policy.holdout_fraction,
            contract.privacy.model_dump()["unit"],
            resolve_uri(contract.source.uri),
        ]
        if contract.privacy.null_ids == "row":
            parts.append("rows without an id are units")
        if self.units_by_content(contract):
            parts.append([(column.name, column.kind, column.parses_to_float) for column in schema.columns])
            parts.append([contract.source.file_format, contract.source.delimiter, *contract.source.null_values])
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:32]


def register(ledger: Ledger, settings: Settings, policy: Policy, *, by: str) -> RegisteredPolicy:
    """Register a policy in the ledger; registering the same one again changes nothing.

    Draws the split key if this deployment has none for the policy.

    :raises PolicyError: if the name or a source is taken by another policy, or it cannot succeed the one it names.
    :raises AnchorsUnavailable: where it succeeds another: before anything is registered if what was noted cannot be
        read, afterwards if the succession cannot be noted; registering again then notes it.
    """
    privacy_filter = RenyiFilter.for_budget(policy.epsilon, policy.delta, policy.selection_delta or 0.0)
    if policy.succeeds is not None:
        try:
            record = ledger.policy(policy.succeeds)
        except PolicyError as error:
            raise PolicyError(f"policy {policy.name!r}, succeeds: {error}") from None
        predecessor = RegisteredPolicy.from_document(record.document)
        _refuse_unlike(predecessor.policy, policy)
        if settings.anchors is not None:
            ledger.verify(policy.succeeds, anchors=noted(settings.anchors, policy.succeeds))
        privacy_filter = predecessor.filter
    if privacy_filter.capacity < 1:
        raise PolicyError(
            f"policy {policy.name!r}: epsilon={policy.epsilon:g} with delta={policy.delta:g} leaves nothing to spend "
            "under Rényi DP; raise epsilon or delta"
        )
    document = {
        # Without what is not set, so that a field of a later version does not make another policy of an earlier one.
        "policy": policy.model_dump(mode="json", exclude_none=True),
        "sources": [resolve_uri(source) for source in policy.sources],
        "order": privacy_filter.order,
        "key_fingerprint": _fingerprint(_key(settings.keys / f"{policy.name}.key")),
    }
    entry = ledger.register(
        policy.name,
        document,
        privacy_filter.capacity,
        by,
        succeeds=policy.succeeds,
        delta_capacity=privacy_filter.delta_capacity,
    )
    if policy.succeeds is not None and settings.anchors is not None:
        note_successor(settings.anchors, policy.succeeds, entry)
    return RegisteredPolicy.from_document(document)


def policy_for(ledger: Ledger, contract: Contract) -> RegisteredPolicy:
    """The policy that covers a contract's source.

    :raises PolicyError: if there is none, or the contract is weaker than it: every point in one text.
    """
    record = ledger.policy_for_source(resolve_uri(contract.source.uri))
    registered = RegisteredPolicy.from_document(record.document)
    policy, privacy = registered.policy, contract.privacy
    faults = []
    if privacy.unit != policy.unit:
        faults.append(f"privacy.unit is {_unit(privacy.unit)}, the policy's is {_unit(policy.unit)}")
    rule = privacy.window.rule if privacy.window else None
    if rule != policy.window:
        faults.append(f"privacy.window is {_window(rule)}, the policy's is {_window(policy.window)}")
    if privacy.null_ids == "row" and policy.null_ids != "row":
        faults.append(
            "privacy.null_ids is row, which protects rows without an id one by one; the policy does not allow it"
        )
    if privacy.epsilon > policy.max_release_epsilon:
        faults.append(
            f"privacy.epsilon={privacy.epsilon:g} is above the policy's max_release_epsilon="
            f"{policy.max_release_epsilon:g}"
        )
    if privacy.delta > policy.delta:
        faults.append(f"privacy.delta={privacy.delta:g} is above the policy's delta={policy.delta:g}")
    faults += _selection_faults(contract, policy)
    if contract.approval.mode == "human" and not policy.approval.approvers:
        faults.append("approval.mode is human, the policy names no approvers, so nobody could ever approve")
    if policy.approval.mode == "human" and contract.approval.mode != "human":
        faults.append("approval.mode is automatic, the policy asks for human")
    if faults:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        raise PolicyError(
            f"contract {contract.dataset.name!r} is weaker than policy {policy.name!r}; it may only be stricter:\n"
            + lines
        )
    return registered


def _selection_faults(contract: Contract, policy: Policy) -> list[str]:
    """Why open columns cannot have what they take of δ from what the policy set aside."""
    deltas = selection_deltas(contract.columns, contract.privacy.delta)
    named, taken = ", ".join(f"schema.{name}" for name in deltas), math.fsum(deltas.values())
    if taken <= (policy.selection_delta or 0.0):
        return []
    if policy.selection_delta is None:
        return [
            f"{named} open_categorical: selecting categories adds {taken:g} to δ in each release, and the policy sets "
            "nothing aside for that, which its field selection_delta would; declare the categories, or use a policy "
            "that was registered with selection_delta"
        ]
    return [
        f"{named} open_categorical: selecting categories adds {taken:g} to δ in each release, above the policy's "
        f"selection_delta={policy.selection_delta:g}; lower the columns' selection_delta"
    ]


def _refuse_unlike(before: Policy, policy: Policy) -> None:
    """`PolicyError` where a policy would not bear out what was promised under the one that it succeeds."""
    there, here = (each.model_dump(mode="json", exclude_none=True) for each in (before, policy))
    changed = sorted(field for field in {*there, *here} - _MAY_CHANGE if there.get(field) != here.get(field))
    if changed:
        raise PolicyError(
            f"policy {policy.name!r} cannot succeed policy {before.name!r} with another {' and another '.join(changed)}"
            ": earlier releases were promised against the registered values; give it those"
        )


def _unit(unit: Any) -> str:
    return "row" if unit == "row" else f"column {unit.column!r}"


def _window(rule: WindowRule | None) -> str:
    return "none" if rule is None else f"every {rule.every} by column {rule.column!r}"


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"sluice split key\0" + key).hexdigest()[:32]


def _key(path: Path) -> bytes:
    """The key in a file that only its owner may read; drawn on first use."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_bytes()
