"""``docker/compose.yaml`` read as processes: the settings and the commands of its services, on loopback.

What is run here is what stands there, except for the network and the folders. So a setting that the file lacks or has
wrong is found by running, as far as that goes without containers.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


def drawn_secrets() -> dict[str, str]:
    """What ``docker/.env.example`` asks to fill in, filled in."""
    from cryptography.fernet import Fernet

    from synth.settings import new_workspace_key

    lines = (DOCKER / ".env.example").read_text().splitlines()
    names = [line.partition("=")[0] for line in lines if "=change-me" in line]
    of_their_own = {"FERNET_KEY": Fernet.generate_key().decode(), "WORKSPACE_KEY": new_workspace_key()}
    return {name: secrets.token_hex(32) for name in names} | of_their_own


class Compose:
    """The services of the file.

    :param variables: what ``docker/.env`` would hold.
    :param places: what stands for each address and folder of the containers.
    """

    def __init__(self, variables: Mapping[str, str], places: Mapping[str, str]) -> None:
        self._services: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
        self._variables, self._places = variables, places

    def environment(self, service: str) -> dict[str, str]:
        found = self._services[service]["environment"]
        return {name: self._here(str(value)) for name, value in found.items()}

    def command(self, service: str) -> list[str]:
        """As the entry point of Airflow's image takes it: a command of Airflow, unless it is one of the shell."""
        command = self._services[service]["command"]
        words = [self._here(word) for word in (shlex.split(command) if isinstance(command, str) else command)]
        return words if words[0] == "bash" else ["airflow", *words]

    def _here(self, text: str) -> str:
        text = _VARIABLE.sub(self._value, text)
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def _value(self, variable: re.Match[str]) -> str:
        if variable["name"] not in self._variables and variable["kind"] == "-":
            return variable["text"]
        return self._variables[variable["name"]]
