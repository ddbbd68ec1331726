import itertools
import math

from difftori_pl.callbacks.spacing import Spacing


def test_the_intervals_grow() -> None:
    spacing = Spacing(0.1)
    drawn = [step for step in range(100, 100_100, 100) if spacing.due(step)]
    assert drawn[:11] == [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100]
    assert all(b >= 1.1 * a for a, b in itertools.pairwise(drawn))
    assert len(drawn) < 12 + math.log(100_000 / 1000) / math.log(1.1)


def test_a_fraction_of_zero_selects_every_step() -> None:
    spacing = Spacing(0.0)
    assert all(spacing.due(step) for step in (5, 6, 7))
