"""Two gloo processes with DDP against one process on the joined batch."""

from __future__ import annotations

import pytest
import torch
from forked import of_two_ranks
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.losses.filip import TokenContrast

ENTITIES = ("brand", "season")
PRODUCTS = 7


class Encoder(nn.Module):
    """The smallest thing with E2's outputs and a temperature."""

    def __init__(self, sigmoid: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text, self.region, self.tag = (nn.Linear(6, 5) for _ in range(4))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.logit_bias = nn.Parameter(torch.tensor(-3.0)) if sigmoid else None

    def forward(self, image: Tensor, text: Tensor, region: Tensor, tag: Tensor) -> tuple[Tensor, ...]:
        embeds = (self.image(image), self.text(text), self.region(region), self.tag(tag))
        return *(F.normalize(item, dim=-1) for item in embeds), self.logit_scale, self.logit_bias


def joined_batch(case: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    present = torch.rand(PRODUCTS, 2, generator=generator) > 0.3
    if case == "one_each":  # one tag of the second entity on either rank: two in the joined batch
        present[:, 1] = False
        present[[0, -1], 1] = True
    if case == "untagged":
        present[:] = False
    batch = {
        "image": torch.randn(PRODUCTS, 6, generator=generator),
        "text": torch.randn(PRODUCTS, 6, generator=generator),
        "region": torch.randn(PRODUCTS, 2, 6, generator=generator),
        "tag": torch.randn(PRODUCTS, 2, 6, generator=generator),
        "present": present,
        "value": torch.randint(0, 3, (PRODUCTS, 2), generator=generator),
    }
    if case.startswith("tokens"):
        lengths = torch.tensor([2, 1, 3, 2, 4, 5, 3])  # the longest text of the first three is shorter than the others'
        batch["image"] = torch.randn(PRODUCTS, 3, 6, generator=generator)
        batch["text"] = torch.randn(PRODUCTS, 5, 6, generator=generator)
        batch["real"] = torch.arange(5) < lengths[:, None]
    return {name: item[:6] for name, item in batch.items()} if case.startswith("even") else batch


def step(model: nn.Module, batch: dict[str, Tensor], targets: str, half: bool = False) -> dict[str, Tensor]:
    image, text, region, tag, scale, bias = model(batch["image"], batch["text"], batch["region"], batch["tag"])
    if "real" in batch:
        text = (text * batch["real"][..., None])[:, : int(batch["real"].sum(1).max())]
    tokens = TokenContrast(half_precision=half) if "real" in batch else None
    loss = ContrastiveLoss(ENTITIES, 0.4, targets, global_term=tokens)  # type: ignore[arg-type]
    output = loss(image, text, region, tag, batch["present"], batch["value"], scale, bias)
    output.total.backward()
    result = {"total": output.total.detach()} | {k: v.detach() for k, v in output.terms.items()}
    return result | {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}


CASES = [
    ("even", "diagonal", 3),
    ("even", "same_value", 3),
    ("uneven", "diagonal", 5),
    ("uneven", "same_value", 6),
    ("one_each", "diagonal", 4),
    ("untagged", "diagonal", 4),
    ("tokens", "diagonal", 3),
    ("tokens", "same_value", 3),
    ("tokens_half", "diagonal", 4),
    ("uneven_sigmoid", "diagonal", 5),
    ("even_sigmoid", "same_value", 3),
    ("tokens_sigmoid", "diagonal", 3),
]


def of_rank(rank: int) -> list[dict[str, Tensor]]:
    results = []
    for case, targets, cut in CASES:
        rows = slice(0, cut) if rank == 0 else slice(cut, None)
        batch = {name: item[rows] for name, item in joined_batch(case).items()}
        results.append(step(DistributedDataParallel(Encoder("sigmoid" in case)), batch, targets, case == "tokens_half"))
    return results


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Tensor]]]:
    return of_two_ranks(of_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("number", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_two_processes_equal_one(of_ranks: list[list[dict[str, Tensor]]], number: int) -> None:
    case, targets, _ = CASES[number]
    expected = step(Encoder("sigmoid" in case), joined_batch(case), targets)
    for results in of_ranks:
        found = results[number]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            rounding = 0.03 if case == "tokens_half" else 1e-6
            assert torch.allclose(found[name], value, atol=rounding, rtol=1e-6), name
