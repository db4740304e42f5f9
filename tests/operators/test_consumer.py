"""The shipped consumer: it waits for the shipped contract's releases, and believes none without looking."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from dags import consume_rand_hie, playground
from operators.dag import build_dag
from synth.contract import load_contract
from tests.operators.conftest import World


def verified(**announced: Any) -> Any:
    """What the first task makes of a release's event."""
    verify = consume_rand_hie.consume_rand_hie().get_task("verify")
    return verify.python_callable({consume_rand_hie.RELEASE: [SimpleNamespace(extra=announced)]})


def test_it_waits_for_the_releases_of_the_shipped_contract_and_reads_its_columns() -> None:
    contract = load_contract(playground.CONTRACT)
    assert build_dag(contract).get_task("publish").outlets == [consume_rand_hie.RELEASE]
    assert {consume_rand_hie.GROUP, consume_rand_hie.OUTCOME} <= set(contract.columns)


@pytest.mark.slow
def test_a_release_that_is_not_as_its_event_says_is_not_read(in_world: World) -> None:
    published = in_world.xcoms("share_people")["publish"]
    event = {name: published[name] for name in ("version", "uri", "epsilon", "delta", "rows")}
    assert verified(**event) == event
    for name, other in {"version": "20270101-000000000000", "epsilon": 0.1, "rows": 1}.items():
        with pytest.raises(AirflowFailException, match=rf"not as announced: \['{name}'\]"):
            verified(**event | {name: other})
    with pytest.raises(AirflowFailException, match=r"manifest\.json is missing"):
        verified(**event | {"uri": str(in_world.home / "bucket")})
