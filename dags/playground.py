"""A deployment to try Sluice in: a small public table, its policy, a bucket, a ledger, all below one folder.

The table is the RAND Health Insurance Experiment, which comes with statsmodels.
"""

from __future__ import annotations

import os
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synth.contract import Policy

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "dags" / "contracts" / "rand_hie.yaml"
POLICY = ROOT / "dags" / "policies" / "rand_hie.yaml"


def enter(folder: Path, more: dict[str, str] | None = None) -> None:
    """Make the deployment's folders and data, and its places the environment of this process; once is enough.

    ``env.sh`` in the folder sets the same environment in a shell.
    """
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "AIRFLOW__"))]:
        del os.environ[name]  # a deployment's own settings do not belong in here
    places = {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "SLUICE_HOME": str(folder / "sluice"),
        "SLUICE_DEMO_DATA": str(folder / "data"),
        "SLUICE_DEMO_BUCKET": str(folder / "bucket"),
        "OMP_NUM_THREADS": "1",  # on a table this small, threads mostly wait for each other
        **(more or {}),
    }
    os.environ |= places
    for name in ("data", "bucket", "sluice", "airflow"):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(_table(), folder / "data" / "rand_hie.csv")
    exports = "".join(f"export {name}={shlex.quote(place)}\n" for name, place in places.items())
    (folder / "env.sh").write_text(exports)


def register_policy() -> Policy:
    """Register the policy of the table's people, as their privacy officer; again changes nothing.

    :raises SystemExit: if the ledger has another one of its name, because policies do not change.
    """
    from synth.contract import load_policy
    from synth.errors import PolicyError
    from synth.ledger import Ledger
    from synth.officer import register
    from synth.settings import Settings

    policy, settings = load_policy(POLICY), Settings.from_environment()
    with Ledger.open(settings.ledger_url) as ledger:
        try:
            register(ledger, settings, policy, by="demo officer")
        except PolicyError as error:
            raise SystemExit(
                f"{error}\nThe demonstration was set up by another version; `make clean` starts it anew"
            ) from None
    return policy


def _table() -> Path:
    package = find_spec("statsmodels")
    if package is None or package.origin is None:
        raise SystemExit("the demonstration's table comes with statsmodels: pip install 'sluice-dp[demo]'")
    return Path(package.origin).parent / "datasets" / "randhie" / "src" / "randhie.csv"
