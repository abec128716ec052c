"""FILIP-FT as a run like any other: trained, saved, loaded, evaluated, reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import TINY, save_random_clip
from torch.nn import functional as F
from transformers import AutoModel, CLIPModel

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.embedding import EmbeddedSplit
from e2fashion.encoder import load_encoder
from e2fashion.models import E2Model, FilipModel
from e2fashion.options import Inference
from e2fashion.records import RecordContext, read_records
from e2fashion.report import retrieved_rows
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.tasks.retrieval.protocols import FullGallery
from e2fashion.training import build
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError

PLAIN = ["model.entities={brand: null, season: null}", "model.fusion_layers=[]", "loss.region_weight=0.0"]
FILIP = [*PLAIN, "model.similarity=tokens", "train.precision=bf16", "protocols=full,sample_100"]


@pytest.fixture(scope="module")
def clip(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(
        tmp_path_factory.mktemp("clip") / "clip", list(synth_catalogue.split("train")["description"])
    )


def run_of(catalogue: Catalogue, output: Path, *overrides: str) -> RunFolder:
    words = [f"data={catalogue.path}", f"output={output}", *TINY, "train.stages.main.epochs=1", *overrides]
    return train_run(load_config(RunConfig, None, words), progress=False)


@pytest.fixture(scope="module")
def filip(synth_catalogue: Catalogue, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run_of(synth_catalogue, tmp_path_factory.mktemp("filip") / "filip_ft", *FILIP, f"model.checkpoint={clip}")


@pytest.fixture(scope="module")
def embedded(filip: RunFolder, synth_catalogue: Catalogue) -> EmbeddedSplit:
    encoder = load_encoder(str(filip.path))
    return embed_catalogue(encoder, synth_catalogue, "val", config=Inference(batch_size=5), progress=False)


def test_a_filip_run_has_records_like_any_other(filip: RunFolder) -> None:
    records = read_records(filip.results)
    assert {record.protocol for record in records} == {"full", "sample_100"}
    assert {record.metric for record in records} >= {"R@1", "R@5", "R@10", "SumR", "median_rank"}


def test_its_folder_is_a_clip_that_knows_how_it_is_compared(filip: RunFolder, clip: Path) -> None:
    model = AutoModel.from_pretrained(filip.model)
    assert isinstance(model, FilipModel)
    assert model.state_dict().keys() == CLIPModel.from_pretrained(clip).state_dict().keys()
    assert load_encoder(str(filip.path)).model.config.similarity == "tokens"


def test_embeddings_are_tokens_of_unit_length_or_zero(embedded: EmbeddedSplit) -> None:
    assert embedded.image_embeds.shape[1:] == (16, 8)
    norms = embedded.text_embeds.norm(dim=-1)
    assert bool(((norms - 1).abs() < 1e-5).logical_or(norms == 0).all())
    assert bool((norms[:, :3] > 0).all())


def test_ranks_are_those_of_the_definition(embedded: EmbeddedSplit) -> None:
    i2t, t2i, *_ = FullGallery().rank(embedded, RecordContext(run="", model="", split="val"))
    images, texts = embedded.image_embeds[embedded.first_images], embedded.text_embeds[embedded.first_texts]
    for ranking, (queries, gallery) in ((i2t, (images, texts)), (t2i, (texts, images))):
        for row, query in enumerate(queries):
            query = query[query.ne(0).any(-1)]
            scores = torch.stack([(query @ item[item.ne(0).any(-1)].T).amax(1).mean() for item in gallery])
            # Rounding may order near ties otherwise; equal items are counted alike.
            fewest, most = (int((scores >= scores[row] + slack).sum()) for slack in (1e-6, -1e-6))
            assert fewest < int(ranking.ranks[row]) <= most or fewest + 1 == int(ranking.ranks[row])


def test_retrieved_images_of_the_report_go_by_the_same_similarity(
    filip: RunFolder, embedded: EmbeddedSplit, synth_catalogue: Catalogue
) -> None:
    encoder = load_encoder(str(filip.path), name="filip")
    rows = retrieved_rows([encoder], synth_catalogue, "val", 99, embedded=[embedded])
    t2i = FullGallery().rank(embedded, RecordContext(run="", model="", split="val"))[3]
    assert [row.rank["filip"] for row in rows] == t2i.ranks.tolist()


def test_plain_embeddings_of_such_a_model_are_tokens(filip: RunFolder) -> None:
    encoder = load_encoder(str(filip.path))
    texts = encoder.embed_texts(["a coat", "a much longer coat with many more words"], batch_size=1)
    assert texts.dim() == 3
    assert texts.shape[0] == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_local_features_leave_out_padding(synth_catalogue: Catalogue, clip: Path, precision: str) -> None:
    model = E2Model.from_clip(clip, similarity="tokens").eval()
    end = model.config.text_config.eos_token_id
    ids = torch.tensor([[1, 5, end, end, end], [1, 5, 7, 9, end]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        features = model.get_text_features(ids, (torch.tensor([[3], [5]]) > torch.arange(5)).long()).local_features
        alone = model.get_text_features(ids[:1, :3]).local_features
        short = model.train().get_text_features(ids[:1], complete_states=False).local_features
    assert features.ne(0).any(-1).tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    tolerance = {"atol": 1e-6, "rtol": 1e-5} if precision == "fp32" else {"atol": 1e-2, "rtol": 1e-2}
    torch.testing.assert_close(alone[0], features[0, :3], **tolerance)
    torch.testing.assert_close(short, alone)
    del synth_catalogue


def test_the_end_token_is_clip_s_text_feature(clip: Path) -> None:
    model = E2Model.from_clip(clip, similarity="tokens").eval()
    end = model.config.text_config.eos_token_id
    output = model.get_text_features(torch.tensor([[1, 5, end]]))
    torch.testing.assert_close(output.local_features[:, 2], output.pooler_output)


def test_e2_compares_its_patches_and_keeps_its_regions(synth_catalogue: Catalogue, clip: Path, tmp_path: Path) -> None:
    options = [f"model.checkpoint={clip}", "model.similarity=tokens", "loss.token_keep=0.5"]
    folder = run_of(synth_catalogue, tmp_path / "run", *options)
    encoder = load_encoder(str(folder.path))
    assert encoder.fusion_layers == (1,)
    pixels = torch.randn(2, 3, 32, 32)
    output = encoder.model(torch.tensor([[1, 5, 9], [1, 7, 9]]), pixels, return_loss=True)
    assert output.image_local_embeds.shape == (2, 16, 8)
    assert output.region_embeds.shape == (2, 2, 8)
    own = torch.arange(2)
    expected = (F.cross_entropy(output.logits_per_image, own) + F.cross_entropy(output.logits_per_text, own)) / 2
    torch.testing.assert_close(output.loss, expected)


def test_a_share_of_no_tokens_is_refused(synth_catalogue: Catalogue) -> None:
    config = load_config(RunConfig, None, [f"data={synth_catalogue.path}", *TINY, "loss.token_keep=0.0"])
    with pytest.raises(E2FashionError, match=r"token_keep is 0.0: choose a share above 0.0"):
        build.build_loss(config)
