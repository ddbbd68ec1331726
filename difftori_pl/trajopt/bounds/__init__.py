"""Methods to keep actions within their limits, one file each."""

from difftori_pl.trajopt.bounds.base import Bounds
from difftori_pl.trajopt.bounds.in_units import InUnits
from difftori_pl.trajopt.bounds.inner_clamp import InnerClamp
from difftori_pl.trajopt.bounds.projection import Projection
from difftori_pl.trajopt.bounds.straight_through import StraightThroughProjection
from difftori_pl.trajopt.bounds.tanh import Tanh
from difftori_pl.trajopt.bounds.trust_region import TrustRegion
from difftori_pl.trajopt.bounds.unbounded import Unbounded

__all__ = [
    "Bounds",
    "InUnits",
    "InnerClamp",
    "Projection",
    "StraightThroughProjection",
    "Tanh",
    "TrustRegion",
    "Unbounded",
]
