"""Which attention is faster in a bf16 training step of the small models: ``model.attention=sdpa`` or ``eager``."""

from __future__ import annotations

from scripts.bench.report import Result
from scripts.bench.timing import Arm, interleave
from scripts.bench.training_loop import Loops, small_config
from scripts.bench.workplace import Workplace

CLIP = [
    "model.entities={sub_category: null, brand: null, season: null, article_type: null}",
    "model.fusion_layers=[]",
    "loss.region_weight=0.0",
]


def run(workplace: Workplace) -> list[Result]:
    """Time an epoch's steps of CLIP and of E2 with either; there is no target."""
    products = workplace.products()
    results = []
    for name, overrides in (("CLIP", CLIP), ("E2", [])):
        arms: dict[str, Arm] = {}
        for attention in ("sdpa", "eager"):
            config = small_config(products, [*overrides, f"model.attention={attention}"])
            loops = Loops(config, products, workplace.folder)
            arms[attention] = loops.bare
            steps = len(loops.batches)
        timing = interleave(arms, max(1, workplace.turns // 2))
        each = {attention: timing.median(attention) / steps for attention in arms}
        results.append(
            Result(
                "attention",
                f"{name}, step with sdpa / eager",
                "-",
                f"{timing.ratio('sdpa', 'eager'):.2f} x ({timing.spread('sdpa', 'eager')})",
                None,
                f"shape, batch and precision of kagl_small ({config.train.precision}); "
                f"sdpa {each['sdpa']:.2f} s, eager {each['eager']:.2f} s a step",
            )
        )
    return results
