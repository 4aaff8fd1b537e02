"""Pictures of a maze and of the ways that completions take through it, in characters and as SVG."""

import math
from collections import Counter
from collections.abc import Sequence
from re import finditer
from typing import NamedTuple

from maxrl.tasks.maze.grid import GOAL, START, WALL, Grid


class Trail(NamedTuple):
    """The way of one completion."""

    places: tuple[int, ...]
    """Where it comes, as `maxrl.tasks.maze.grid.walk` gives it."""
    reason: str
    """Why the completion is no answer; "" for one that is."""


def text_picture(grid: Grid, trails: Sequence[Trail]) -> str:
    """The maze, how many trails come through each place or end in a wall there, and what became of them.

    Every place is as wide as the largest number needs. A trail counts once in a place, however often it comes back.
    """
    through = Counter(place for trail in trails for place in set(trail.places))
    width = max(2, len(str(max(through.values(), default=0))) + 1)
    rows = (
        "".join(_drawn(cell, through[place], width) for place, cell in enumerate(row, start))
        for start, row in zip(range(0, len(grid.text), grid.side + 1), grid.text.split("\n"), strict=True)
    )
    return "\n".join([*rows, *_summary(trails)])


def _drawn(cell: str, many: int, width: int) -> str:
    if cell == WALL:
        return (f"×{many}" if many else "").rjust(width, "█")
    if cell == START:
        return START.rjust(width)
    if cell == GOAL:
        return f"{GOAL}{many or ''}".rjust(width)
    return str(many or "").rjust(width)


def _summary(trails: Sequence[Trail]) -> list[str]:
    if not trails:
        return []
    outcomes = Counter(trail.reason or "solved" for trail in trails)
    counted = ", ".join(f"{many} {outcome}" for outcome, many in outcomes.most_common())
    return [
        f"{START} start, {GOAL} goal, 3: three completions come here, ×3: three hit this wall",
        f"{len(trails)} {'answer' if len(trails) == 1 else 'answers'}: {counted}",
    ]


_CELL, _MARGIN, _LINE, _LEAST_WIDTH = 24, 16, 22, 200
"""Pixels: a place of the maze, around the picture, a line of the legend, and what the legend needs."""

_SPREAD = 0.5 * _CELL
_RATIOS = (0.7548776662, 0.5698402910)
"""Multiples of 1/ρ and 1/ρ² modulo 1, with ρ³ = ρ + 1, spread evenly over a square, however many there are."""

_CROSS = "m-3 -3l6 6m0 -6l-6 6"
"""Path data, from the centre."""

_STYLE = """
.maze-page{fill:#ffffff}.maze-floor{fill:#f1f5f9}.maze-walls{fill:#334155}
.maze-text{fill:#334155;font:13px system-ui,sans-serif}
.maze-way{fill:none;stroke-linecap:round;stroke-linejoin:round}
.maze-solved{stroke:#2563eb}.maze-failed{stroke:#ea580c}
.maze-start{fill:#64748b}.maze-goal{fill:#2563eb}.maze-mark{fill:#ffffff;font:700 12px system-ui,sans-serif}
@media(prefers-color-scheme:dark){
.maze-page{fill:#0b1220}.maze-floor{fill:#111c30}.maze-walls{fill:#475569}.maze-text{fill:#cbd5e1}
.maze-solved{stroke:#60a5fa}.maze-failed{stroke:#fb923c}.maze-start{fill:#94a3b8}.maze-goal{fill:#60a5fa}
.maze-mark{fill:#0b1220}}
""".replace("\n", "")


def svg_picture(grid: Grid, trails: Sequence[Trail]) -> str:
    """The maze with the trails as translucent lines, blue for success and orange for failure, and a legend.

    Equal trails are one line, wider and denser the more they are; others run side by side. A cross stands where a
    trail hits a wall.
    """
    legend = _legend(grid, trails)
    square = grid.side * _CELL
    width = max(square, _LEAST_WIDTH) + 2 * _MARGIN
    height = square + 2 * _MARGIN + len(legend) * _LINE
    solved = sum(not trail.reason for trail in trails)
    title = f"A maze of {grid.side} × {grid.side}"
    title += f" and {len(trails)} ways through it, {solved} of them right" if trails else ""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="{title}">',
            f"<title>{title}</title><style>{_STYLE}</style>",
            f'<rect class="maze-page" width="{width}" height="{height}" rx="8"/>',
            f'<g transform="translate({(width - square) / 2:g} {_MARGIN})">',
            *_maze(grid),
            *_ways(grid, trails),
            *_marks(grid),
            "</g>",
            *(
                f'<g transform="translate({_MARGIN + 10} {square + _MARGIN + _LINE * (line + 0.9):g})">{item}</g>'
                for line, item in enumerate(legend)
            ),
            "</svg>",
        ]
    )


def _maze(grid: Grid) -> list[str]:
    """Floor and walls; those that touch in a row are one rectangle."""
    walls = [
        f"M{run.start() * _CELL} {row * _CELL}h{len(run[0]) * _CELL}v{_CELL}h{-len(run[0]) * _CELL}z"
        for row, cells in enumerate(grid.text.split("\n"))
        for run in finditer(f"{WALL}+", cells)
    ]
    size = grid.side * _CELL
    return [
        f'<rect class="maze-floor" width="{size}" height="{size}"/>',
        f'<path class="maze-walls" shape-rendering="crispEdges" d="{"".join(walls)}"/>',
    ]


def _ways(grid: Grid, trails: Sequence[Trail]) -> list[str]:
    """A line per distinct trail, failures first, so that successes lie above them."""
    many = Counter((trail.reason == "", trail.places) for trail in trails)
    most = max(many.values(), default=1)
    lines: list[str] = []
    for index, ((solved, places), count) in enumerate(sorted(many.items())):
        share = math.log1p(count) / math.log1p(most)
        look = f'stroke-width="{1.5 + 2 * share:.1f}" stroke-opacity="{0.3 + 0.5 * share:.2f}"'
        kind = "solved" if solved else "failed"
        lines.append(f'<path class="maze-way maze-{kind}" {look} d="{_line(grid, places, index)}"/>')
    return lines


def _line(grid: Grid, places: tuple[int, ...], index: int) -> str:
    """The path data of one trail, shifted as a whole, so that lines of different trails do not hide each other."""
    across, down = (_SPREAD * ((index * ratio + 0.5) % 1 - 0.5) for ratio in _RATIOS)
    points = [(x + across, y + down) for x, y in (_centre(grid, place) for place in places)]
    cross = ""
    if _hits_a_wall(grid, places):
        (x, y), (inside_x, inside_y) = points[-2:]
        points[-1] = x, y = (x + inside_x) / 2, (y + inside_y) / 2
        cross = f"M{x:.1f} {y:.1f}{_CROSS}"
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + cross


def _centre(grid: Grid, place: int) -> tuple[float, float]:
    row, column = divmod(place, grid.side + 1)
    return (column + 0.5) * _CELL, (row + 0.5) * _CELL


def _marks(grid: Grid) -> list[str]:
    centres = ((letter, *_centre(grid, place)) for letter, place in ((START, grid.start), (GOAL, grid.goal)))
    return [f'<g transform="translate({x:g} {y:g})">{_mark(letter)}</g>' for letter, x, y in centres]


def _mark(letter: str) -> str:
    return (
        f'<circle class="maze-{"start" if letter == START else "goal"}" r="9"/>'
        f'<text class="maze-mark" text-anchor="middle" dominant-baseline="central">{letter}</text>'
    )


def _legend(grid: Grid, trails: Sequence[Trail]) -> list[str]:
    """What there is to see, one line each: a mark around x = 0, and words."""
    lines = [(_mark(START), "start"), (_mark(GOAL), "goal")]
    outcomes = Counter(trail.reason for trail in trails)
    for reason, many in sorted(outcomes.items(), key=lambda item: (item[0] != "", -item[1], item[0])):
        lines.append((_sample("failed" if reason else "solved", "M-9 0H9"), f"{many} {reason or 'solved'}"))
    if any(_hits_a_wall(grid, trail.places) for trail in trails):
        lines.append((_sample("failed", f"M0 0{_CROSS}"), "where a wall is hit"))
    return [
        f'{mark}<text class="maze-text" x="20" dominant-baseline="central">{words}</text>'
        for mark, words in lines
    ]


def _hits_a_wall(grid: Grid, places: Sequence[int]) -> bool:
    return grid.text[places[-1]] == WALL


def _sample(kind: str, line: str) -> str:
    return f'<path class="maze-way maze-{kind}" stroke-width="2.5" d="{line}"/>'
