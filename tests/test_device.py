"""Where attempts at training ran is on record, those that died included."""

from __future__ import annotations

import pytest
import torch

from synth import steps
from synth.assembly import training_devices
from synth.device import training_device
from synth.errors import TamperedArtifact
from tests.conftest import Deployment, after_validation, train_that_dies


def test_a_retry_elsewhere_leaves_both_devices_on_record(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt on the GPU dies after its mechanism started: it was charged, so the statement must name it."""
    run = after_validation(deployment.run())
    with pytest.raises(TamperedArtifact):
        training_devices(run)
    with monkeypatch.context() as patch:
        patch.setattr("synth.assembly.training_device", lambda: torch.device("cuda"))
        train_that_dies(run, monkeypatch)
    assert training_devices(run) == ("cuda",)
    steps.train(run)
    here = training_device().type
    assert training_devices(run) == tuple(sorted({here, "cuda"}))
    steps.train(run)
    assert training_devices(run) == tuple(sorted({here, "cuda"}))


def test_a_method_that_draws_no_noise_where_it_trains_tells_no_device(deployment: Deployment) -> None:
    mixture = {"name": "dpdsyn", "options": {"structure": "mixture", "components": 10}}
    run = after_validation(deployment.run(method=mixture))
    steps.train(run)
    assert training_devices(run) == ()
    assert not list((run.workspace.root / "public").glob("training-*"))
