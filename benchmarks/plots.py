"""Draw the tables of benchmarks/results/*.md: bars or curves with 95 % intervals, one SVG per table.

    python -m benchmarks.plots build/plots

`make docs` adds the same pictures to the pages of the results. A table is drawn if it stands before the heading
"Details" and has one of these kinds of columns:

- successes, `43/50`: bars of the success rate with Wilson intervals;
- values with intervals, `675 (635 to 718)` or `+0.56 ± 0.05`: bars, or curves if the column titles are step counts.
"""

import argparse
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from difftori_pl.evaluation.metrics import wilson

RESULTS = Path(__file__).parent / "results"

_SUCCESS = re.compile(r"(\d+)/(\d+)\b")
_INTERVAL = re.compile(r"([\d,.]+) \(([\d,.]+) to ([\d,.]+)\)")
_HALF_WIDTH = re.compile(r"([+-]?[\d.]+) ± ([\d.]+)")
_STEPS = re.compile(r"[\d,]+$")


@dataclass(frozen=True)
class Value:
    """A measured value and the ends of its 95 % interval, which are equal to it if the table has no interval."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        line: index of its first line in the page.
        header: titles of the columns.
        rows: cells without emphasis; an empty first cell repeats the one above.
    """

    line: int
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Figure:
    """The columns of a table that can be drawn.

    Attributes:
        kind: what the values are, for the axis.
        labels: name of each row.
        series: column title -> value of each row, None where the cell has another form.
    """

    kind: str
    labels: list[str]
    series: dict[str, list[Value | None]]

    @property
    def over_steps(self) -> bool:
        """Whether the columns are measurements after a number of steps."""
        return len([title for title in self.series if _STEPS.match(title)]) > 1


def read_success(cell: str) -> Value | None:
    """Read a cell such as `43/50 = 86 % (74 to 93)` as a percentage."""
    found = _SUCCESS.match(cell)
    if found is None:
        return None
    rate = wilson(int(found[1]), int(found[2]))
    return Value(100 * rate.rate, 100 * rate.low, 100 * rate.high)


def read_value(cell: str) -> Value | None:
    """Read a cell such as `675 (635 to 718)` or `+0.56 ± 0.05`."""
    if found := _INTERVAL.match(cell):
        middle, low, high = (float(number.replace(",", "")) for number in found.groups())
        return Value(middle, low, high)
    if found := _HALF_WIDTH.match(cell):
        middle, half = map(float, found.groups())
        return Value(middle, middle - half, middle + half)
    return None


def tables(text: str) -> Iterator[Table]:
    """Yield the tables before the heading "Details"."""
    lines = text.split("\n## Details")[0].splitlines()
    for number in range(1, len(lines)):
        if re.match(r"\|[ :|-]+\|$", lines[number]) and lines[number - 1].startswith("|"):
            rows: list[list[str]] = []
            for line in lines[number + 1 :]:
                if not line.startswith("|"):
                    break
                row = _cells(line)
                rows.append([row[0] or (rows[-1][0] if rows else ""), *row[1:]])
            yield Table(number - 1, _cells(lines[number - 1]), rows)


def figure_of(table: Table) -> Figure | None:
    """Return what can be drawn of a table, or None: the success rates, else the values with intervals."""
    readers: list[tuple[str, Callable[[str], Value | None]]] = [
        ("success, %", read_success),
        ("value with 95 % interval", read_value),
    ]
    for kind, read in readers:
        columns = [
            number
            for number in range(1, len(table.header))
            if sum(read(row[number]) is not None for row in table.rows) > 1
        ]
        steps = [number for number in columns if _STEPS.match(table.header[number])]
        if len(steps) > 1:
            return _figure(table, kind, steps, _or_plain(read))
        if columns:
            return _figure(table, kind, columns, read)
    return None


def _figure(table: Table, kind: str, columns: list[int], read: Callable[[str], Value | None]) -> Figure:
    rows = [row for row in table.rows if any(read(row[number]) for number in columns)]
    series = {table.header[number]: [read(row[number]) for row in rows] for number in columns}
    return Figure(kind, _labels(table.header, rows, columns[0]), series)


def draw(figure: Figure, path: Path) -> None:
    """Write a figure as SVG: curves over steps, else horizontal bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # Fixed ids and no date, so that equal tables give equal files.
    with pyplot.rc_context({"svg.hashsalt": "difftori", "font.size": 9}):
        n_bars = len(figure.labels) * len(figure.series)
        height = 3.2 if figure.over_steps else 0.9 + max(0.22 * n_bars, 0.36 * len(figure.labels))
        canvas, axes = pyplot.subplots(figsize=(5.6, height), layout="constrained")
        (_draw_curves if figure.over_steps else _draw_bars)(axes, figure)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y" if figure.over_steps else "x", alpha=0.3)
        axes.set_axisbelow(True)
        canvas.savefig(path, metadata={"Date": None})
        pyplot.close(canvas)


def write(page: Path, folder: Path) -> dict[int, Path]:
    """Draw the tables of a page.

    Returns:
        The first line of each drawn table -> the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = ((table.line, figure_of(table)) for table in tables(page.read_text()))
    drawn = {}
    for number, (line, figure) in zip(count(1), ((line, figure) for line, figure in found if figure)):
        drawn[line] = folder / f"{page.stem}_{number}.svg"
        draw(figure, drawn[line])
    return drawn


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("**", "").replace("`", "") for cell in line.strip().strip("|").split("|")]


def _or_plain(read: Callable[[str], Value | None]) -> Callable[[str], Value | None]:
    """Also read numbers without an interval, as those of a single seed."""

    def read_either(cell: str) -> Value | None:
        if re.fullmatch(r"[\d,.]+", cell):
            number = float(cell.replace(",", ""))
            return Value(number, number, number)
        return read(cell)

    return read_either


def _labels(header: Sequence[str], rows: Sequence[Sequence[str]], n_columns: int) -> list[str]:
    """Join as many of the first cells of each row as make the rows distinct."""
    labels: list[str] = []
    for used in range(1, n_columns + 1):
        labels = [
            ", ".join(
                f"{header[number]} {row[number]}" if re.match(r"[\d.]+$", row[number]) else row[number]
                for number in range(used)
                if row[number]
            )
            for row in rows
        ]
        if len(set(labels)) == len(labels):
            break
    return labels


def _draw_bars(axes: Any, figure: Figure) -> None:
    width = 0.8 / len(figure.series)
    for number, (title, values) in enumerate(figure.series.items()):
        shown = [(row + (number + 0.5) * width - 0.4, value) for row, value in enumerate(values) if value]
        axes.barh(
            [place for place, _ in shown],
            [value.middle for _, value in shown],
            height=0.9 * width,
            xerr=_errors(shown),
            error_kw={"elinewidth": 1, "capsize": 2},
            label=title,
        )
    axes.set_yticks(range(len(figure.labels)), [textwrap.fill(label, 34) for label in figure.labels])
    axes.invert_yaxis()
    axes.set_xlabel("success in %, with Wilson 95 % interval" if "success" in figure.kind else figure.kind)
    if "success" in figure.kind:
        axes.set_xlim(0, 100)
    if len(figure.series) > 1:
        axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, frameon=False)


def _errors(shown: Sequence[tuple[float, Value]]) -> list[list[float]]:
    # Rounding may leave the end of an interval 1e-15 inside of its middle, which matplotlib refuses.
    return [
        [max(value.middle - value.low, 0.0) for _, value in shown],
        [max(value.high - value.middle, 0.0) for _, value in shown],
    ]


def _draw_curves(axes: Any, figure: Figure) -> None:
    steps = [int(title.replace(",", "")) for title in figure.series]
    for row, label in enumerate(figure.labels):
        values = [column[row] for column in figure.series.values()]
        shown = [(step, value) for step, value in zip(steps, values, strict=True) if value]
        axes.errorbar(
            [step for step, _ in shown],
            [value.middle for _, value in shown],
            yerr=_errors(shown),
            marker="o",
            capsize=3,
            label=textwrap.fill(label, 40),
        )
    axes.set(xlabel="environment steps", ylabel="return, 95 % interval over seeds", ylim=(0, None))
    axes.legend(fontsize="small", frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the SVGs")
    options = parser.parse_args()
    for page in sorted(RESULTS.glob("*.md")):
        for path in write(page, options.folder).values():
            print(path)


if __name__ == "__main__":
    main()
