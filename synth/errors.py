"""Every error that Sluice raises on purpose.

An error is written for the person who can act on it: which field of which contract, what was given, what is
accepted, what to do next. None of them ever carries a cell of private data. ``retry`` says whether trying the
same step again can help: infrastructure may come back, a refused budget or a failed check will not.
"""

from __future__ import annotations

from collections.abc import Sequence


class SluiceError(Exception):
    """Base of all errors raised on purpose."""

    retry = False


class ContractError(SluiceError):
    """The share contract or a policy document is not acceptable; the text holds every fault found.

    :ivar faults: the same faults one by one, where a document was parsed: each has path, given and problem.
    """

    def __init__(self, text: str, faults: Sequence[object] = ()) -> None:
        super().__init__(text)
        self.faults = tuple(faults)


class NotSupportedYet(ContractError):
    """A field is understood but belongs to work that this version does not do."""


class MissingExtra(SluiceError):
    """An optional package that the contract's method needs is not installed here."""


class PolicyError(SluiceError):
    """The officer's policy does not allow this, or no policy covers the source."""


class PrivateDataGuarded(SluiceError):
    """Code tried to do something with private rows that only a charged mechanism may do: a fault of Sluice."""


class SourceUnavailable(SluiceError):
    """The source cannot be reached or opened."""

    retry = True


class StorageUnavailable(SluiceError):
    """A disk that a step needs is full, read-only, out of reach or failing."""

    retry = True


class LedgerError(SluiceError):
    """The budget ledger refused."""


class LedgerUnavailable(LedgerError):
    """The budget ledger cannot be reached."""

    retry = True


class AnchorsUnavailable(SluiceError):
    """The place where heads of the ledger are noted cannot be reached, so nobody knows whether the ledger is whole."""

    retry = True


class BudgetExceeded(LedgerError):
    """The privacy filter does not admit the request: the total would be passed."""


class PlanChanged(LedgerError):
    """A step was handed another plan than the one that was reserved."""


class NotReserved(LedgerError):
    """A mechanism was asked to start without a reservation."""


class ReservationReleased(LedgerError):
    """The run was settled: what had not started was given back and cannot start any more."""


class AttemptsExhausted(LedgerError):
    """A mechanism died as often as the plan allows."""


class TamperedArtifact(SluiceError):
    """Something that was written once does not carry the authentication code it was written with."""


class ValidationFailed(SluiceError):
    """A declared expectation was judged violated."""


class QualityRejected(SluiceError):
    """The release does not reach its declared quality."""


class NotApproved(SluiceError):
    """There is no approval of exactly this artifact."""


class NotPrivate(NotApproved):
    """The run draws from an unsafe seed, so nothing of it may be approved or let out."""


class AwaitingApproval(NotApproved):
    """A person has to decide before the run can go on."""


class SamplingRefused(SluiceError):
    """More rows cannot be drawn from a finished model: there is no model any more, or no such rows in it."""


class PublishFailed(SluiceError):
    """The bucket refused or cannot be reached; what was published so far does not count as a release."""

    retry = True


class VersionTaken(PublishFailed):
    """The bucket holds another release under this version; versions never change."""

    retry = False


class StepFailed(SluiceError):
    """An unexpected failure inside a step, stripped of its text because that could quote private data.

    Only what looks like the machine's fault is worth another try: a fault of the program would come back, and every
    mechanism that it hits is charged again.
    """

    def __init__(self, text: str, *, retry: bool = False) -> None:
        super().__init__(text)
        self.retry = retry


class SettingsError(SluiceError):
    """A setting of the deployment is not acceptable."""


class WorkspaceLocked(SluiceError):
    """A run's workspace is encrypted under a key that this deployment does not have.

    Where there is no key at all, whoever keeps it may only be out of reach.
    """

    def __init__(self, text: str, *, retry: bool = False) -> None:
        super().__init__(text)
        self.retry = retry
