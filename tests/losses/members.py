"""Problems of a contrastive loss, drawn at random: which members are present, and which values they share."""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def members(draw: st.DrawFn) -> tuple[list[bool], list[int] | None]:
    """Of one to seven members, whether each is present, and its value; None: all values differ."""
    number = draw(st.integers(1, 7))
    present = draw(st.lists(st.booleans(), min_size=number, max_size=number))
    return present, draw(st.none() | st.lists(st.integers(0, 3), min_size=number, max_size=number))
