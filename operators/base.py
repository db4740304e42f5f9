"""What every operator of the workflow does: open the run, carry out one step, return what anyone may see.

An operator holds the contract as plain values, all of them public, and never data. What a step returns goes to XCom,
and what it raises goes to the log, so an error leaves here with the text that was written for it and with nothing of
what a library said about the rows. The error decides about retries: where trying again cannot help, the task fails at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from operators.parameters import made_stricter
from synth.errors import SluiceError
from synth.progress import LogProgress

if TYPE_CHECKING:
    from airflow.sdk import Context

    from synth.run import Run

Facts = dict[str, Any]
_Result = TypeVar("_Result")


class SluiceOperator(BaseOperator):
    """One step of one share contract.

    :param document: the share contract as plain values, see ``Contract.document``.
    """

    ui_color = "#dcecf2"

    def __init__(self, *, document: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.document = document

    def step(self, run: Run) -> Facts:
        """The step of :mod:`synth.steps` that this operator carries out; returns facts that anyone may see."""
        raise NotImplementedError(f"{type(self).__name__} does not say which step it carries out")

    def execute(self, context: Context) -> Facts:
        """Carry out the step in the run that belongs to this DAG run."""
        facts = with_public_errors(lambda: self._carry_out(context))
        self.log.info("%s: %s", self.task_id, facts)
        return facts

    def _carry_out(self, context: Context) -> Facts:
        with self.open_run(context) as run:
            return self.step(run)

    def open_run(self, context: Context) -> Run:
        """The run that belongs to this DAG run."""
        return open_run(self.document, context["run_id"], context["params"])


def open_run(document: Mapping[str, Any], run_id: str, params: Mapping[str, Any]) -> Run:
    """The run of a contract, made as much stricter as the trigger form asks, with the deployment's workspace keys.

    :raises WorkspaceLocked: if they are in a connection that cannot be read.
    :raises ContractError: if a parameter would loosen the contract.
    """
    from operators.workspace_key import with_workspace_keys
    from synth.run import run_from_document

    run = run_from_document(made_stricter(document, params), run_id)
    run.settings = with_workspace_keys(run.settings)
    run.progress = LogProgress()
    return run


def with_public_errors(work: Callable[[], _Result]) -> _Result:
    """The result of ``work``, or an error that Airflow may show to anyone.

    It is raised outside the handler: inside, Python would attach the original, whose text and context may quote a cell.

    :raises AirflowFailException: where trying again cannot help.
    :raises AirflowException: where it can, as often as the task's ``retries`` allow.
    """
    try:
        return work()
    except SluiceError as error:
        kind = AirflowException if error.retry else AirflowFailException
        failure = kind(f"{type(error).__name__}: {error}")
    except Exception as error:
        failure = AirflowException(
            f"unexpected {type(error).__name__} at {_place(error)}; its text is withheld because it could quote "
            "private data"
        )
    except BaseException as error:
        error.__context__ = error.__cause__ = None
        raise
    raise failure


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
