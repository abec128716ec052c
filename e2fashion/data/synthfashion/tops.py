"""Silhouettes of what is worn above the waist, and of dresses: each draws its layers, details and trim zones.

Half outlines are (distance from the middle, y), from the top to the bottom.
"""

from __future__ import annotations

from collections.abc import Sequence

from e2fashion.data.synthfashion.pen import Pen, Point

NECK = (0.085, 0.165)
SHOULDER = (0.215, 0.205)
ARMPIT = (0.205, 0.38)


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


def _neckband(pen: Pen, depth: float, width: float = 0.028, layer: str = "rib") -> None:
    """A band along the front neckline."""
    curve = [(0.5 + NECK[0] - 0.004, NECK[1] + 0.004), (0.562, (depth + NECK[1]) / 2 + 0.02), (0.5, depth + 0.004)]
    pen.line(layer, curve + [(1 - x, y) for x, y in curve[::-1]], width)


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
    pen.area("rib", [(0.872, 0.70), (0.875, 0.765), (0.80, 0.785), (0.79, 0.725)], both=True)
    for ridge in range(-9, 10):
        pen.line("line", [(0.5 + ridge * wide / 10, 0.81), (0.5 + ridge * wide / 10, 0.872)], 0.005, ink=120)
    pen.spines["cuffs"].clear()
    pen.spine("cuffs", [(0.860, 0.64), (0.775, 0.665)], 0.048, both=True)
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
    pen.area("rib", [(0.872, 0.70), (0.875, 0.765), (0.80, 0.785), (0.79, 0.725)], both=True)
    pocket = [(0.40, 0.60), (0.60, 0.60), (0.665, 0.70), (0.665, 0.785), (0.335, 0.785), (0.335, 0.70), (0.40, 0.60)]
    pen.line("line", pocket, 0.013)
    if front == "zip":
        pen.line("line", [(0.5, 0.31), (0.5, 0.855)], 0.022)
        pen.line("metal", [(0.5, 0.31), (0.5, 0.855)], 0.013)
    if cord == "cord":
        pen.line("solid", [(0.545, 0.29), (0.552, 0.36), (0.545, 0.425)], 0.015, both=True)
        pen.dot("metal", (0.545, 0.425), 0.011, both=True)
    pen.spines["cuffs"].clear()
    pen.spine("cuffs", [(0.860, 0.64), (0.775, 0.665)], 0.048, both=True)
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
    pen.area("rib", [(0.872, 0.70), (0.875, 0.765), (0.80, 0.785), (0.79, 0.725)], both=True)
    if pocket == "slanted":
        pen.line("line", [(0.595, 0.66), (0.66, 0.54)], 0.020, both=True)
    else:
        for y in (0.39, 0.56):
            pen.area("line", [(0.575, y), (0.68, y), (0.68, y + 0.045), (0.628, y + 0.062), (0.575, y + 0.045)],
                     both=True, ink=95)  # fmt: skip
            pen.dot("metal", (0.628, y + 0.04), 0.011, both=True)
    pen.spines["cuffs"].clear()
    pen.spine("cuffs", [(0.860, 0.64), (0.775, 0.665)], 0.048, both=True)
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
