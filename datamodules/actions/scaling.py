"""Scaling of actions from the data's units to [-1, 1], fitted to the training demonstrations, and its inverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.errors import DataError, check_at_least

ScalingMethod = Literal["none", "min_max", "quantiles", "mean_std"]

KEY = "action_scaling"
"""Name of the scaling in the interface of a datamodule, and thus in a checkpoint."""

QUANTILES = (0.01, 0.99)


@dataclass(frozen=True)
class ActionScaling:
    """The map a -> (a - center) / half_range of each action component; a constant component becomes 0.

    Attributes:
        method: how the numbers were chosen, see `fit`.
        center: the value in the data's units that becomes 0, (A,).
        half_range: distance from the center that becomes 1, (A,); 0 for a component that is constant in the training
            actions, which `restore` sets to its center.
    """

    method: str
    center: tuple[float, ...]
    half_range: tuple[float, ...]

    @classmethod
    def fit(
        cls, method: ScalingMethod, actions: npt.NDArray[Any], margin: float, kept: Sequence[int] = ()
    ) -> ActionScaling | None:
        """Choose the scaling from training actions.

        - none: actions already lie in [-1, 1]; the result is None.
        - min_max: the smallest and the largest action become -1 and 1.
        - quantiles: the 1 % and the 99 % quantile become -1 and 1; `scale` clips the others.
        - mean_std: the mean becomes 0, and all components get the same standard deviation, the largest for which no
          training action leaves [-1, 1].

        Args:
            method: none, min_max, quantiles or mean_std.
            actions: all training actions (N, A), in the data's units.
            margin: fraction by which the half range is enlarged, so that a policy can act a little outside the
                demonstrated range.
            kept: components to leave as they are, such as those of rotations.

        Raises:
            DataError: the margin is negative, all components are constant, or one is constant only between the two
                quantiles.
        """
        check_at_least(0, action_margin=margin)
        if method == "none":
            return None
        actions = actions.astype(np.float64)
        low, high = actions.min(axis=0), actions.max(axis=0)
        center, half = (low + high) / 2.0, np.zeros(actions.shape[1])
        moving = np.setdiff1d(np.flatnonzero(~_is_constant(center, (high - low) / 2.0)), kept)
        center[[*kept]], half[[*kept]] = 0.0, 1.0
        if not half.any() and len(moving) == 0:
            raise DataError(
                f"action_scaling {method} needs a component of the actions that changes in the training demos, got "
                f"{len(center)} constant components: use other demos."
            )
        values = actions[:, moving]
        if method == "mean_std":
            center[moving], spread = values.mean(axis=0), values.std(axis=0)
            widest = np.max(np.abs(values - center[moving]) / spread, initial=0.0)
            half[moving] = spread * widest * (1.0 + margin)
        else:
            low, high = np.quantile(values, (0.0, 1.0) if method == "min_max" else QUANTILES, axis=0)
            center[moving], spread = (low + high) / 2.0, (high - low) / 2.0
            _refuse_constant(moving, center[moving], spread)
            half[moving] = spread * (1.0 + margin)
        return cls(method, tuple(center.tolist()), tuple(half.tolist()))

    @classmethod
    def from_interface(cls, interface: Mapping[str, Any] | None) -> ActionScaling | None:
        """Return the scaling that the interface of a checkpoint records; None if actions were not scaled.

        Raises:
            DataError: the record is damaged.
        """
        record = (interface or {}).get(KEY)
        if record is None:
            return None
        try:
            center, half = ([float(number) for number in record[name]] for name in ("center", "half_range"))
            sizes_valid = all(0.0 <= size < float("inf") for size in half) and any(half)
            if len(center) != len(half) or not sizes_valid:
                raise ValueError("half_range must be at least 0, above 0 somewhere, and as long as center")
            return cls(str(record["method"]), tuple(center), tuple(half))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"expected {KEY} with method, center and half_range in the checkpoint's interface, got {record!r} "
                f"({error}). Use another checkpoint."
            ) from error

    def record(self) -> dict[str, Any]:
        """Return the numbers as plain values, for the interface."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def scale(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Map actions (..., A) from the data's units to [-1, 1] and clip them; a constant component becomes 0."""
        half = np.array(self.half_range)
        scaled = (actions.astype(np.float64) - self.center) / np.where(half > 0.0, half, np.inf)
        return scaled.clip(-1.0, 1.0).astype(np.float32)

    def restore(self, actions: Tensor) -> Tensor:
        """Map actions (..., A) from [-1, 1] to the data's units."""
        center, half_range = (
            torch.tensor(numbers, dtype=actions.dtype, device=actions.device)
            for numbers in (self.center, self.half_range)
        )
        return center + half_range * actions


def described(record: Any) -> str:
    """Describe the record of a scaling in the interface of a datamodule or a checkpoint, for error messages."""
    if not isinstance(record, Mapping):
        return "none"
    centers = ", ".join(f"{number:.4g}" for number in record.get("center", ()))
    ranges = ", ".join(f"{number:.4g}" for number in record.get("half_range", ()))
    return f"{record.get('method')} ({centers} ± {ranges})"


def _is_constant(center: npt.NDArray[np.float64], spread: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return for each component whether its half range is only rounding."""
    constant: npt.NDArray[np.bool_] = spread <= 1e-6 * np.maximum(np.abs(center), 1.0)
    return constant


def _refuse_constant(
    components: npt.NDArray[np.intp], center: npt.NDArray[np.float64], spread: npt.NDArray[np.float64]
) -> None:
    constant = np.flatnonzero(_is_constant(center, spread))
    if len(constant):
        component, value = components[constant[0]], center[constant[0]]
        raise DataError(
            f"action_scaling quantiles needs a range of values in each component of the actions, got a constant "
            f"{value:.6g} in component {component} between the 1 % and the 99 % quantile: set "
            "data.init_args.action_scaling to min_max, or remove the component from the data."
        )
