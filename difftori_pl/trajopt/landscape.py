"""Plots of a solve: the objective over two action components, with the iterates on it (Figure 5)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError, MissingPackageError
from difftori_pl.trajopt.objective import Latent, Objective
from difftori_pl.trajopt.solution import Solution
from difftori_pl.trajopt.tree import map_tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Component = tuple[int, int]
"""A time step and the index of an action component at that step."""


@dataclass(frozen=True)
class Landscape:
    """The objective on a plane through the solution of one batch element; other components keep their solution value.

    Attributes:
        components: the two components that vary.
        grid: values of each component (N,).
        values: the objective (N, N); the first component varies along the first dimension.
        path: the two components of the start and of all iterates (T + 1, 2); without a trace the solution alone (1, 2).
            It is a projection onto the plane: the other components of an iterate differ from those of the solution.
    """

    components: tuple[Component, Component]
    grid: Tensor
    values: Tensor
    path: Tensor


@torch.no_grad()
def landscape(
    objective: Objective,
    latent: Latent,
    solution: Solution,
    element: int = 0,
    components: tuple[Component, Component] = ((0, 0), (0, 1)),
    low: float = -1.0,
    high: float = 1.0,
    n_points: int = 41,
) -> Landscape:
    """Evaluate the objective around a solution.

    Args:
        objective: the objective that was maximised.
        latent: the latent it was conditioned on (B, Z).
        solution: the result of the solve; solve with `trace=True` to include the iterates.
        element: index of the batch element.
        components: the two components to vary.
        low: lower end of the grid.
        high: upper end of the grid.
        n_points: number N of grid points per axis.

    Raises:
        ConfigurationError: a component does not exist.
    """
    actions = solution.actions[element].detach()
    for step, component in components:
        if not (0 <= step < actions.shape[0] and 0 <= component < actions.shape[1]):
            raise ConfigurationError(
                f"components must be (time step, component) within actions of shape {tuple(actions.shape)}, "
                f"got {(step, component)}"
            )
    grid = torch.linspace(low, high, n_points, dtype=actions.dtype, device=actions.device)
    plane = actions.expand(n_points, n_points, *actions.shape).clone()
    (step_1, component_1), (step_2, component_2) = components
    plane[:, :, step_1, component_1] = grid.unsqueeze(1)
    plane[:, :, step_2, component_2] = grid.unsqueeze(0)
    repeated = map_tensors(lambda tensor: tensor[element : element + 1].expand(n_points**2, *tensor.shape[1:]), latent)
    values = objective(repeated, plane.flatten(0, 1)).view(n_points, n_points)
    path = actions.unsqueeze(0) if solution.trace is None else solution.trace.actions[element]
    path = torch.stack([path[:, step, component] for step, component in components], dim=1)
    return Landscape(components, grid, values, path[torch.isfinite(path).all(dim=1)])


def draw_landscape(landscape: Landscape) -> Figure:
    """Draw contours, the path of the iterates from white to red, and the highest grid point as a star.

    Save the figure with `figure.savefig("landscape.png")` or log it with `SummaryWriter.add_figure`.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    figure: Any = _figure_class()(figsize=(4.5, 4.0), layout="constrained")
    axes = figure.subplots()
    grid, values = landscape.grid.double().cpu().numpy(), landscape.values.double().cpu().numpy()
    contours = axes.contourf(grid, grid, values.T, levels=30, cmap="viridis")
    figure.colorbar(contours, ax=axes, label="return")
    path = landscape.path.double().cpu().numpy()
    axes.plot(path[:, 0], path[:, 1], color="white", linewidth=0.8, zorder=2)
    axes.scatter(
        path[:, 0], path[:, 1], c=range(len(path)), cmap="Reds", s=14, edgecolors="black", linewidths=0.3, zorder=3
    )
    best = divmod(int(landscape.values.argmax()), len(grid))
    axes.plot(grid[best[0]], grid[best[1]], marker="*", markersize=11, color="gold", markeredgecolor="black")
    (step_1, component_1), (step_2, component_2) = landscape.components
    axes.set_xlabel(f"action component {component_1} at step {step_1}")
    axes.set_ylabel(f"action component {component_2} at step {step_2}")
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(grid[0], grid[-1])
    return figure


def _figure_class() -> Any:
    # Unlike pyplot, this needs no display, has no global state and leaves no figure to close.
    try:
        return import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as error:
        raise MissingPackageError("drawing needs the package matplotlib: pip install 'difftori-pl[plot]'") from error
