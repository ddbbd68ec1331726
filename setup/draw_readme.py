"""Write the table of results in README.md, and the picture above it, from benchmarks/results.

    python setup/draw_readme.py

A change of a results page changes both; tests/unit/test_docs.py fails until they are written again.
"""

import re
from dataclasses import dataclass
from html import escape
from itertools import takewhile
from pathlib import Path

from difftori_pl.evaluation.metrics import wilson
from difftori_pl.evaluation.paired import Paired

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "readme.svg"
METHOD = ROOT / "docs" / "images" / "method.svg"
BEGIN, END = "<!-- results: python setup/draw_readme.py -->\n", "<!-- end of results -->\n"

WIDTH, HEIGHT, LEFT = 1080, 270, 560
"""Size of the picture, and width of the method in it, in pixels."""
AXIS, BAR, COLOURS = 190, 13, ("#9aa5b8", "#3f6fd8")
"""Width of the labels, height of a bar, and colours of base policy and DiffTORI."""


@dataclass(frozen=True)
class Comparison:
    """Rows of a table in a page of results.

    Attributes:
        task: name of the task in README.md.
        base: name of the base policy in README.md.
        page: name of the page, without folder and suffix.
        rows: beginnings of the first cells of the base policy's row and of DiffTORI's row; empty cells below a row
            continue it.
    """

    task: str
    base: str
    page: str
    rows: tuple[str, str]


COMPARISONS = (
    Comparison("PickCube, states (three seeds)", "behaviour cloning", "maniskill", ("BC", "DiffTORI + BC")),
    Comparison(
        "Square, human demonstrations",
        "BC-RNN-GMM",
        "square_low_dim",
        ("base: BC-RNN-GMM", "DiffTORI with the shipped configuration"),
    ),
    Comparison(
        "Square, human demonstrations",
        "robomimic's own",
        "square_low_dim",
        ("base: robomimic's BC-RNN-GMM", "the same, shipped configuration"),
    ),
    Comparison("Meta-World, states (14 tasks)", "behaviour cloning, selected", "metaworld", ("BC", "DiffTORI")),
    Comparison("Push-T", "Diffusion Policy", "pusht", ("Diffusion Policy", "+ DiffTORI, measured noise")),
)


@dataclass(frozen=True)
class Counts:
    """Episodes of one policy: number solved, number run, and the states gained and lost relative to the base policy."""

    solved: int
    episodes: int
    gained: int
    lost: int


def read(comparison: Comparison) -> tuple[Counts, Counts]:
    """Return the counts of the base policy and of DiffTORI.

    Raises:
        ValueError: the page has no such row.
    """
    page = (ROOT / "benchmarks" / "results" / f"{comparison.page}.md").read_text()
    base, refined = (_rows(page, first) for first in comparison.rows)
    return base, refined


def _rows(page: str, first: str) -> Counts:
    lines = page.replace("*", "").splitlines()
    begins = [number for number, line in enumerate(lines) if re.match(rf"\| {re.escape(first)}( \(|,| \|)", line)]
    if not begins:
        raise ValueError(f"no row begins with {first!r}")
    rows = [lines[begins[0]], *takewhile(lambda line: line.startswith("| |"), lines[begins[0] + 1 :])]
    numbers = [
        sum(int(match[group]) for row in rows if (match := re.search(pattern, row)))
        for pattern in (r"(\d+)/(\d+)", r"\| (\d+) / (\d+) \|")
        for group in (1, 2)
    ]
    return Counts(*numbers)


def table() -> str:
    """Return the table of README.md."""
    lines = ["| task | base policy | base | DiffTORI | p | details |", "|---|---|---|---|---|---|"]
    for comparison in COMPARISONS:
        base, refined = read(comparison)
        p = Paired(refined.gained, refined.lost).p_value
        cells = [_percent(counts, p < 0.05 and counts.solved > other.solved) for counts, other in _both(base, refined)]
        link = f"[{comparison.page}](benchmarks/results/{comparison.page}.md)"
        lines.append(f"| {comparison.task} | {comparison.base} | {' | '.join(cells)} | {_p_value(p)} | {link} |")
    return "\n".join(lines) + "\n"


def _both(base: Counts, refined: Counts) -> tuple[tuple[Counts, Counts], tuple[Counts, Counts]]:
    return (base, refined), (refined, base)


def _percent(counts: Counts, bold: bool) -> str:
    rate = wilson(counts.solved, counts.episodes)
    text = f"{counts.solved}/{counts.episodes} ({100 * rate.low:.0f} to {100 * rate.high:.0f} %)"
    return f"**{text}**" if bold else text


def _p_value(p: float) -> str:
    return "< 10⁻⁵" if p < 1e-5 else f"{p:.1g}" if p < 0.01 else f"{p:.2f}"


def picture() -> str:
    """Return the SVG: the method, and bars of the success rates with 95 % intervals."""
    method = METHOD.read_text(encoding="utf-8")
    method = method.replace("<svg ", f'<svg x="0" y="14" width="{LEFT - 20}" height="{HEIGHT - 28}" ', 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        'font-size="13" fill="#1f2937" color="#1f2937" '
        'aria-label="Left: the method. Right: success rates of base policies and of DiffTORI on them.">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        method,
    ]
    start, width = LEFT + AXIS, WIDTH - LEFT - AXIS - 40
    for percent in (0, 50, 100):
        x = start + width * percent / 100
        lines += [
            f'<path d="M{x:.1f} 34V{HEIGHT - 30}" stroke="#d4d9e2"/>',
            f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="middle" font-size="12">{percent} %</text>',
        ]
    for number, name in enumerate(("base policy", "DiffTORI on it")):
        x = start + 105 * number
        lines += [
            f'<rect x="{x}" y="14" width="11" height="11" fill="{COLOURS[number]}"/>',
            f'<text x="{x + 16}" y="24" font-size="12">{name}</text>',
        ]
    pitch = (HEIGHT - 70) / len(COMPARISONS)
    for row, comparison in enumerate(COMPARISONS):
        top = 40 + row * pitch
        task = escape(comparison.task.split(",")[0])
        lines += [
            f'<text x="{start - 10}" y="{top + 13:.1f}" text-anchor="end">{task}</text>',
            f'<text x="{start - 10}" y="{top + 29:.1f}" text-anchor="end" font-size="11" fill="#5b6577">on '
            f"{escape(comparison.base)}</text>",
        ]
        for number, counts in enumerate(read(comparison)):
            rate = wilson(counts.solved, counts.episodes)
            y = top + number * (BAR + 2)
            low, high = (start + width * end for end in (rate.low, rate.high))
            lines += [
                f'<rect x="{start}" y="{y:.1f}" width="{width * rate.rate:.1f}" height="{BAR}" '
                f'fill="{COLOURS[number]}"/>',
                f'<path d="M{low:.1f} {y + BAR / 2:.1f}H{high:.1f}" stroke="#1f2937" stroke-width="1.5"/>',
            ]
    return "\n".join([*lines, "</svg>", ""])


def with_table(readme: str) -> str:
    """Return README.md with the table between its two marks."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
