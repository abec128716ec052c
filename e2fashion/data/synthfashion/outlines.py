"""The outlines of tops, bottoms and accessories."""

from __future__ import annotations

from collections.abc import Sequence

from e2fashion.data.synthfashion.drawing import Pen, Point

NECK = (0.085, 0.165)
SHOULDER = (0.215, 0.205)


def _torso(pen: Pen, neck_depth: float, hem: Sequence[Point], sleeve: str, width: float = 0.205) -> None:
    """Body with sleeves (``none``, ``short`` or ``long``), the inside of its back neck, and the armhole seams."""
    pen.whole("lining", [(0, 0.155), NECK, (0.075, 0.235), (0, max(0.25, neck_depth))])
    top: list[Point] = [(0, neck_depth), (0.06, (neck_depth + NECK[1]) / 2 + 0.02), NECK]
    if sleeve == "none":
        arm: list[Point] = [(0.165, 0.19), (0.155, 0.27), (0.175, 0.35), (width, 0.40)]
    elif sleeve == "short":
        arm = [SHOULDER, (0.30, 0.275), (0.375, 0.385), (0.285, 0.445), (width, 0.36)]
    else:
        arm = [SHOULDER, (0.275, 0.30), (0.325, 0.50), (0.375, 0.72), (0.295, 0.745), (0.25, 0.56), (width, 0.40)]
    pen.whole("body", [*top, *arm, *hem])
    if sleeve != "none":
        pen.line("line", [(0.5 + SHOULDER[0] - 0.01, SHOULDER[1]), (0.69, 0.29), (0.5 + width, 0.385)], both=True)
        ends = ((0.87, 0.385), (0.785, 0.44)) if sleeve == "short" else ((0.868, 0.695), (0.792, 0.72))
        inward = (0.020, 0.028) if sleeve == "short" else (0.008, 0.032)
        pen.spine("cuffs", [(x - inward[0], y - inward[1]) for x, y in ends], 0.044, both=True)


def _neckband(pen: Pen, depth: float, width: float = 0.028) -> None:
    """A band along the front neckline."""
    curve = [(0.5 + NECK[0] - 0.004, NECK[1] + 0.004), (0.562, (depth + NECK[1]) / 2 + 0.02), (0.5, depth + 0.004)]
    pen.line("rib", curve + [(1 - x, y) for x, y in curve[::-1]], width)


def _ribbed_cuffs(pen: Pen) -> None:
    """Cuffs at the ends of long sleeves, and the trim zone above them."""
    pen.area("rib", [(0.872, 0.70), (0.875, 0.765), (0.80, 0.785), (0.79, 0.725)], both=True)
    pen.spines["cuffs"].clear()
    pen.spine("cuffs", [(0.860, 0.64), (0.775, 0.665)], 0.048, both=True)


def _straight_zones(pen: Pen, width: float, hem: float, side_top: float = 0.43) -> None:
    """Trim zones of a straight body: above the hem, and along the side seams."""
    pen.spine("hem", [(0.5 - width, hem - 0.055), (0.5 + width, hem - 0.055)], 0.05)
    pen.spine("side", [(0.5 + width - 0.03, side_top), (0.5 + width - 0.03, hem)], 0.038, both=True)


def t_shirt(pen: Pen, neck: str, pocket: str) -> None:
    """Short sleeves, a round or V neck, plain or with a chest pocket."""
    depth = 0.235 if neck == "crew" else 0.32
    _torso(pen, depth, [(0.205, 0.60), (0.21, 0.85), (0, 0.86)], "short")
    _neckband(pen, depth)
    pen.line("line", [(0.29, 0.832), (0.71, 0.832)], 0.006)
    if pocket == "pocket":
        pen.line("line", [(0.54, 0.36), (0.54, 0.46), (0.595, 0.49), (0.65, 0.46), (0.65, 0.36), (0.54, 0.36)], 0.011)
        pen.line("line", [(0.54, 0.385), (0.65, 0.385)], 0.008)
    _straight_zones(pen, 0.208, 0.84)


def shirt(pen: Pen, sleeve: str, pocket: str) -> None:
    """A pointed collar, a placket with buttons, and a curved hem."""
    _torso(pen, 0.25, [(0.205, 0.60), (0.21, 0.80), (0.16, 0.855), (0, 0.90)], sleeve)
    pen.line("line", [(0.472, 0.25), (0.472, 0.885)], 0.007)
    pen.line("line", [(0.528, 0.25), (0.528, 0.885)], 0.007)
    pen.area("rib", [(0.5, 0.27), (0.585, 0.150), (0.625, 0.185), (0.612, 0.30), (0.54, 0.255)], both=True)
    pen.line("line", [(0.5, 0.265), (0.54, 0.252), (0.612, 0.30), (0.625, 0.185)], 0.009, both=True)
    for button in range(6):
        pen.dot("metal", (0.5, 0.305 + button * 0.098), 0.0135)
    if pocket == "pocket":
        pen.line("line", [(0.56, 0.37), (0.56, 0.48), (0.66, 0.48), (0.66, 0.37), (0.56, 0.37)], 0.011)
        pen.line("line", [(0.56, 0.40), (0.61, 0.42), (0.66, 0.40)], 0.008)
    pen.spine("hem", [(0.29, 0.765), (0.71, 0.765)], 0.05)
    pen.spine("side", [(0.684, 0.43), (0.684, 0.81)], 0.034, both=True)


def sweater(pen: Pen, neck: str, fit: str) -> None:
    """Long sleeves with ribbed cuffs and hem; a round neck or a turtleneck; straight or oversized."""
    wide = 0.205 if fit == "regular" else 0.245
    _torso(pen, 0.225, [(wide, 0.62), (wide - 0.005, 0.84), (0, 0.845)], "long", wide)
    if neck == "turtle":
        pen.whole("rib", [(0, 0.085), (0.078, 0.09), (0.088, 0.20), (0.05, 0.235), (0, 0.245)])
        for ridge in (0.0, 0.03, 0.06):
            pen.line("line", [(0.5 + ridge, 0.095), (0.5 + ridge * 1.1, 0.225)], 0.006, both=True, ink=110)
    else:
        _neckband(pen, 0.225, 0.042)
    pen.whole("rib", [(0, 0.80), (wide, 0.80), (wide - 0.02, 0.875), (0, 0.88)])
    _ribbed_cuffs(pen)
    for ridge in range(-9, 10):
        pen.line("line", [(0.5 + ridge * wide / 10, 0.81), (0.5 + ridge * wide / 10, 0.872)], 0.005, ink=120)
    _straight_zones(pen, wide, 0.80, 0.45)


def hoodie(pen: Pen, front: str, cord: str) -> None:
    """A hood, a kangaroo pocket, ribbed edges; closed or with a zip; with or without cords."""
    pen.whole("body", [(0, 0.055), (0.10, 0.075), (0.150, 0.165), (0.135, 0.255), (0.05, 0.30), (0, 0.31)], 2)
    _torso(pen, 0.285, [(0.215, 0.62), (0.212, 0.81), (0, 0.815)], "long", 0.215)
    pen.cut([(0, 0.098), (0.066, 0.112), (0.098, 0.18), (0.075, 0.245), (0, 0.292)], 2)
    pen.area("rib", [(0.585, 0.10), (0.648, 0.165), (0.625, 0.245), (0.5, 0.325), (0.5, 0.288), (0.578, 0.235),
                     (0.60, 0.17)], both=True)  # fmt: skip
    pen.line("line", [(0.648, 0.165), (0.625, 0.245), (0.5, 0.325)], 0.009, both=True)
    pen.whole("rib", [(0, 0.79), (0.212, 0.79), (0.195, 0.855), (0, 0.86)])
    _ribbed_cuffs(pen)
    pocket = [(0.40, 0.60), (0.60, 0.60), (0.665, 0.70), (0.665, 0.785), (0.335, 0.785), (0.335, 0.70), (0.40, 0.60)]
    pen.line("line", pocket, 0.013)
    if front == "zip":
        pen.line("line", [(0.5, 0.31), (0.5, 0.855)], 0.022)
        pen.line("metal", [(0.5, 0.31), (0.5, 0.855)], 0.013)
    if cord == "cord":
        pen.line("solid", [(0.545, 0.29), (0.552, 0.36), (0.545, 0.425)], 0.015, both=True)
        pen.dot("metal", (0.545, 0.425), 0.011, both=True)
    pen.spine("hem", [(0.285, 0.545), (0.715, 0.545)], 0.05)
    pen.spine("side", [(0.69, 0.45), (0.69, 0.785)], 0.036, both=True)


def jacket(pen: Pen, collar: str, pocket: str) -> None:
    """Short and boxy with a zip; a stand-up collar or lapels; slanted or flap pockets."""
    _torso(pen, 0.25, [(0.225, 0.56), (0.228, 0.725), (0, 0.73)], "long", 0.222)
    if collar == "stand":
        pen.whole("rib", [(0, 0.13), (0.085, 0.115), (0.10, 0.19), (0.03, 0.262), (0, 0.27)])
        pen.cut([(0, 0.125), (0.055, 0.125), (0.05, 0.17), (0, 0.235)])
    else:
        pen.cut([(0, 0.16), (0.075, 0.165), (0, 0.40)])
        pen.area("rib", [(0.58, 0.145), (0.615, 0.18), (0.66, 0.255), (0.605, 0.275), (0.62, 0.305), (0.5, 0.455)],
                 both=True)  # fmt: skip
        pen.line("line", [(0.615, 0.18), (0.66, 0.255), (0.605, 0.275), (0.62, 0.305), (0.5, 0.455)], 0.009, both=True)
    top = 0.265 if collar == "stand" else 0.45
    pen.line("line", [(0.5, top), (0.5, 0.79)], 0.024)
    pen.line("metal", [(0.5, top), (0.5, 0.79)], 0.014)
    pen.whole("rib", [(0.012, 0.715), (0.229, 0.715), (0.212, 0.792), (0.012, 0.792)])
    _ribbed_cuffs(pen)
    if pocket == "slanted":
        pen.line("line", [(0.595, 0.66), (0.66, 0.54)], 0.020, both=True)
    else:
        for y in (0.39, 0.56):
            pen.area("line", [(0.575, y), (0.68, y), (0.68, y + 0.045), (0.628, y + 0.062), (0.575, y + 0.045)],
                     both=True, ink=95)  # fmt: skip
            pen.dot("metal", (0.628, y + 0.04), 0.011, both=True)
    pen.spine("hem", [(0.278, 0.685), (0.722, 0.685)], 0.05)
    pen.spine("side", [(0.70, 0.45), (0.70, 0.715)], 0.036, both=True)


def coat(pen: Pen, breast: str, waist: str) -> None:
    """Long, with lapels and buttons in one or two rows; with or without a belt."""
    _torso(pen, 0.25, [(0.195, 0.52), (0.235, 0.93), (0, 0.935)], "long", 0.205)
    pen.cut([(0, 0.16), (0.075, 0.165), (0, 0.42)])
    pen.area("rib", [(0.575, 0.14), (0.635, 0.19), (0.685, 0.285), (0.615, 0.295), (0.635, 0.33), (0.5, 0.475)],
             both=True)  # fmt: skip
    pen.line("line", [(0.635, 0.19), (0.685, 0.285), (0.615, 0.295), (0.635, 0.33), (0.5, 0.475)], 0.010, both=True)
    pen.line("line", [(0.5, 0.47), (0.5, 0.93)], 0.011)
    for row in range(3):
        for x in (0.458, 0.542) if breast == "double" else (0.525,):
            pen.dot("metal", (x, 0.50 + row * 0.115), 0.019)
    pen.line("line", [(0.60, 0.655), (0.69, 0.645)], 0.022, both=True)
    if waist == "belt":
        pen.area("rib", [(0.295, 0.565), (0.705, 0.565), (0.708, 0.612), (0.292, 0.612)])
        pen.line("line", [(0.294, 0.565), (0.706, 0.565)], 0.008)
        pen.line("line", [(0.292, 0.612), (0.708, 0.612)], 0.008)
        pen.line("metal", [(0.47, 0.558), (0.53, 0.558), (0.53, 0.62), (0.47, 0.62), (0.47, 0.558)], 0.012)
    pen.spine("hem", [(0.272, 0.865), (0.728, 0.865)], 0.052)
    pen.spine("side", [(0.675, 0.66), (0.703, 0.93)], 0.036, both=True)


def dress(pen: Pen, sleeve: str, cut: str) -> None:
    """A fitted waist over a flared or narrow skirt; sleeveless or with short sleeves."""
    depth = 0.27
    hem: list[Point]
    if cut == "flared":
        hem = [(0.135, 0.49), (0.21, 0.70), (0.315, 0.90), (0.16, 0.93), (0, 0.94)]
    else:
        hem = [(0.135, 0.49), (0.180, 0.62), (0.170, 0.92), (0, 0.925)]
    _torso(pen, depth, hem, sleeve, 0.175)
    _neckband(pen, depth, 0.018)
    pen.area("rib", [(0.362, 0.475), (0.638, 0.475), (0.638, 0.512), (0.362, 0.512)])
    if cut == "flared":
        for x, end in ((0.02, 0.05), (0.065, 0.15), (0.10, 0.235)):
            pen.line("line", [(0.5 + x, 0.53), (0.5 + end, 0.91)], 0.007, both=True, ink=150)
        pen.spine("hem", [(0.225, 0.842), (0.36, 0.868), (0.5, 0.875), (0.64, 0.868), (0.775, 0.842)], 0.052)
        pen.spine("side", [(0.635, 0.53), (0.68, 0.68), (0.768, 0.905)], 0.036, both=True)
    else:
        pen.line("line", [(0.5, 0.80), (0.5, 0.92)], 0.009)
        pen.spine("hem", [(0.32, 0.865), (0.68, 0.865)], 0.05)
        pen.spine("side", [(0.642, 0.54), (0.652, 0.62), (0.645, 0.92)], 0.036, both=True)
    if sleeve == "none":
        pen.spine("cuffs", [(0.652, 0.195), (0.645, 0.27), (0.664, 0.345), (0.69, 0.395)], 0.030, both=True)


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
    pen.line("line", [(0.59, 0.13), (0.605, 0.19), (0.692, 0.235)], 0.012, both=True)
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


def sneaker(pen: Pen, height: str, closing: str) -> None:
    """One shoe from the side: low or high, with laces or straps, on a pale sole."""
    top = 0.33 if height == "low" else 0.17
    upper = [(0.10, 0.755), (0.10, 0.56), (0.125, top + 0.05), (0.15, top), (0.21, top + 0.035), (0.30, top + 0.045),
             (0.385, top)]  # fmt: skip
    upper += [(0.44, 0.39), (0.56, 0.48), (0.70, 0.53), (0.83, 0.57), (0.895, 0.65), (0.905, 0.755)]
    pen.area("body", upper, 1)
    pen.area("lining", [(0.155, top + 0.005), (0.21, top - 0.012), (0.30, top - 0.010), (0.385, top + 0.002),
                        (0.30, top + 0.045), (0.21, top + 0.035)])  # fmt: skip
    pen.area("solid", [(0.075, 0.725), (0.32, 0.735), (0.60, 0.735), (0.925, 0.725), (0.94, 0.77), (0.90, 0.83),
                       (0.10, 0.83), (0.07, 0.785)], 1)  # fmt: skip
    pen.line("line", [(0.085, 0.80), (0.92, 0.80)], 0.008)
    pen.area("rib", [(0.745, 0.73), (0.76, 0.60), (0.82, 0.575), (0.89, 0.635), (0.915, 0.73)], 0)
    pen.line("line", [(0.745, 0.73), (0.76, 0.60), (0.80, 0.57)], 0.010)
    pen.line("line", [(0.245, 0.73), (0.215, 0.56), (0.13, 0.54)], 0.010)
    pen.line("line", [(0.42, 0.73), (0.47, 0.57), (0.40, 0.46)], 0.008, ink=170)
    rows = 4 if height == "low" else 6
    for row in range(rows):
        share = row / (rows - 1)
        if height == "low":
            x, y = 0.395 + 0.20 * share, 0.365 + 0.13 * share
        else:
            x, y = 0.375 + 0.21 * share, 0.225 + 0.29 * share
        if closing == "laced":
            pen.line("solid", [(x - 0.055, y + 0.055), (x + 0.025, y - 0.005)], 0.019)
            pen.dot("metal", (x - 0.058, y + 0.058), 0.011)
        elif row % 2 == 0:
            pen.line("rib", [(x - 0.09, y + 0.09), (x + 0.03, y - 0.005)], 0.056)
            pen.line("line", [(x - 0.098, y + 0.06), (x + 0.012, y - 0.03)], 0.006)
    pen.spine("hem", [(0.095, 0.70), (0.74, 0.70)], 0.046)
    pen.spine("cuffs", [(0.125, top + 0.055), (0.21, top + 0.075), (0.30, top + 0.085), (0.375, top + 0.045)], 0.048)
    pen.spine("side", [(0.265, 0.72), (0.345, 0.50)], 0.040)
    pen.spine("side", [(0.345, 0.72), (0.415, 0.53)], 0.040)


def cap(pen: Pen, brim: str, top: str) -> None:
    """A rounded crown: with a visor or a turned-up brim, with a button or a pompom."""
    crown = [(0, 0.20), (0.10, 0.21), (0.215, 0.27), (0.295, 0.40), (0.315, 0.62), (0, 0.635)]
    pen.whole("body", crown, 1)
    for share in (0.42, 0.0):
        panel = [(0.5 + 0.03 * share, 0.21), (0.5 + 0.33 * share, 0.34), (0.5 + 0.341 * share, 0.62)]
        pen.line("line", panel, 0.009, both=True, ink=190)
    if top == "button":
        pen.area("rib", [(0.465, 0.205), (0.48, 0.18), (0.52, 0.18), (0.535, 0.205)], 1)
    else:
        for x, y in ((0, 0), (-0.045, 0.012), (0.045, 0.012), (-0.025, -0.035), (0.025, -0.035), (0, 0.03)):
            pen.dot("solid", (0.5 + x, 0.165 + y), 0.042)
    if brim == "visor":
        pen.whole("rib", [(0, 0.60), (0.20, 0.605), (0.315, 0.62), (0.375, 0.70), (0.33, 0.765), (0.18, 0.72),
                          (0, 0.708)], 1)  # fmt: skip
        pen.line("line", [(0.21, 0.635), (0.35, 0.605), (0.5, 0.60), (0.65, 0.605), (0.79, 0.635)], 0.014)
        curve = [(0.165, 0.70), (0.30, 0.672), (0.5, 0.662), (0.70, 0.672), (0.835, 0.70)]
        pen.line("line", curve, 0.006, ink=170)
        pen.dot("metal", (0.62, 0.38), 0.012, both=True)
        pen.spine("cuffs", [(0.155, 0.725), (0.32, 0.702), (0.5, 0.69), (0.68, 0.702), (0.845, 0.725)], 0.042)
    else:
        pen.whole("rib", [(0, 0.595), (0.318, 0.59), (0.328, 0.76), (0, 0.775)])
        for ridge in range(-10, 11):
            pen.line("line", [(0.5 + ridge * 0.031, 0.60), (0.5 + ridge * 0.031, 0.765)], 0.006, ink=150)
        pen.line("line", [(0.18, 0.595), (0.82, 0.595)], 0.010)
        pen.spine("cuffs", [(0.172, 0.725), (0.828, 0.725)], 0.046)
    pen.spine("hem", [(0.185, 0.545), (0.35, 0.528), (0.5, 0.525), (0.65, 0.528), (0.815, 0.545)], 0.05)
    pen.spine("side", [(0.60, 0.225), (0.68, 0.36), (0.70, 0.60)], 0.038, both=True)


def bag(pen: Pen, kind: str, closing: str) -> None:
    """A tote with two handles or a backpack with a front pocket; with a clasp or a zip."""
    if kind == "tote":
        handle = [(0.36, 0.40), (0.37, 0.22), (0.42, 0.13), (0.5, 0.105), (0.58, 0.13), (0.63, 0.22), (0.64, 0.40)]
        pen.line("solid", handle, 0.034)
        pen.whole("body", [(0, 0.36), (0.29, 0.36), (0.335, 0.87), (0.30, 0.90), (0, 0.90)])
        pen.area("rib", [(0.208, 0.36), (0.792, 0.36), (0.796, 0.415), (0.204, 0.415)])
        pen.line("line", [(0.204, 0.415), (0.796, 0.415)], 0.008)
        for x in (0.36, 0.64):
            pen.area(
                "solid", [(x - 0.022, 0.36), (x + 0.022, 0.36), (x + 0.022, 0.455), (x, 0.475), (x - 0.022, 0.455)]
            )
        pen.spine("cuffs", [(0.206, 0.388), (0.794, 0.388)], 0.046)
        side = [(0.745, 0.42), (0.783, 0.895)]
    else:
        pen.line("solid", [(0.44, 0.155), (0.45, 0.10), (0.5, 0.085), (0.55, 0.10), (0.56, 0.155)], 0.024)
        pen.area("lining", [(0.775, 0.42), (0.83, 0.48), (0.84, 0.72), (0.775, 0.80)], both=True)
        pen.whole(
            "body", [(0, 0.13), (0.17, 0.145), (0.262, 0.24), (0.285, 0.45), (0.29, 0.84), (0.24, 0.905), (0, 0.91)], 1
        )
        pen.line("line", [(0.235, 0.40), (0.30, 0.245), (0.5, 0.205), (0.70, 0.245), (0.765, 0.40)], 0.011)
        pocket = [(0.305, 0.62), (0.695, 0.62), (0.71, 0.86), (0.29, 0.86), (0.305, 0.62)]
        pen.line("line", pocket, 0.012)
        pen.spine("cuffs", [(0.262, 0.33), (0.37, 0.262), (0.5, 0.25), (0.63, 0.262), (0.738, 0.33)], 0.046)
        side = [(0.738, 0.42), (0.745, 0.85)]
    if closing == "clasp":
        low = 0.47 if kind == "tote" else 0.66
        pen.area("rib", [(0.462, low - 0.10), (0.538, low - 0.10), (0.538, low), (0.5, low + 0.03), (0.462, low)])
        pen.line("line", [(0.462, low - 0.10), (0.462, low), (0.5, low + 0.03)], 0.008, both=True)
        pen.dot("metal", (0.5, low - 0.008), 0.021)
    else:
        y = 0.44 if kind == "tote" else 0.645
        pen.line("line", [(0.30, y), (0.70, y)], 0.026)
        pen.line("metal", [(0.30, y), (0.70, y)], 0.015)
        pen.area("metal", [(0.675, y), (0.70, y), (0.70, y + 0.055), (0.675, y + 0.055)])
    pen.spine("hem", [(0.17, 0.795), (0.83, 0.795)], 0.052)
    pen.spine("side", side, 0.040, both=True)
