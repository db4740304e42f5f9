"""### A consumer of the demonstration's releases

Starts by itself whenever `share_rand_hie` has published a release, because a release updates an asset. The event says
where the release is and what is claimed about it; the first task checks both, and the second reads the rows as any
other Parquet.

A consumer needs nothing of Sluice but the check, and no access to the private table, its ledger or its policy.
"""

import logging
from typing import Any

from airflow.sdk import Asset, dag, task
from airflow.sdk.exceptions import AirflowFailException

log = logging.getLogger(__name__)

RELEASE = Asset(name="release_rand_hie", group="sluice")
GROUP, OUTCOME = "coins", "binexp"


@dag(
    schedule=[RELEASE],
    catchup=False,
    allowed_run_types=["asset_triggered"],  # type: ignore[list-item]
    doc_md=__doc__,
    tags={"sluice", "consumer"},
)
def consume_rand_hie() -> None:
    @task
    def verify(triggering_asset_events: Any = None) -> dict[str, Any]:
        """The newest release of the event, if its files, rows and claim hold."""
        from synth.release.verify import verify_release

        release: dict[str, Any] = triggering_asset_events[RELEASE][-1].extra
        found = verify_release(release["uri"])
        differing = [name for name, told in release.items() if found.facts.get(name) != told]
        if found.problems or differing:
            raise AirflowFailException(f"{release['uri']}: {'; '.join(found.problems)}; not as announced: {differing}")
        return release

    @task
    def summarise(release: Any) -> dict[str, Any]:
        """How often each group had the outcome; for real work this would be a model's training."""
        import pandas as pd

        rows = pd.read_parquet(f"{release['uri']}/data")
        table = rows.groupby(GROUP, observed=True)[OUTCOME].agg(["size", "mean"]).round(3)
        log.info("%s by %s in %s rows of version %s:\n%s", OUTCOME, GROUP, len(rows), release["version"], table)
        shares = {str(group): share for group, share in table["mean"].items()}
        return {"version": release["version"], "rows": len(rows), f"{OUTCOME}_by_{GROUP}": shares}

    summarise(verify())


consume_rand_hie()
