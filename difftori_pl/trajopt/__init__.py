"""Differentiable trajectory optimisation for learned objectives; tensors only, usable on its own.

```python
layer = TrajOptLayer(LevenbergMarquardt(max_steps=100), Truncated(n_steps=5), Projection(low=-1.0, high=1.0))
solution = layer(lambda latent, actions: model(latent, actions), latent, actions)  # (B, Z), (B, H, A)
loss = (solution.actions - target).square().mean()
```
"""

from difftori_pl.trajopt.check import check_objective
from difftori_pl.trajopt.landscape import Landscape, draw_landscape, landscape
from difftori_pl.trajopt.layer import TrajOptLayer
from difftori_pl.trajopt.objective import ActionScore, ChunkScore, Objective, OptimisedTerminalReturn, RolloutReturn
from difftori_pl.trajopt.solution import Solution, Status
from difftori_pl.trajopt.starts import policy_rollouts, shift
from difftori_pl.trajopt.trace import Trace

__all__ = [
    "ActionScore",
    "ChunkScore",
    "Landscape",
    "Objective",
    "OptimisedTerminalReturn",
    "RolloutReturn",
    "Solution",
    "Status",
    "Trace",
    "TrajOptLayer",
    "check_objective",
    "draw_landscape",
    "landscape",
    "policy_rollouts",
    "shift",
]
