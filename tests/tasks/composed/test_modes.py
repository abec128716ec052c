"""The query modes of text-guided retrieval, a language model's answers, and queries of a catalogue."""

import csv
import json
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F

from e2fashion.data.catalogue import Catalogue
from e2fashion.tasks.composed.config import ComposeConfig, Mode
from e2fashion.tasks.composed.modes import (
    Answers,
    ComposedQueries,
    LanguageModelComposer,
    Question,
    blend,
    compose,
    load_language_model,
    question_key,
    rewriters,
)
from e2fashion.tasks.composed.rules import parse_instruction
from e2fashion.tasks.composed.sources import other_color_queries
from e2fashion.types import E2FashionError


def embed(texts: Sequence[str]) -> Tensor:
    """A different vector for each text."""
    rows = [torch.randn(6, generator=torch.Generator().manual_seed(zlib.crc32(text.encode()))) for text in texts]
    return F.normalize(torch.stack(rows), dim=-1)


IMAGES = F.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
QUERIES = ComposedQueries(
    IMAGES,
    [("is blue", "has stripes"), ("is elegant",), ()],
    ["a red dress", "a black shirt", "a hat"],
)


def texts_of(mode: Mode, **options: Any) -> list[list[str]]:
    made = compose(mode, QUERIES, embed, rewriters(**options))
    return [[item.text for item in of_query] for of_query in made.rewritings]


def test_the_image_alone_is_its_embedding() -> None:
    assert torch.equal(compose("image", QUERIES, embed, {}).embeds, IMAGES)


def test_text_is_the_mean_over_both_orders_and_the_caption_without_an_instruction() -> None:
    made = compose("text", QUERIES, embed, rewriters())
    both = embed(["is blue and has stripes", "has stripes and is blue"]).mean(0)
    assert torch.allclose(made.embeds[0], F.normalize(both, dim=0), atol=1e-6)
    assert torch.allclose(made.embeds[2], embed(["a hat"])[0], atol=1e-6)
    assert torch.allclose(made.embeds.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("mode", ["text", "sum", "concat", "slots"])
def test_the_order_of_two_captions_makes_no_difference(mode: Mode) -> None:
    swapped = ComposedQueries(IMAGES, [listed[::-1] for listed in QUERIES.instructions], QUERIES.captions)
    assert torch.equal(
        compose(mode, QUERIES, embed, rewriters()).embeds, compose(mode, swapped, embed, rewriters()).embeds
    )
    one = compose(mode, QUERIES, embed, rewriters(), both_orders=False).embeds
    other = compose(mode, swapped, embed, rewriters(), both_orders=False).embeds
    assert torch.equal(one[0], other[0]) == (mode == "slots")  # these two captions fill different slots


def test_sum_lies_between_image_and_text() -> None:
    text = compose("text", QUERIES, embed, rewriters()).embeds
    for weight, end in ((1.0, IMAGES), (0.0, text)):
        made = compose("sum", QUERIES, embed, rewriters(), weight=weight)
        assert torch.allclose(made.embeds, end, atol=1e-6)
    assert torch.equal(compose("sum", QUERIES, embed, rewriters()).embeds, blend(IMAGES, text, 0.5))


def test_texts_of_the_rewriting_modes() -> None:
    assert texts_of("concat")[1:] == [["a black shirt, is elegant"], ["a hat"]]
    assert texts_of("slots") == [["a blue dress, striped", "a blue dress, striped"], ["is elegant"], ["a hat"]]
    assert compose("slots", QUERIES, embed, rewriters()).fallbacks == 1


def test_modes_without_their_inputs_are_refused() -> None:
    with pytest.raises(E2FashionError, match="no mode 'both': choose from image, text, sum, concat, slots, llm"):
        compose(cast(Mode, "both"), QUERIES, embed, rewriters())
    with pytest.raises(E2FashionError, match="needs a language model"):
        compose("llm", QUERIES, embed, rewriters())
    with pytest.raises(E2FashionError, match=r"'slots' rewrites captions .* there are none"):
        compose("slots", ComposedQueries(IMAGES, QUERIES.instructions), embed, rewriters())


def test_a_language_model_is_asked_once_and_an_empty_answer_falls_back(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(prompts: Sequence[str]) -> list[str]:
        asked.extend(prompts)
        return [
            "\n" if "elegant" in prompt.rpartition("Description")[2] else " a blue dress\nmore" for prompt in prompts
        ]

    file = tmp_path / "answers.json"
    for _ in range(2):
        composer = LanguageModelComposer(Answers(file, "some-model"), ask, batch_size=2)
        made = compose("llm", QUERIES, embed, rewriters(language_model=composer.rewrite))
    assert len(asked) == 3
    assert [[item.text for item in of_query] for of_query in made.rewritings] == [
        ["a blue dress"] * 2,
        ["is elegant"],
        ["a hat"],
    ]
    assert made.fallbacks == 1
    with pytest.raises(E2FashionError, match="answers of 'some-model', not of 'other'"):
        Answers(file, "other")


def test_answers_made_elsewhere_are_enough_and_unanswered_questions_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    entry = {"caption": "a black shirt", "instruction": "is elegant", "answer": "an elegant black shirt"}
    answers = {question_key("a black shirt", "is elegant"): entry}
    file.write_text(json.dumps({"format": 1, "model": "by hand", "answers": answers}))
    composer = LanguageModelComposer(Answers(file))
    made = compose("llm", QUERIES, embed, rewriters(language_model=composer.rewrite))
    assert made.rewritings[1][0].text == "an elegant black shirt"
    assert made.fallbacks == 1
    assert [item.caption for item in composer.unanswered] == ["a red dress", "a red dress"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "are not JSON"),
        ('{"format": 2, "answers": {}}', "holds no answers of format 1"),
        ('{"format": 1, "answers": {"k": {"caption": "a"}}}', "answer 'k' is"),
        ('{"format": 1, "answers": {"k": {"caption": "a", "instruction": "b", "answer": "c"}}}', "does not belong"),
    ],
)
def test_corrupt_answers_are_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "answers.json"
    file.write_text(content)
    with pytest.raises(E2FashionError, match=message):
        Answers(file)


def test_a_missing_language_model_and_missing_answers_are_named(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"language model '.*nowhere' cannot be loaded"):
        load_language_model(str(tmp_path / "nowhere"))
    with pytest.raises(E2FashionError, match=r"no answers at .*none\.json"):
        Answers(tmp_path / "none.json")


def test_any_causal_model_can_be_asked(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<end>": 0, "dress": 1, "red": 2}, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(tmp_path)
    config = GPT2Config(vocab_size=3, n_positions=200, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    ask = load_language_model(str(tmp_path), longest=4)
    alone, together = ask(["red dress"]), ask(["red dress", "dress"])
    assert alone[0] == together[0]
    composer = LanguageModelComposer(Answers(tmp_path / "answers.json", "tiny"), ask)
    assert len(composer.rewrite([Question("red dress", "is blue")])) == 1


ROWS = [
    ("1", "Ayla Men Blue Shirt", "Ayla", "Blue"),
    ("2", "Ayla Men Navy Blue Shirt", "Ayla", "Navy Blue"),
    ("3", "Ayla Men Red  shirt", "Ayla", "Red"),
    ("4", "Ayla Men Red Shirt", "Ayla", "Red"),
    ("5", "Borin Men Red Shirt", "Borin", "Red"),
    ("6", "Ayla Men Linen Shirt", "Ayla", None),
    ("7", "Men Red Shirt", None, "Red"),
    ("8", "Men Blue Shirt", None, "Blue"),
]


def stub_of(path: str, tags: Sequence[str], split: Dataset) -> Catalogue:
    stub = SimpleNamespace(path=Path(path), tag_columns=tuple(tags), split=lambda name: split)
    stub.first_rows = partial(Catalogue.first_rows, cast(Catalogue, stub))
    return cast(Catalogue, stub)


def catalogue_of(rows: Sequence[tuple[str, str, str | None, str | None]]) -> Catalogue:
    columns = ("product_id", "description", "brand", "colour")
    split = Dataset.from_dict({name: [row[place] for row in rows] for place, name in enumerate(columns)})
    return stub_of("stub", ("brand", "colour"), split)


LINE = ComposeConfig(line_columns=["brand"])


def test_other_colors_of_a_line_are_the_queries() -> None:
    queries = other_color_queries(catalogue_of(ROWS), "test", LINE)
    asked = [
        (queries.images[int(reference)], instructions[0])
        for reference, instructions in zip(queries.reference, queries.instructions, strict=True)
    ]
    assert asked == [
        ("1", "in navy blue"),
        ("1", "in red"),
        ("2", "in blue"),
        ("2", "in red"),
        ("3", "in blue"),
        ("3", "in navy blue"),
        ("4", "in blue"),
        ("4", "in navy blue"),
    ]
    hits = [queries.answers.eq(wanted).nonzero().flatten().tolist() for wanted in queries.wanted]
    assert hits[1] == [2, 3]
    assert len(queries.gallery) == len(ROWS)
    assert queries.unit.unique().numel() == 1
    assert queries.tags[0]["colour"] == "Blue"
    assert queries.counts["products_without_a_colour"] == 1


def test_queries_are_deterministic() -> None:
    first, second = (other_color_queries(catalogue_of(ROWS), "test", LINE) for _ in range(2))
    assert first.instructions == second.instructions
    assert torch.equal(first.wanted, second.wanted)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (ComposeConfig(line_columns=["maker"]), "no column 'maker'"),
        (ComposeConfig(line_columns=[], line_name=False), "every product would be of one line"),
        (ComposeConfig(line_columns=["brand"], instruction="another color"), "has no slot"),
    ],
)
def test_impossible_lines_are_refused(line: ComposeConfig, message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        other_color_queries(catalogue_of(ROWS), "test", line)


def test_a_catalogue_without_lines_of_two_colors_is_refused() -> None:
    with pytest.raises(E2FashionError, match="no product line of two colors"):
        other_color_queries(catalogue_of(ROWS[4:5]), "test", LINE)


@pytest.mark.real_data
def test_lines_of_fashion_product_images(real_data: Path) -> None:
    with (real_data / "fashion-product-images" / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    tags = ("brand", "gender", "article_type", "colour")
    columns = {"product_id": [row["id"] for row in rows], "description": [row["name"] for row in rows]}
    split = Dataset.from_dict(columns | {tag: [row[tag] or None for row in rows] for tag in tags})
    queries = other_color_queries(stub_of("kagl", tags, split), "test", ComposeConfig())
    assert (len(queries), len(queries.gallery)) == (214, 1120)
    assert queries.counts["lines_of_several_colours"] == 51
    unknown = {listed[0] for listed in queries.instructions if not parse_instruction(listed[0])}
    assert not unknown, "colors that the rule composer does not know"
