"""The dominant fibre of the ways in which compositions are written."""

import pytest

from e2fashion.data.composition import dominant_fibre


@pytest.mark.parametrize(
    ("text", "fibre"),
    [
        ("Body: 87% wool, 8% nylon, 5% elastane. Lining: 100% cupro.", "wool"),
        ("94% cotton, 6% elastane.", "cotton"),
        ("Fabric 1: 100% viscose. Fabric 2: 100% cotton.", "viscose"),
        ("99% cotton. 1% elastene.", "cotton"),
        ("70% polyester; 30% cotton", "polyester"),
        ("30% cotton; 70% polyester", "polyester"),
        ("12.5% silk, 87,5% virgin wool", "virgin wool"),
        ("50% linen and 50% silk", "linen"),
        ("100% leather Lining: 100% cotton", "leather"),
        ("Cotton 60%, polyester 40%", "cotton"),
        ("40% COTTON\n60% Modal", "modal"),
        ("Dry clean. 100% silk.", "silk"),
        ("Cotton", "cotton"),
        ("stainless steel", "stainless steel"),
        ("cotton; polyester", "cotton"),
        ("Wool / Acrylic", "wool"),
        ("Dry clean.", None),
        ("Hand wash cold. Do not tumble dry.", None),
        ("100%", None),
        ("  ", None),
        ("", None),
        (None, None),
    ],
)
def test_dominant_fibre(text: str | None, fibre: str | None) -> None:
    assert dominant_fibre(text) == fibre
