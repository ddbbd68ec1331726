"""The scaling of actions: ranges, clipping, and its inverse."""

import numpy as np
import pytest
import torch

from datamodules.actions.scaling import ActionScaling
from datamodules.errors import DataError

ACTIONS = np.random.default_rng(0).normal((10.0, -100.0), (2.0, 40.0), (1000, 2))


def fitted(method: str, margin: float = 0.0) -> ActionScaling:
    scaling = ActionScaling.fit(method, ACTIONS, margin)  # type: ignore[arg-type]
    assert scaling is not None
    return scaling


@pytest.mark.parametrize("method", ["min_max", "mean_std"])
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_no_training_action_is_clipped_and_restoring_is_the_inverse(method: str, margin: float) -> None:
    scaling = fitted(method, margin)
    scaled = scaling.scale(ACTIONS)
    assert scaled.dtype == np.float32
    assert np.abs(scaled).max() == pytest.approx(1.0 / (1.0 + margin), rel=1e-6)
    restored = scaling.restore(torch.from_numpy(scaled).double()).numpy()
    np.testing.assert_allclose(restored, ACTIONS, rtol=0, atol=1e-5)  # float32 in between


def test_min_max_reaches_both_ends() -> None:
    scaled = fitted("min_max").scale(ACTIONS)
    np.testing.assert_allclose(scaled.min(axis=0), [-1, -1], atol=1e-6)
    np.testing.assert_allclose(scaled.max(axis=0), [1, 1], atol=1e-6)


def test_quantiles_clip_one_percent_at_each_end() -> None:
    scaled = fitted("quantiles").scale(ACTIONS)
    for component in (0, 1):
        assert (scaled[:, component] == -1).sum() == pytest.approx(10, abs=1)
        assert (scaled[:, component] == 1).sum() == pytest.approx(10, abs=1)


def test_mean_std_gives_all_components_one_spread() -> None:
    scaled = fitted("mean_std").scale(ACTIONS)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-6)
    first, second = scaled.std(axis=0)
    assert first == pytest.approx(second, rel=1e-5)


@pytest.mark.parametrize("constant", [5.1, 0.0, -1e6])
@pytest.mark.parametrize("method", ["min_max", "quantiles", "mean_std"])
def test_a_constant_component_becomes_0_and_the_constant_again(method: str, constant: float) -> None:
    actions = np.insert(ACTIONS, 1, constant, axis=1)
    scaling = ActionScaling.fit(method, actions, 0.05)  # type: ignore[arg-type]
    assert scaling is not None
    scaled = scaling.scale(actions)
    assert (scaled[:, 1] == 0.0).all()
    np.testing.assert_array_equal(scaled[:, [0, 2]], fitted(method, 0.05).scale(ACTIONS))
    policy = torch.tensor([[0.3, -0.7, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    restored = ActionScaling.from_interface({"action_scaling": scaling.record()}).restore(policy)  # type: ignore[union-attr]
    assert (restored[:, 1] == constant).all()
    torch.testing.assert_close(restored[:, [0, 2]], fitted(method, 0.05).restore(policy[:, [0, 2]]))


def test_a_component_that_changes_once_is_scaled() -> None:
    actions = np.column_stack([ACTIONS, np.full(len(ACTIONS), 5.0)])
    actions[0, 2] += 0.01
    for method in ("min_max", "mean_std"):
        scaling = ActionScaling.fit(method, actions, 0.0)  # type: ignore[arg-type]
        assert scaling is not None
        assert scaling.scale(actions)[0, 2] == pytest.approx(1.0)


def test_only_constant_components_are_refused() -> None:
    constant = np.ones((10, 2))
    with pytest.raises(DataError, match=r"action_scaling min_max needs a component .* that changes .* 2 constant"):
        ActionScaling.fit("min_max", constant, 0.0)
    assert ActionScaling.fit("min_max", constant, 0.0, kept=[1]) == ActionScaling("min_max", (1.0, 0.0), (0.0, 1.0))


def test_a_component_that_rarely_moves_has_no_quantiles() -> None:
    actions = np.column_stack([ACTIONS, np.r_[1.0, np.zeros(len(ACTIONS) - 1)]])
    with pytest.raises(DataError, match=r"between the 1 % and the 99 % quantile: set .*action_scaling to min_max"):
        ActionScaling.fit("quantiles", actions, 0.05)
    assert ActionScaling.fit("min_max", actions, 0.05) is not None


def test_none() -> None:
    assert ActionScaling.fit("none", ACTIONS, 0.0) is None
    assert ActionScaling.from_interface({"action_scaling": None}) is None
    assert ActionScaling.from_interface(None) is None


def test_the_record_is_plain_and_complete() -> None:
    scaling = fitted("quantiles", 0.05)
    record = scaling.record()
    assert {type(number) for number in record["center"] + record["half_range"]} == {float}
    assert ActionScaling.from_interface({"action_scaling": record}) == scaling


@pytest.mark.parametrize(
    "record",
    [
        {"method": "min_max", "center": [0.0]},
        {"method": "min_max", "center": [0.0], "half_range": [0.0]},
        {"method": "min_max", "center": [0.0, 0.0], "half_range": [-1.0, 1.0]},
        {"method": "min_max", "center": [0.0], "half_range": [1.0, 2.0]},
        {"method": "min_max", "center": ["x"], "half_range": [1.0]},
        7,
    ],
)
def test_a_damaged_record_is_refused(record: object) -> None:
    with pytest.raises(DataError, match="expected action_scaling with method, center and half_range"):
        ActionScaling.from_interface({"action_scaling": record})


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(DataError, match=r"action_margin must be at least 0, got -0\.1"):
        fitted("min_max", -0.1)
