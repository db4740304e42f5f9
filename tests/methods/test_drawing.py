"""What drawing promises whichever model it draws from."""

from __future__ import annotations

import pandas as pd
import pytest

from synth.methods.tabular.drawing import TabularModel
from tests.methods import test_dpdsyn, test_dpdsyn_mixture
from tests.methods.test_dpdsyn import drawn


@pytest.fixture(scope="module", params=["independent", "mixture"])
def model(request: pytest.FixtureRequest) -> TabularModel:
    if request.param == "independent":
        return test_dpdsyn.fit({}, 1600)[0]
    return test_dpdsyn_mixture.fit(test_dpdsyn_mixture.MIXTURE, 1600)[0]


def test_the_same_model_and_seed_draw_the_same_rows(model: TabularModel) -> None:
    pd.testing.assert_frame_equal(drawn(model, 500), drawn(model, 500))
    assert not drawn(model, 500).equals(drawn(model, 500, seed=2))


def test_rows_come_in_chunks_that_add_up(model: TabularModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth.methods.tabular.drawing._BLOCK", 128)
    chunks = list(model.frames(1000, 3))
    assert [len(chunk) for chunk in chunks] == [128] * 7 + [104]
    again = list(model.frames(300, 3))
    pd.testing.assert_frame_equal(again[0], chunks[0])
    assert len({chunk.to_csv() for chunk in chunks}) == len(chunks)
