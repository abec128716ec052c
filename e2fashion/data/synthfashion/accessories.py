"""Silhouettes of shoes, caps and bags: each draws its layers, details and trim zones."""

from __future__ import annotations

from e2fashion.data.synthfashion.pen import Pen


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
