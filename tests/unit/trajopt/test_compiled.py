import pytest

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Detached
from difftori_pl.trajopt.solvers import NewtonCG, Theseus
from tests import cases


@pytest.mark.parametrize("solver", [NewtonCG, pytest.param(Theseus, marks=cases.needs_theseus)])
def test_refuses_what_cannot_be_compiled(solver):
    with pytest.raises(ConfigurationError, match="cannot be compiled: set compiled to False"):
        TrajOptLayer(solver(), Detached(), compiled=True)
