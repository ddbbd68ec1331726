"""What low precision does to a solve and its gradient: errors against float64, in one table.

    python benchmarks/precision.py

Each solve is of random scores with the same weights. `TrajOptLayer` leaves autocast before it solves; the rows
`bfloat16` are what would come of not doing so.
"""

import itertools
from contextlib import nullcontext

import torch
from torch import Tensor

from difftori_pl import LevenbergMarquardt, StraightThroughProjection, TrajOptLayer, Unroll
from difftori_pl.models.cvae import Score
from difftori_pl.trajopt import ActionScore

BATCH, ACTION_DIM, LATENT_DIM = 256, 7, 114


def main() -> None:
    print(
        "| last layer's weights | steps | solved in | error of the actions / distance moved | error of the gradient |"
    )
    print("|---|---|---|---|---|")
    for scale, n_steps in itertools.product((0.3, 1.0), (5, 100)):
        torch.manual_seed(1)
        score = Score(LATENT_DIM, ACTION_DIM)
        torch.nn.init.normal_(score.net[-1].weight, std=scale / 512**0.5)
        latent, start = torch.randn(BATCH, LATENT_DIM), 0.5 * torch.randn(BATCH, 1, ACTION_DIM)
        actions, gradient = solve(score, latent, start, n_steps, torch.float64)
        distance = (actions - start).abs().mean()
        for name, inside in (("float32", False), ("bfloat16", True)):
            found, found_gradient = solve(score, latent, start, n_steps, torch.float32, inside)
            error = (found - actions).abs().mean() / distance
            gradient_error = (found_gradient - gradient).norm() / gradient.norm()
            print(f"| {scale} | {n_steps} | {name} | {error:.1e} | {gradient_error:.1e} |")


def solve(
    score: Score, latent: Tensor, start: Tensor, n_steps: int, dtype: torch.dtype, bfloat16: bool = False
) -> tuple[Tensor, Tensor]:
    """Actions, and the gradient of a loss of them, both in float64.

    Args:
        score: what is maximised.
        latent: (B, Z).
        start: initial actions (B, 1, A).
        n_steps: of the solver.
        dtype: of weights and inputs.
        bfloat16: compute the score under autocast, within the solve.
    """
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=n_steps), Unroll(), StraightThroughProjection())
    score = score.to(dtype)

    def low(latent: Tensor, actions: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else nullcontext():
            return score(latent, actions)

    actions = layer(ActionScore(low), latent.to(dtype), start.to(dtype)).actions
    gradients = torch.autograd.grad((actions - 1).square().mean(), list(score.parameters()))
    flat = torch.cat([gradient.flatten().double() for gradient in gradients])
    return actions.detach().double(), flat


if __name__ == "__main__":
    main()
