from __future__ import annotations

import torch
import torch.nn.functional as F

from e2fashion.models.region_heads import RegionHeads
from e2fashion.types import Entity

ENTITIES = (Entity("brand", "brand", 2), Entity("season", "season", 1), Entity("sub_category", "sub_category", 3))


def test_each_region_is_its_tokens_normalized_averaged_and_projected() -> None:
    torch.manual_seed(0)
    heads = RegionHeads(ENTITIES, width=8, joint_dimension=5)
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randn(4, 6, 8)
    features = heads(tokens, torch.zeros(4, 5))
    assert features.shape == (4, 3, 5)
    for index, (name, part) in enumerate({"brand": [0, 1], "season": [2], "sub_category": [3, 4, 5]}.items()):
        norm, projection = heads[name].layer_norm, heads[name].projection
        normed = [F.layer_norm(tokens[:, token], (8,), norm.weight, norm.bias, 1e-5) for token in part]
        expected = sum(normed) / len(part) @ projection.weight.T
        torch.testing.assert_close(features[:, index], expected)


def test_no_entities_give_no_regions() -> None:
    assert RegionHeads((), width=8, joint_dimension=5)(torch.randn(4, 0, 8), torch.zeros(4, 5)).shape == (4, 0, 5)


def test_the_region_of_an_entity_without_tokens_is_the_image() -> None:
    heads = RegionHeads((Entity("brand", "brand", 0), Entity("season", "season", 1)), width=8, joint_dimension=5)
    image = torch.randn(4, 5)
    features = heads(torch.randn(4, 1, 8), image)
    assert list(heads) == ["season"]
    torch.testing.assert_close(features[:, 0], image)
    assert not torch.allclose(features[:, 1], image)
