import torch
from torch.testing import assert_close

from difftori_pl.trajopt.problem import Evaluation
from difftori_pl.trajopt.quarantine import is_finite, sever, stand_in
from difftori_pl.trajopt.solvers import SolverState


def test_is_finite_covers_whole_elements():
    tensor = torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [0.0, torch.inf]])
    assert is_finite(tensor).tolist() == [True, False, False]
    assert is_finite(tensor[:, 0]).tolist() == [True, False, True]


def test_stand_in_copies_the_first_healthy_element():
    values = torch.tensor([[torch.nan], [2.0], [3.0]], requires_grad=True)
    replaced = stand_in(torch.tensor([True, False, True]), values)
    assert replaced.flatten().tolist() == [2.0, 2.0, 2.0]
    replaced.sum().backward()
    assert values.grad.flatten().tolist() == [0.0, 1.0, 0.0]


def test_stand_in_replaces_every_tensor_of_a_record():
    evaluation = Evaluation(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]).view(2, 1, 1))
    state = SolverState(torch.tensor([5.0, 6.0]).view(2, 1, 1), evaluation)
    replaced = stand_in(torch.tensor([True, False]), state)
    assert replaced.iterate.flatten().tolist() == [6.0, 6.0]
    assert replaced.evaluation.value.tolist() == [2.0, 2.0]
    assert replaced.evaluation.gradient.flatten().tolist() == [4.0, 4.0]


def test_severed_tensor_passes_no_gradient_even_through_nan():
    weight = torch.ones(2, requires_grad=True)
    anchor = (weight * torch.nan).sum()
    severed = sever(torch.tensor([1.0, 2.0]), anchor)
    assert_close(severed.detach(), torch.tensor([1.0, 2.0]))
    severed.square().sum().backward()
    assert weight.grad is None
