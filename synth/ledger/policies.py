"""Policies as the ledger knows them: the officer's document, its capacity, and who registered it.

A policy is immutable: its capacity is what every earlier release was promised against. A source belongs to
one policy for good, so giving it another name never resets what was spent on the people behind it. Only a policy that
succeeds another one takes its sources over, with what was spent (`synth.ledger.succession`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from synth.errors import PolicyError
from synth.ledger.entries import Entry, canonical_json


@dataclass(frozen=True)
class PolicyRecord:
    """A registered policy; ``capacity`` in nano-nats of Rényi divergence at the policy's order.

    ``delta_capacity``, in 10⁻¹⁸, is what is set aside of δ for mechanisms that add to it whatever the ε. ``succeeds``
    names the policy that it took over from.
    """

    name: str
    document: Mapping[str, Any]
    capacity: int
    registered_at: str
    registered_by: str
    succeeds: str | None = None
    delta_capacity: int = 0

    @classmethod
    def from_entry(cls, entry: Entry) -> PolicyRecord:
        payload = entry.payload
        succeeds = payload["succeeds"]["policy"] if "succeeds" in payload else None
        return cls(
            entry.policy,
            payload["document"],
            payload["capacity"],
            entry.at,
            payload["by"],
            succeeds,
            payload.get("delta_capacity", 0),
        )


def policy_payload(
    name: str, document: Mapping[str, Any], capacity: int, by: str, delta_capacity: int = 0
) -> dict[str, Any]:
    """The registration's payload, if it is acceptable. Where nothing is set aside of δ it does not mention that."""
    if type(capacity) is not int or capacity < 1:
        raise PolicyError(
            f"policy {name!r}: capacity {capacity!r} is not accepted: a whole number of nano-nats, at least 1"
        )
    if type(delta_capacity) is not int or delta_capacity < 0:
        raise PolicyError(
            f"policy {name!r}: delta_capacity {delta_capacity!r} is not accepted: a whole number of 10⁻¹⁸, at least 0"
        )
    sources = document.get("sources")
    if (
        not isinstance(sources, (list, tuple))
        or not sources
        or not all(isinstance(source, str) and source for source in sources)
        or len(set(sources)) != len(sources)
    ):
        raise PolicyError(f"policy {name!r}: sources must be a list of one source URI or more, each once")
    if not by:
        raise PolicyError(f"policy {name!r}: the officer who registers it must be named")
    payload = {"document": dict(document), "capacity": capacity, "by": by}
    return payload | ({"delta_capacity": delta_capacity} if delta_capacity else {})


def refuse_shared_sources(name: str, document: Mapping[str, Any], others: Iterable[PolicyRecord]) -> None:
    """`PolicyError` where a source already belongs to one of ``others``."""
    for other in others:
        shared = sorted(set(document["sources"]) & set(other.document["sources"]))
        if shared:
            raise PolicyError(
                f"policy {name!r}: source {shared[0]!r} belongs to policy {other.name!r}, and what was "
                f"spent on it stays there; use policy {other.name!r} for it"
            )


def refuse_another(
    record: PolicyRecord, document: Mapping[str, Any], capacity: int, succeeds: str | None, delta_capacity: int = 0
) -> None:
    """`PolicyError` naming the fields in which the rest differs from ``record``."""
    registered: dict[str, Any] = {
        "document": dict(record.document),
        "capacity": record.capacity,
        "succeeds": record.succeeds,
        "delta_capacity": record.delta_capacity,
    }
    given = {"document": document, "capacity": capacity, "succeeds": succeeds, "delta_capacity": delta_capacity}
    fields = [field.removeprefix("document.") for field in differences(registered, given)]
    if fields:
        raise PolicyError(
            f"policy {record.name!r} is registered and cannot be changed; these fields differ from what is "
            f"registered: {', '.join(fields)}. Give them their registered values (`sluice budget show`), or register "
            "another policy that succeeds it"
        )


def differences(first: Any, second: Any, field: str = "") -> list[str]:
    """The dotted names of the fields in which two documents differ.

    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})
    ['a.c', 'd']
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return [
            difference
            for name in sorted({*first, *second})
            for difference in (
                differences(first[name], second[name], f"{field}.{name}".lstrip("."))
                if name in first and name in second
                else [f"{field}.{name}".lstrip(".")]
            )
        ]
    return [] if canonical_json(first) == canonical_json(second) else [field]
