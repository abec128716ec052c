"""Table 10: how many selection tokens an entity needs, against parameters and SumR, as a table and as a curve.

Claim: two tokens an entity are enough.
Runs: ``configs/ablation/tokens_per_entity.yaml`` on the scale's E2 configuration.
Protocol: ``full``, first views, text with tags; differences are against two tokens, the paper's choice.

Command::

    python -m experiments.table10_tokens_per_entity --data fashiongen=<catalogue>
    python -m experiments.table10_tokens_per_entity --scale small --data kagl=<catalogue> --seeds 0,1,2

Cost: the paper's scale has not been run here; small on KAGL 4 runs a seed, about 15 minutes each on two cores.
Deviations: parameters are those of the selection tokens (exact) and of the whole model, as counted here; the paper's
"1.9 %" could not be reproduced from its code, which adds 3.9 % to CLIP. Which numbers of tokens the paper has could
not be read.
"""

from __future__ import annotations

import math
import sys

from safetensors import safe_open

from e2fashion.config import load_config
from e2fashion.run_folder import RunFolder
from e2fashion.training.config import RunConfig
from experiments.common.command import main
from experiments.common.experiment import Experiment
from experiments.common.tables import retrieval_view

SELECTION_TOKENS = ".selection_tokens."


def tokens(config: RunConfig) -> float:
    """Selection tokens of an entity, which all of them have."""
    return next(entity.tokens for entity in config.model.entities.values() if entity is not None)


def token_parameters(folder: RunFolder) -> str:
    """The exact number of parameters of all selection tokens."""
    with safe_open(folder.model / "model.safetensors", framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys() if SELECTION_TOKENS in name]  # noqa: SIM118
    return f"{sum(map(math.prod, shapes)):,}"


EXPERIMENT = Experiment(
    name="table10_tokens_per_entity",
    title="Selection tokens per entity",
    table="table10",
    ablation="tokens_per_entity",
    baseline="two",
    view=retrieval_view(
        "full",
        parameters=True,
        facts={
            "tokens per entity": lambda folder: f"{tokens(load_config(RunConfig, folder.config)):g}",
            "token parameters": token_parameters,
        },
        curve=(tokens, "selection tokens per entity"),
    ),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
