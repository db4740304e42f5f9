"""DP-SGD as it runs: the gradients that reach the optimizer, and what is returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import nn

from synth import dpsgd
from synth.device import DeviceNormal
from synth.dpsgd import SecureDPOptimizer, TrainingSettings, normal_on, train
from synth.events import PoissonGaussian
from synth.randomness import standard_normal
from tests.chance import ALPHA, normal_scale_p
from tests.dpsgd_runs import SETTINGS, Rows, each_alone, linear, random_rows, run

Patch = Callable[[pytest.MonkeyPatch], None]


def without_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dpsgd, "standard_normal", np.zeros)


def halved_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dpsgd, "standard_normal", lambda count: standard_normal(count) * 0.5)


def slightly_less_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dpsgd, "standard_normal", lambda count: standard_normal(count) * 0.97)


def one_seed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dpsgd, "standard_normal", lambda count: np.random.default_rng(0).standard_normal(count))


def everyone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dpsgd, "poisson_mask", lambda count, rate: np.ones(count, bool))


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    clip = SecureDPOptimizer.clip_and_accumulate

    def unclipped(self: SecureDPOptimizer) -> None:
        norm, self.max_grad_norm = self.max_grad_norm, 1e12
        clip(self)
        self.max_grad_norm = norm

    patch.setattr(SecureDPOptimizer, "clip_and_accumulate", unclipped)


def clipping_each_parameter(patch: pytest.MonkeyPatch) -> None:
    def per_parameter(self: SecureDPOptimizer) -> None:
        for parameter, sample in zip(self.params, self.grad_samples, strict=True):
            norms = sample.reshape(len(sample), -1).norm(dim=1)
            factors = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1)
            added = torch.einsum("i,i...", factors, sample)
            parameter.summed_grad = added if parameter.summed_grad is None else parameter.summed_grad + added

    patch.setattr(SecureDPOptimizer, "clip_and_accumulate", per_parameter)


def actual_batch(patch: pytest.MonkeyPatch) -> None:
    def divide(self: SecureDPOptimizer) -> None:
        for parameter in self.params:
            parameter.grad /= max(1, len(parameter.grad_sample))

    patch.setattr(SecureDPOptimizer, "scale_grad", divide)


def broken_rows_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dpsgd.torch, "nan_to_num_", lambda tensor, **_: tensor)


def check_noise() -> None:
    """Nobody's data: the gradient is noise of the declared scale over the expected batch, fresh in every step."""
    event = PoissonGaussian(1.3, 0.1, 4)
    seen = run(Rows(np.zeros((0, 9_999)), []), event)
    assert len(seen) == 4
    noise = np.concatenate(seen)
    assert normal_scale_p(noise, 1.3 * SETTINGS.clipping_norm / SETTINGS.expected_batch) >= ALPHA / 2
    assert stats.kstest(noise / noise.std(), "norm").pvalue >= ALPHA / 2
    again = run(Rows(np.zeros((0, 9_999)), []), replace(event, steps=1))
    assert (seen[0] != seen[1]).any()
    assert (seen[0] != again[0]).any()


@pytest.mark.statistical
def test_the_noise_is_the_declared_noise() -> None:
    """Fails about once in a million runs."""
    check_noise()


@pytest.mark.statistical
def test_the_noise_of_a_devices_own_generator_is_the_declared_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator of the CPU stands in for that of a GPU. Fails about once in a million runs."""
    monkeypatch.setattr(dpsgd, "normal_on", DeviceNormal)
    check_noise()


def test_a_devices_generator_that_is_seeded_alike_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpsgd, "normal_on", DeviceNormal)
    monkeypatch.setattr("synth.device.random_words", lambda count: np.full(count, 7, np.uint64))
    with pytest.raises(AssertionError):
        check_noise()


def test_the_noise_is_drawn_by_what_the_statement_says_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU the operating system draws; anything else has a generator of its own."""
    assert not isinstance(normal_on(torch.device("cpu")), DeviceNormal)
    made = []
    monkeypatch.setattr(dpsgd, "DeviceNormal", lambda device: made.append(device) or device)
    assert normal_on(torch.device("cuda")) == torch.device("cuda")
    assert made == [torch.device("cuda")]


def test_the_global_generators_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpsgd, "normal_on", DeviceNormal)
    model, before = linear(3), (torch.random.get_rng_state(), np.random.get_state()[1])
    train(model, each_alone(30), random_rows(30, 3), PoissonGaussian(1.0, 0.5, 3), replace(SETTINGS, steps=3))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize("breaking", [halved_noise, slightly_less_noise, without_noise, one_seed])
def test_other_noise_is_caught(monkeypatch: pytest.MonkeyPatch, breaking: Patch) -> None:
    breaking(monkeypatch)
    with pytest.raises(AssertionError):
        check_noise()


def check_influence(patch: pytest.MonkeyPatch) -> None:
    """One row, however large, moves the sum by at most the clipping norm; ordinary rows move it by what they are."""
    without_noise(patch)
    everyone(patch)
    generator = np.random.default_rng(11)
    for size in (0.1, 1.0, 30.0, 1e6, 1e19, 1e30):
        features = generator.normal(size=(21, 5))
        features[20] *= size
        labels = generator.integers(0, 2, 21)
        event = PoissonGaussian(1.0, 0.5, 1)
        (larger,) = run(Rows(features, labels), event)
        (smaller,) = run(Rows(features[:20], labels[:20]), event)
        moved = float(np.linalg.norm(larger - smaller)) * SETTINGS.expected_batch
        assert moved <= SETTINGS.clipping_norm * (1 + 1e-4)


def test_one_row_moves_the_sum_by_at_most_the_clipping_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    check_influence(monkeypatch)


@pytest.mark.parametrize("breaking", [no_clipping, clipping_each_parameter, actual_batch])
def test_larger_influence_is_caught(monkeypatch: pytest.MonkeyPatch, breaking: Patch) -> None:
    breaking(monkeypatch)
    with pytest.raises(AssertionError):
        check_influence(monkeypatch)


def clipped_sum(features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """By hand, for a softmax regression that starts at zero."""
    residual = np.full((len(labels), 2), 0.5) - np.eye(2)[labels]
    rows = [np.concatenate([np.outer(r, f).ravel(), r]) for r, f in zip(residual, features, strict=True)]
    clipped = [row * min(1.0, SETTINGS.clipping_norm / float(np.linalg.norm(row))) for row in rows]
    return np.sum(clipped, axis=0)


def check_gradient(patch: pytest.MonkeyPatch, expected_batch: float, physical_batch: int) -> None:
    """The sum of clipped gradients over the expected batch, computed by hand."""
    without_noise(patch)
    rows = random_rows(37, 6)
    settings = replace(SETTINGS, expected_batch=expected_batch, physical_batch=physical_batch)
    (seen,) = run(rows, PoissonGaussian(1.0, 0.5, 1), settings)
    chosen = np.concatenate(rows.asked)
    by_hand = clipped_sum(rows.features.double().numpy()[chosen], rows.labels.numpy()[chosen])
    np.testing.assert_allclose(seen * expected_batch, by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("physical_batch", [1, 4, 1000])
@pytest.mark.parametrize("expected_batch", [3.0, 18.5, 500.0])
def test_the_sum_is_divided_by_the_expected_batch_in_however_many_parts(
    monkeypatch: pytest.MonkeyPatch, expected_batch: float, physical_batch: int
) -> None:
    check_gradient(monkeypatch, expected_batch, physical_batch)


@pytest.mark.parametrize("breaking", [actual_batch, no_clipping, clipping_each_parameter])
def test_other_gradients_are_caught(monkeypatch: pytest.MonkeyPatch, breaking: Patch) -> None:
    breaking(monkeypatch)
    with pytest.raises(AssertionError):
        check_gradient(monkeypatch, 500.0, 1000)


def check_broken_rows(patch: pytest.MonkeyPatch) -> None:
    """Rows whose gradient is no number leave the others' as they are, and move the sum by no more than any row."""
    without_noise(patch)
    everyone(patch)
    rows = random_rows(12, 4)
    clean = clipped_sum(rows.features.double().numpy(), rows.labels.numpy())
    for value in (np.nan, np.inf, -np.inf, 3e38):
        features = np.vstack([rows.features.numpy(), np.full((1, 4), value)])
        (seen,) = run(Rows(features, [*rows.labels, 1]), PoissonGaussian(1.0, 0.5, 1))
        assert np.isfinite(seen).all()
        moved = float(np.linalg.norm(seen * SETTINGS.expected_batch - clean))
        assert moved <= SETTINGS.clipping_norm * (1 + 1e-4)


def test_a_row_whose_gradient_is_no_number_does_not_poison_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    check_broken_rows(monkeypatch)


def test_poisoned_gradients_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_rows_kept(monkeypatch)
    with pytest.raises(AssertionError):
        check_broken_rows(monkeypatch)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))], ids=["alone", "nested"]
)
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_layers_that_mix_rows_are_refused(layer: nn.Module, mode: bool) -> None:
    rows = random_rows(5, 4)
    with pytest.raises(ValueError, match="per-row gradients do not allow"):
        train(
            nn.Sequential(layer, nn.Linear(4, 2)).train(mode),
            each_alone(5),
            rows,
            PoissonGaussian(1.0, 0.5, 1),
            SETTINGS,
        )
    assert rows.asked == []


def test_a_model_that_was_evaluated_before_can_be_trained() -> None:
    rows = random_rows(5, 4)
    train(linear(4).eval(), each_alone(5), rows, PoissonGaussian(1.0, 0.5, 1), SETTINGS)
    assert len(rows.asked) == 1


def test_what_is_returned_is_the_average_of_the_weights() -> None:
    """Recomputed from the weights after each step."""
    rows, model, steps = random_rows(40, 3), linear(3), 25
    history = [{name: value.clone() for name, value in model.state_dict().items()}]

    def remember(task: str, done: int, total: int) -> None:
        history.append({name: value.clone() for name, value in model.state_dict().items()})

    averaged = train(
        model,
        each_alone(40),
        rows,
        PoissonGaussian(1.0, 0.5, steps),
        replace(SETTINGS, averaging=0.9, steps=steps),
        remember,
    )
    for name, value in averaged.items():
        expected = history[0][name]
        for step, weights in enumerate(history[1:]):
            decay = min(0.9, (step + 1) / (step + 10))
            expected = decay * expected + (1 - decay) * weights[name]
        torch.testing.assert_close(value, expected)
    assert len(history) == steps + 1


def test_progress_is_public_steps_done_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    told = []
    train(
        linear(3),
        each_alone(40),
        random_rows(40, 3),
        PoissonGaussian(1.0, 0.5, 3),
        replace(SETTINGS, steps=3),
        lambda *args: told.append(args),
    )
    assert told == [("train", 1, 3), ("train", 2, 3), ("train", 3, 3)]
    assert capfd.readouterr() == ("", "")


def test_it_learns() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(size=(2000, 3))
    rows = Rows(features, (features[:, 0] > 0).astype(int))
    settings = TrainingSettings(clipping_norm=1.0, expected_batch=200.0, learning_rate=0.1, steps=60)
    model = linear(3)
    model.load_state_dict(train(model, each_alone(2000), rows, PoissonGaussian(1.0, 0.1, 60), settings))
    right = (model(rows.features).argmax(dim=1) == rows.labels).float().mean()
    assert float(right) > 0.9
