"""Print the errors of low-precision solves and gradients against float64.

    python benchmarks/precision.py

All solves maximise the same random score. `TrajOptLayer` disables autocast during a solve; the rows `bfloat16` show the
errors without this.
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
        for name in ("float32", "bfloat16"):
            found, found_gradient = solve(score, latent, start, n_steps, torch.float32, bfloat16=name == "bfloat16")
            error = (found - actions).abs().mean() / distance
            gradient_error = (found_gradient - gradient).norm() / gradient.norm()
            print(f"| {scale} | {n_steps} | {name} | {error:.1e} | {gradient_error:.1e} |")


def solve(
    score: Score, latent: Tensor, start: Tensor, n_steps: int, dtype: torch.dtype, bfloat16: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the actions (B, 1, A) and the flattened gradient of a loss of them, both in float64.

    Args:
        score: the score to maximise.
        latent: input of the score (B, Z).
        start: initial actions (B, 1, A).
        n_steps: number of solver steps.
        dtype: dtype of weights and inputs.
        bfloat16: whether to compute the score under bfloat16 autocast.
    """
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=n_steps), Unroll(), StraightThroughProjection())
    score = score.to(dtype)

    def score_in_precision(latent: Tensor, actions: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else nullcontext():
            return score(latent, actions)

    actions = layer(ActionScore(score_in_precision), latent.to(dtype), start.to(dtype)).actions
    gradients = torch.autograd.grad((actions - 1).square().mean(), list(score.parameters()))
    flat = torch.cat([gradient.flatten().double() for gradient in gradients])
    return actions.detach().double(), flat


if __name__ == "__main__":
    main()
