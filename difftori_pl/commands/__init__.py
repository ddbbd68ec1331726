"""Commands besides training and evaluation, one file per command group."""

from typing import Any

from difftori_pl.commands.checkpoint import show_checkpoint
from difftori_pl.commands.data import check_data, convert_data, render_data, sum_data
from difftori_pl.commands.demos import plan_maniskill, record_lift, record_metaworld, record_square
from difftori_pl.commands.export import export_policy
from difftori_pl.commands.plot import plot_landscape
from difftori_pl.commands.table import print_table

COMMANDS: dict[str, Any] = {
    "checkpoint": {"show": show_checkpoint},
    "data": {"check": check_data, "convert": convert_data, "render": render_data, "sums": sum_data},
    "demos": {"square": record_square, "lift": record_lift, "maniskill": plan_maniskill, "metaworld": record_metaworld},
    "export": export_policy,
    "plot": {"landscape": plot_landscape},
    "table": print_table,
}
"""Command -> function or group of functions; arguments are parsed from the signatures."""
