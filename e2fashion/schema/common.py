"""Types that several configurations share."""

from __future__ import annotations

from typing import Literal

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
