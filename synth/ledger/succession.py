"""One policy takes over from another, with all that was ever charged under it.

A policy is immutable, and it names the key that puts people into branches. Where the key is lost, or the officer wants
other approvers, another holdout, more sources or a longer horizon, a successor is registered. It starts with what its
predecessor held, window by window, in both branches, since another split may put anyone on either side; and it takes
over the number of releases. From then on the predecessor admits nothing.

The registration stands in the successor's own row. Whoever adds it holds the predecessor's lock and refuses while a run
there is under way, so what was carried is final. It can be checked at any time: :func:`verify` computes it anew from
the predecessor's entries, whose head at that moment is part of the registration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from synth.errors import PolicyError
from synth.ledger.chain import Chain
from synth.ledger.history import Replay, tampered, verify_chain
from synth.ledger.policies import PolicyRecord

SUCCESSOR = 0
"""The sequence number, which no entry has, under which the digest of a successor's registration is noted elsewhere."""

_NAMED = 5


def verify(chain: Chain, anchors: Mapping[int, str]) -> Replay:
    """What follows from the history of a policy, if that is intact, and those of its predecessors.

    :param anchors: digests noted elsewhere, by sequence number; that of its successor's registration by `SUCCESSOR`.
    :raises TamperedArtifact: names the first entry that is not what the ledger wrote.
    """
    replay = verify_chain(
        chain.policy, chain.stream(), {at: digest for at, digest in anchors.items() if at != SUCCESSOR}
    )
    successor = chain.successor() if SUCCESSOR in anchors else None
    if SUCCESSOR in anchors and (successor is None or successor.digest != anchors[SUCCESSOR]):
        raise tampered(chain.policy, 1, "the policy that succeeded it, as was noted elsewhere, is not there")
    if replay.succeeds is not None:
        before = Chain(chain.connection, replay.succeeds["policy"])
        predecessor = verify(before, {replay.succeeds["sequence"]: replay.succeeds["digest"]})
        if predecessor.carried() != replay.succeeds["carried"]:
            raise tampered(chain.policy, 1, f"what it took over is not what policy {before.policy!r} holds")
    return replay


def take_over(
    chain: Chain, name: str, document: Mapping[str, Any], capacity: int, delta_capacity: int = 0
) -> dict[str, Any]:
    """What the registration of ``name`` says about its predecessor, whose chain this is and whose lock is held.

    :raises PolicyError: the predecessor has a successor or an unfinished run, or the new policy is no continuation.
    """
    registered = chain.policy_entry()
    predecessor = PolicyRecord.from_entry(registered)
    successor = chain.successor()
    if successor is not None:
        raise PolicyError(
            f"policy {chain.policy!r} was succeeded by policy {successor.policy!r}, and a policy has one successor; "
            f"let policy {name!r} succeed policy {successor.policy!r}"
        )
    if capacity != predecessor.capacity:
        raise PolicyError(
            f"policy {name!r}: capacity {capacity} is not that of policy {chain.policy!r}, {predecessor.capacity}; "
            "earlier releases were promised against that total, so epsilon, delta and Rényi order stay"
        )
    if delta_capacity != predecessor.delta_capacity:
        raise PolicyError(
            f"policy {name!r}: delta_capacity {delta_capacity} is not that of policy {chain.policy!r}, "
            f"{predecessor.delta_capacity}; what is set aside of delta stays, as the rest of it does"
        )
    missing = sorted(set(predecessor.document["sources"]) - set(document["sources"]))
    if missing:
        raise PolicyError(
            f"policy {name!r}: sources lacks {missing[0]!r} of policy {chain.policy!r}; a successor takes over all "
            "sources of its predecessor, since what was spent on them counts on"
        )
    replay = verify(chain, {})
    unfinished = replay.unfinished()
    if unfinished:
        names = ", ".join(repr(run) for run in unfinished[:_NAMED]) + (", …" if len(unfinished) > _NAMED else "")
        raise PolicyError(
            f"policy {chain.policy!r} cannot be succeeded yet: {len(unfinished)} of its runs are not settled: {names}. "
            "Let them end, or settle them with `sluice settle`"
        )
    head = replay.last or registered
    return {
        "policy": chain.policy,
        "sequence": head.sequence,
        "digest": head.digest,
        "carried": replay.carried(),
    }


def lineage(records: Iterable[PolicyRecord], name: str) -> list[str]:
    """The policy after all its predecessors, oldest first."""
    succeeds = {record.name: record.succeeds for record in records}
    line = [name]
    while (before := succeeds.get(line[0])) is not None and before not in line:
        line.insert(0, before)
    return line
