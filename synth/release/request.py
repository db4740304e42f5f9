"""What a person reads before a release is let out: its terms, its quality, and what changed since the last one.

Every number is a public fact, an entry of the ledger or the output of a charged mechanism, because whoever may open
the web interface sees this text too, whether or not the release ever comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth.contract import Contract
from synth.quality.results import Measurement
from synth.release.rendering import render


@dataclass(frozen=True)
class ApprovalRequest:
    """One question to the approvers.

    :ivar gate: what the ledger has of the gate that was passed.
    :ivar statement: the privacy statement that the release would carry.
    :ivar report: where an approver with access to the workspace finds the whole report.
    :ivar link: where one finds it in a browser; None where nothing serves it.
    :ivar requester: who started the run; None if nobody is known to have.
    :ivar started: how the run was started.
    :ivar decisions: those about this run that were withdrawn by asking again, oldest first.
    :ivar is_published: whether an earlier approval of this run has been carried out.
    :ivar may_be_published: whether that was begun.
    :ivar previous: the gate's entry of the dataset's last published release, if there is one.
    :ivar previous_at: when that was published.
    """

    contract: Contract
    policy: str
    approvers: Sequence[str]
    gate: Mapping[str, Any]
    statement: Mapping[str, Any]
    report: str
    link: str | None
    requester: str | None
    started: str
    decisions: Sequence[Mapping[str, Any]]
    is_published: bool
    may_be_published: bool
    previous: Mapping[str, Any] | None
    previous_at: str

    def markdown(self) -> str:
        """The question as the approver sees it."""
        measurements = [Measurement.from_document(document) for document in self.gate["measurements"]]
        return render(
            "approval_request.md.jinja",
            dataset=self.contract.dataset,
            uri=self.contract.publish.uri,
            rows=self.contract.rows,
            gate=self.gate,
            statement=self.statement,
            measurements=measurements,
            previous=self.previous,
            previous_at=self.previous_at,
            changes=list(self._changes(measurements)),
            report=self.report,
            link=self.link,
            approvers=list(self.approvers),
            policy=self.policy,
            requester=self.requester,
            started=self.started.replace("_", " "),
            decisions=self.decisions,
            is_published=self.is_published,
            may_be_published=self.may_be_published,
        )

    def _changes(self, measurements: Sequence[Measurement]) -> Iterator[tuple[str, str, str]]:
        before = {m["name"]: m for m in (self.previous or {}).get("measurements", ())}
        for measurement in measurements:
            if measurement.name in before:
                yield measurement.title, _interval(before[measurement.name]), _interval(measurement.document())


def _interval(measurement: Mapping[str, Any]) -> str:
    return f"{measurement['value']:.3f} ({measurement['low']:.3f} to {measurement['high']:.3f})"
