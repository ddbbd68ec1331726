import pytest
from scipy.stats import binomtest

from difftori_pl.evaluation.paired import Paired, compare


@pytest.mark.parametrize(("n_gained", "n_lost"), [(0, 0), (1, 0), (3, 3), (9, 3), (3, 9), (40, 21), (0, 12)])
def test_the_sign_test_agrees_with_scipy(n_gained: int, n_lost: int) -> None:
    theirs = binomtest(n_gained, n_gained + n_lost).pvalue if n_gained + n_lost else 1.0
    assert Paired(n_gained, n_lost).p_value == pytest.approx(theirs, rel=1e-12)


def test_states_are_paired_by_their_seeds() -> None:
    policy = {1: True, 2: True, 3: False, 4: False, 5: True}
    base = {5: False, 4: True, 3: False, 2: True, 1: False, 6: True}
    assert compare(policy, base) == (2, 1)
    assert str(compare(policy, base)) == "gained 2, lost 1 initial states; p = 1 (sign test)"
