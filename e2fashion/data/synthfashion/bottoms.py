"""Silhouettes of what is worn below the waist: each draws its layers, details and trim zones."""

from __future__ import annotations

from e2fashion.data.synthfashion.pen import Pen, Point


def _waistband(pen: Pen, left: float, top: float, height: float) -> None:
    """A band with loops and a button."""
    right = 1 - left
    pen.area("rib", [(left, top), (right, top), (right + 0.006, top + height), (left - 0.006, top + height)])
    pen.line("line", [(left - 0.006, top + height), (right + 0.006, top + height)], 0.008)
    for x in (0.60, 0.69):
        pen.line("line", [(x - 0.02, top), (x - 0.02, top + height)], 0.013, both=True)
    pen.dot("metal", (0.5, top + height / 2), 0.015)


def _fly(pen: Pen, top: float, bottom: float) -> None:
    pen.line("line", [(0.5, top), (0.5, bottom)], 0.008)
    pen.line("line", [(0.54, top), (0.54, bottom - 0.07), (0.5, bottom - 0.03)], 0.007)


def _front_pockets(pen: Pen, waist: float, hip: float, top: float) -> None:
    pen.line(
        "line",
        [(0.5 + waist - 0.075, top), (0.5 + waist - 0.06, top + 0.06), (0.5 + hip, top + 0.105)],
        0.012,
        both=True,
    )


def trousers(pen: Pen, leg: str, front: str) -> None:
    """Two long legs, narrow or wide; with pressed creases or cargo pockets."""
    hem = 0.105 if leg == "narrow" else 0.20
    half: list[Point] = [(0, 0.08), (0.165, 0.08), (0.205, 0.28)]
    outer, inner = 0.115 + hem, 0.115
    if leg == "narrow":
        outer, inner = 0.175, 0.065
        half += [(0.205, 0.45), (outer, 0.925), (inner, 0.93), (0.012, 0.42), (0, 0.42)]
    else:
        outer, inner = 0.275, 0.055
        half += [(0.225, 0.45), (outer, 0.925), (inner, 0.93), (0.008, 0.42), (0, 0.42)]
    pen.whole("body", half)
    _waistband(pen, 0.335, 0.07, 0.058)
    _fly(pen, 0.13, 0.34)
    _front_pockets(pen, 0.165, 0.192, 0.13)
    middle = (outer + inner) / 2
    if front == "creased":
        pen.line("line", [(0.5 + 0.10, 0.20), (0.5 + middle, 0.92)], 0.007, both=True, ink=170)
    else:
        x = 0.5 + (0.095 if leg == "narrow" else 0.115)
        pen.area("line", [(x, 0.47), (x + 0.085, 0.465), (x + 0.088, 0.505), (x, 0.51)], both=True, ink=100)
        box = [(x, 0.47), (x + 0.085, 0.465), (x + 0.09, 0.60), (x, 0.605), (x, 0.47)]
        pen.line("line", box, 0.010, both=True)
    slope = (outer - 0.2) / 0.48
    pen.spine("hem", [(0.5 + inner - 0.012, 0.865), (0.5 + outer + 0.006, 0.86)], 0.05, both=True)
    pen.spine("cuffs", [(0.5 + inner - 0.004, 0.905), (0.5 + outer + 0.006, 0.90)], 0.052, both=True)
    pen.spine("side", [(0.682, 0.25), (0.5 + (0.187 if leg == "narrow" else 0.20), 0.45),
                       (0.5 + outer - 0.024 - slope * 0.002, 0.925)], 0.036, both=True)  # fmt: skip


def shorts(pen: Pen, length: str, waist: str) -> None:
    """Two short legs; above the knee or to it; a waistband or a cord."""
    bottom = 0.66 if length == "short" else 0.83
    outer = 0.315 if length == "short" else 0.30
    pen.whole("body", [(0, 0.18), (0.215, 0.18), (0.255, 0.34), (outer, bottom), (0.03, bottom + 0.02), (0.006, 0.51),
                       (0, 0.51)])  # fmt: skip
    if waist == "button":
        _waistband(pen, 0.285, 0.17, 0.065)
        _fly(pen, 0.235, 0.43)
    else:
        pen.area("rib", [(0.285, 0.165), (0.715, 0.165), (0.722, 0.24), (0.278, 0.24)])
        for ridge in range(-10, 11):
            pen.line("line", [(0.5 + ridge * 0.0205, 0.17), (0.5 + ridge * 0.0208, 0.235)], 0.005, ink=140)
        pen.line("solid", [(0.512, 0.205), (0.535, 0.29), (0.53, 0.37)], 0.015, both=True)
        pen.line("line", [(0.5, 0.24), (0.5, 0.51)], 0.008)
    pen.line("line", [(0.5 + 0.135, 0.24), (0.5 + 0.165, 0.32), (0.5 + 0.246, 0.37)], 0.012, both=True)
    pen.line("line", [(0.53, bottom - 0.012), (0.5 + outer, bottom - 0.03)], 0.006, both=True)
    pen.spine("hem", [(0.525, bottom - 0.065), (0.5 + outer, bottom - 0.085)], 0.052, both=True)
    pen.spine("cuffs", [(0.528, bottom - 0.012), (0.503 + outer, bottom - 0.032)], 0.052, both=True)
    pen.spine("side", [(0.723, 0.30), (0.5 + outer - 0.026, bottom)], 0.038, both=True)


def skirt(pen: Pen, length: str, cut: str) -> None:
    """A waistband over a short or mid-length skirt, flat with buttons or pleated."""
    bottom = 0.72 if length == "short" else 0.90
    outer = 0.30 if cut == "buttoned" else 0.345
    wide: Point = (outer, bottom)
    pen.whole("body", [(0, 0.15), (0.165, 0.15), (0.235, 0.36), wide, (outer / 2, bottom + 0.026), (0, bottom + 0.034)])
    pen.area("rib", [(0.33, 0.135), (0.67, 0.135), (0.678, 0.205), (0.322, 0.205)])
    pen.line("line", [(0.322, 0.205), (0.678, 0.205)], 0.009)
    if cut == "pleated":
        for share in (0.12, 0.36, 0.60, 0.84):
            start, stop = (0.5 + 0.17 * share, 0.21), (0.5 + outer * share, bottom + 0.02)
            pen.line("line", [start, stop], 0.012, both=True, ink=210)
    else:
        pen.line("line", [(0.472, 0.21), (0.472, bottom + 0.03)], 0.007)
        pen.line("line", [(0.528, 0.21), (0.528, bottom + 0.03)], 0.007)
        for button in range(5):
            pen.dot("metal", (0.5, 0.255 + button * (bottom - 0.29) / 4.2), 0.016)
        pen.line("line", [(0.60, 0.32), (0.69, 0.32), (0.69, 0.41), (0.60, 0.41), (0.60, 0.32)], 0.011, both=True)
    across = [(0.5 - outer * 0.955, bottom - 0.065), (0.5 - outer / 2, bottom - 0.040), (0.5, bottom - 0.032)]
    pen.spine("hem", across + [(1 - x, y) for x, y in across[-2::-1]], 0.052)
    pen.spine("cuffs", [(0.327, 0.17), (0.673, 0.17)], 0.052)
    pen.spine("side", [(0.668, 0.23), (0.708, 0.37), (0.5 + outer - 0.03, bottom)], 0.038, both=True)
