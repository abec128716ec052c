import pytest
import torch

from e2fashion.data.dataset import Item
from e2fashion.data.loader import Collator
from e2fashion.data.text import stable_id
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.types import E2FashionError

TEXTS = ["a red cotton shirt", "blue jeans", "a red cotton shirt", "a very long text " * 20]
TAGS: list[tuple[str | None, ...]] = [("Nike", "Summer"), (None, "Winter"), ("Adidas", "Summer"), (None, None)]
TOKENIZER = train_tokenizer([*TEXTS, "Nike Adidas Summer Winter"], kind="bpe", vocabulary=600)


def items(tags: list[tuple[str | None, ...]] = TAGS) -> list[Item]:
    return [
        Item(torch.full((3, 4, 4), place, dtype=torch.uint8), text, tags[place], f"p{place}")
        for place, text in enumerate(TEXTS)
    ]


def collator(entities: int = 2) -> Collator:
    return Collator(TOKENIZER, context_length=16, entities=entities)


def test_texts_are_what_the_tokenizer_gives() -> None:
    expected = TOKENIZER(TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt")
    batch = collator()(items())
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])


def test_texts_are_padded_to_the_longest_of_the_batch_only() -> None:
    batch = collator()(items()[1:2])
    assert batch.input_ids.shape == (1, len(TOKENIZER("blue jeans")["input_ids"]))
    assert batch.attention_mask.all()


def test_distinct_tags_stand_once_in_order_of_appearance() -> None:
    batch = collator()(items())
    expected = TOKENIZER(["Nike", "Summer", "Winter", "Adidas"], padding=True, return_tensors="pt")
    assert torch.equal(batch.tag_input_ids, expected["input_ids"])
    assert torch.equal(batch.tag_attention_mask, expected["attention_mask"])
    assert batch.tag_index.tolist() == [[0, 1], [0, 2], [3, 1], [0, 0]]
    assert batch.tag_present.tolist() == [[True, True], [False, True], [True, True], [False, False]]


def test_tag_values_identify_the_tag_and_are_zero_where_absent() -> None:
    values = collator()(items()).tag_value
    assert values.tolist()[0] == [stable_id("Nike"), stable_id("Summer")]
    assert values[0, 1] == values[2, 1]
    assert values[3].tolist() == [0, 0]


def test_text_group_tells_equal_texts() -> None:
    group = collator()(items()).text_group
    assert group[0] == group[2]
    assert len(set(group.tolist())) == 3


def test_pictures_and_products_keep_their_order() -> None:
    batch = collator()(items())
    assert batch.pixel_values.shape == (4, 3, 4, 4)
    assert batch.pixel_values.dtype == torch.uint8
    assert batch.pixel_values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert batch.product_ids == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize(("tags", "entities"), [([(None, None)] * 4, 2), ([()] * 4, 0)])
def test_no_tag_at_all_is_an_empty_table(tags: list[tuple[str | None, ...]], entities: int) -> None:
    batch = collator(entities)(items(tags))
    assert batch.tag_input_ids.shape == batch.tag_attention_mask.shape == (0, 1)
    assert batch.tag_index.shape == batch.tag_present.shape == batch.tag_value.shape == (4, entities)
    assert not batch.tag_present.any()


def test_each_text_is_tokenised_once() -> None:
    calls: list[str] = []

    def count(texts: list[str], **options: object) -> object:
        calls.extend(texts)
        return TOKENIZER(texts, **options)

    collate = collator()
    collate.fit.tokenizer = type(
        "Counting", (), {"__call__": staticmethod(count), "pad_token_id": TOKENIZER.pad_token_id}
    )()
    first, second = collate(items()), collate(items())
    assert len(calls) == len(set(calls)) == 7
    assert torch.equal(first.input_ids, second.input_ids)


def test_long_text_keeps_its_end_token() -> None:
    ids = collator()(items()).input_ids[3]
    assert len(ids) == 16
    assert ids[-1] == TOKENIZER.eos_token_id


def test_tokenizer_without_pad_token_is_an_error() -> None:
    tokenizer = train_tokenizer(TEXTS, kind="word")
    tokenizer.pad_token = None
    with pytest.raises(E2FashionError, match="no pad token"):
        Collator(tokenizer, 16, 0)


def test_context_length_without_room_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="context_length is 2"):
        Collator(TOKENIZER, 2, 0)
