"""`difftori table`: compare evaluated runs with the tables of the paper."""

from pathlib import Path

from difftori_pl.commands.output import say


def print_table(name: str, runs: Path = Path("runs"), csv: Path | None = None, plot: Path | None = None) -> None:
    """Print a table of the paper with the success rates of our runs and the published ones.

    Args:
        name: robomimic (Tables 1 and 3), maniskill (Tables 2 and 4), init (Table 3), controllers
            (Table 5) or ablation-horizon (Table 6).
        runs: folder of the runs; all evaluated runs in it and its subfolders count.
        csv: also write the results to this CSV file.
        plot: also plot the results to this file (.png, .pdf).
    """
    from difftori_pl.evaluation.tables import make_table

    table = make_table(name, runs)
    say(table.markdown())
    if csv is not None:
        csv.write_text(table.csv())
    if plot is not None:
        table.plot(plot)
