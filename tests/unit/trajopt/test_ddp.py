"""A module with the layer under DistributedDataParallel: two processes compute the gradient of one."""

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from difftori_pl.trajopt import ActionScore, TrajOptLayer
from difftori_pl.trajopt.backward import Implicit, Truncated
from difftori_pl.trajopt.solvers import LBFGS, LevenbergMarquardt
from tests import cases

TIMEOUT = 150.0

LAYERS = [(LevenbergMarquardt(**cases.SETTINGS), Truncated(5)), (LBFGS(max_steps=8), Implicit(tolerance=torch.inf))]


class _Policy(nn.Module):
    def __init__(self, solver, mode):
        super().__init__()
        self.encoder = nn.Linear(4, 5)
        # No bias in the last layer: it does not change the actions, and DDP would wait for its missing gradient.
        self.score = nn.Sequential(nn.Linear(8, 8), nn.ELU(), nn.Linear(8, 1, bias=False))
        self.layer = TrajOptLayer(solver, mode)

    def forward(self, obs):
        score = ActionScore(lambda z, a: self.score(torch.cat((z, a), dim=1)).squeeze(1) - a.square().sum(dim=1))
        return self.layer(score, self.encoder(obs).tanh(), obs.new_zeros(len(obs), 1, 3)).actions


def _gradients(rank, n_ranks, store, n_steps=2):
    """Return the gradients of each of `n_steps` descent steps on this rank's part of the batch."""
    found = []
    if n_ranks > 1:
        distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=n_ranks)
    for layer in LAYERS:
        torch.manual_seed(0)
        policy = _Policy(*layer).double()
        wrapped = DistributedDataParallel(policy) if n_ranks > 1 else policy
        obs = torch.randn(4, 4).double()[rank::n_ranks]
        for _ in range(n_steps):
            policy.zero_grad()
            wrapped(obs).square().mean().backward()
            found.append([parameter.grad.clone() for parameter in policy.parameters()])
            torch.optim.SGD(policy.parameters(), lr=0.1).step()
    if n_ranks > 1:
        distributed.barrier()  # a rank that leaves early may keep the other one waiting
        distributed.destroy_process_group()
        torch.save(found, f"{store}.{rank}")
    return found


@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_compute_the_gradient_of_one(tmp_path):
    store = tmp_path / "store"
    processes = multiprocessing.spawn(_gradients, args=(2, str(store)), nprocs=2, join=False)
    if not processes.join(timeout=TIMEOUT) and not processes.join(timeout=TIMEOUT):  # returns once one has ended
        for process in processes.processes:
            process.kill()
        pytest.fail(f"two processes did not finish within {2 * TIMEOUT:g} s")
    expected = _gradients(0, 1, "")
    assert all(gradient.abs().max() > 0 for step in expected for gradient in step)
    for rank in (0, 1):
        assert_close(torch.load(f"{store}.{rank}"), expected, rtol=1e-10, atol=1e-12)
