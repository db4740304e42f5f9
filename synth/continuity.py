"""Whether the ledger is the one that earlier runs wrote, and not an older copy of it.

A restored backup is whole in itself and forgets what was spent since. Three things outside of it remember: the place
where heads are noted (:mod:`synth.anchors`), after each reservation and at the end of each run, whether or not it
released anything; and the privacy statements of the dataset's releases, each of which tells the head of its moment. A
ledger that lacks one of these entries is refused before budget is reserved and again before anything is published.

What breaks it: a place of anchors that is restored together with the ledger, before the first release.
"""

from __future__ import annotations

from collections.abc import Mapping

from synth.anchors import merged, note, noted
from synth.ledger import Entry
from synth.release.heads import heads_of_releases
from synth.run import Run


def verify_ledger(run: Run) -> Entry:
    """The last entry of the policy's history, which was recomputed and compared with what was noted elsewhere.

    :raises TamperedArtifact: if the history is not whole, or lacks an entry that was noted.
    :raises AnchorsUnavailable: if what was noted cannot be read.
    """
    policy = run.policy_name
    anchors: list[Mapping[int, str]] = [
        heads_of_releases(run.contract.publish.uri, run.contract.dataset.name, policy, run.storage_options)
    ]
    if run.settings.anchors is not None:
        anchors.append(noted(run.settings.anchors, policy))
    return run.ledger.verify(policy, anchors=merged(policy, anchors))


def note_head(run: Run) -> None:
    """Note where the policy's history stands now.

    :raises AnchorsUnavailable: if it cannot be noted.
    """
    if run.settings.anchors is not None:
        note(run.settings.anchors, run.policy_name, run.ledger.head(run.policy_name))
