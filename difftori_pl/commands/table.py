"""`difftori table`: the tables of the paper."""

from pathlib import Path

from difftori_pl.commands.output import say


def print_table(name: str, runs: Path = Path("runs"), csv: Path | None = None, plot: Path | None = None) -> None:
    """Print one of the paper's tables with the success rates of the runs in a folder beside the published ones.

    Args:
        name: robomimic (Tables 1 and 3), maniskill (Tables 2 and 4), init (Table 3) or ablation-horizon (Table 6).
        runs: a folder; every run below it that was evaluated counts.
        csv: write the figures to this file too.
        plot: draw them into this file (.png, .pdf) too.
    """
    from difftori_pl.evaluation.tables import make_table

    table = make_table(name, runs)
    say(table.markdown())
    if csv is not None:
        csv.write_text(table.csv())
    if plot is not None:
        table.plot(plot)
