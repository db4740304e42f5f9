"""What a synthesizer is: it declares its mechanisms, fits through charged mechanisms only, and samples for free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy.typing as npt
import pandas as pd

from synth.constraints.keeping import Cost
from synth.constraints.sampling import AS_MODELLED, Wanted
from synth.contract import (
    AimOptions,
    Contract,
    IndependentOptions,
    Method,
    MixtureOptions,
    MstOptions,
    ProductOptions,
)
from synth.errors import MissingExtra
from synth.guard import Sealed, Spend
from synth.plan import Demand, ReleasePlan
from synth.progress import Progress
from synth.records import CodedRecords
from synth.schema import Codes, Schema

Arrays = Mapping[str, npt.NDArray[Any]]


class RunOnce(Protocol):
    """Runs a charged mechanism at most once for each charge.

    Given the mechanism's name in the plan and the computation of its noisy output, it returns the committed output
    if there is one; otherwise it has the start recorded, computes with the token that opens sealed rows, commits, and
    returns.
    """

    def __call__(self, mechanism: str, compute: Callable[[Spend], Arrays]) -> dict[str, npt.NDArray[Any]]: ...


class Model(Protocol):
    """A finished model: all that it holds is the output of charged mechanisms, or public."""

    def frames(self, rows: int, seed: int, wanted: Wanted = AS_MODELLED) -> Iterator[pd.DataFrame]:
        """Rows in chunks, all of which keep what is wanted; the same model, rows, seed and wants give the same rows.

        :raises SamplingRefused: if the model has too few such rows.
        """
        ...

    def drawn(self, rows: int, seed: int, wanted: Wanted = AS_MODELLED) -> Iterator[tuple[pd.DataFrame, Cost | None]]:
        """The same, each chunk with what keeping the wanted rules cost it; None without rules."""
        ...

    def predict(self, codes: Codes, target: str | None = None) -> npt.NDArray[Any]:
        """The label of each row of codes by the model itself: a class's code, or a number. Shape (rows,).

        Each row's depends on that row alone.

        :param target: by default the only one.
        """
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything learnt, by name; ``distributions``, one a column, among it."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Plain values that the privacy statement tells of the fit."""
        ...


class Synthesizer(Protocol):
    """A method that can be named in a contract."""

    name: str

    def demands(self, contract: Contract, schema: Schema, train_units: float) -> Sequence[Demand]:
        """The mechanisms it runs on the training branch, each with its share of the release's budget.

        :param train_units: declared, never counted: about how many units the branch has.
        """
        ...

    def advice(self, contract: Contract, schema: Schema, train_units: float) -> str:
        """What to expect, from public facts alone, where there are too few units for the budget; empty otherwise."""
        ...

    def fit(
        self,
        records: Sealed[CodedRecords],
        contract: Contract,
        schema: Schema,
        plan: ReleasePlan,
        once: RunOnce,
        progress: Progress,
    ) -> Model:
        """Fit on private records of the training branch, which open only inside ``once``."""
        ...

    def restore(self, arrays: Arrays, contract: Contract, schema: Schema) -> Model:
        """The model whose :meth:`Model.arrays` were saved."""
        ...


def require_packages(contract: Contract) -> None:
    """Find out before anything is spent that an optional package is missing, where training runs on this machine.

    :raises MissingExtra: naming the extra.
    """
    elsewhere = contract.compute.queue or contract.compute.executor or contract.compute.pod
    if isinstance(contract.method.options, MstOptions | AimOptions) and not elsewhere and find_spec("mbi") is None:
        raise without_private_pgm()


def without_private_pgm() -> MissingExtra:
    """The error where ``mbi`` is missing."""
    return MissingExtra(
        "method.name: mst and aim need the package mbi, which is not installed where training runs; "
        "pip install 'sluice-dp[private-pgm]'"
    )


def synthesizer(method: Method) -> Synthesizer:
    """The synthesizer that a contract names, or leaves to be chosen; its module is imported only now."""
    match method.options:
        case MixtureOptions():
            from synth.methods.tabular.dpdsyn_mixture import DpdsynMixture

            return DpdsynMixture()
        case IndependentOptions():
            from synth.methods.tabular.dpdsyn import Dpdsyn

            return Dpdsyn()
        case ProductOptions():
            from synth.methods.tabular.independent import IndependentColumns

            return IndependentColumns()
        case MstOptions():
            from synth.methods.tabular.private_pgm.mst import Mst

            return Mst()
        case AimOptions():
            from synth.methods.tabular.private_pgm.aim import Aim

            return Aim()
