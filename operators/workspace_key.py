"""The Airflow connection that holds the keys of encrypted workspaces: its password, as ``sluice keys`` prints them.

It is ``sluice_workspace``, or the one that ``SLUICE_WORKSPACE_CONNECTION`` names, and is read by a task when it opens
its run: never when a DAG file is parsed. Where there is none, the environment's ``SLUICE_WORKSPACE_KEY`` counts, and
where that is not set either, workspaces are restricted to their owner but not encrypted. Airflow cannot tell a
connection that does not exist from a secrets backend that is out of reach, so one that is named has to be there.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from synth.errors import SettingsError, WorkspaceLocked

if TYPE_CHECKING:
    from synth.settings import Settings

DEFAULT, VARIABLE = "sluice_workspace", "SLUICE_WORKSPACE_CONNECTION"


def with_workspace_keys(settings: Settings) -> Settings:
    """The settings, with the keys of the connection if there is one.

    :raises WorkspaceLocked: if the connection that the environment names is not there or cannot be read.
    :raises SettingsError: if its password is no workspace key.
    """
    from synth.settings import workspace_keys

    name = os.environ.get(VARIABLE, DEFAULT)
    password = _password(name)
    if password is None:
        return settings
    keys = workspace_keys(password, f"the password of the Airflow connection {name!r}")
    if not keys:
        raise SettingsError(
            f"the Airflow connection {name!r} has no password; put a workspace key there, which `sluice keys "
            "new-workspace` prints, or remove the connection"
        )
    return replace(settings, workspace_keys=keys)


def _password(name: str) -> str | None:
    """The password of a connection; None if there is no such connection and none has to be."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    failure = ""
    try:
        return Connection.get(name).password or ""
    except AirflowNotFoundException:
        if VARIABLE not in os.environ:
            return None
        failure = "does not exist or is out of reach"
    except Exception as error:
        failure = f"cannot be read ({type(error).__name__})"  # its text could quote what the connection holds
    raise WorkspaceLocked(
        f"the Airflow connection {name!r} with the workspace key {failure}; check it and its secrets backend, or "
        f"unset {VARIABLE} where workspaces are not to be encrypted",
        retry=True,
    )
