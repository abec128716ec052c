"""A module and its first batch of training, as a run makes them."""

import torch
from tiny import TINY

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.training import build
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch


def module_and_batch(catalogue: Catalogue, *overrides: str) -> tuple[ContrastiveModule, Batch]:
    """Those of the smallest run with ``overrides``; weights have seed 0."""
    config = load_config(RunConfig, None, [f"data={catalogue.path}", *TINY, *overrides])
    check_run(config, catalogue)
    template = build.build_template(config, catalogue)
    tokenizer = build.build_tokenizer(config, build.training_texts(config, catalogue, template))
    data = build.build_datamodule(config, catalogue, template, build.build_transform(config), tokenizer)
    torch.manual_seed(0)
    module = ContrastiveModule(build.build_model(config, tokenizer), build.build_loss(config), transform=data.transform)
    return module, module.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
