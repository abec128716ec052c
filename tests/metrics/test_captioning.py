"""Caption metrics: values by hand, COCO's tokenizer, and what is missing without Java."""

import math
import shutil

import pytest
import torch
import torch.nn.functional as F

from e2fashion.metrics import captioning
from e2fashion.metrics.captioning import NO_JAVA, caption_scores, clip_scores, ptb_tokens, word_tokens
from e2fashion.types import E2FashionError

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java runtime")
REFERENCES = [["Red shirt, with long sleeves."], ["A blue shoe", "Shoe that's blue!"], ["green bag with a belt"]]


def test_bleu_and_rouge_by_hand() -> None:
    scores = caption_scores([["a red shirt with sleeves"], ["blue shoe"]], ["a red shirt", "red shoe"], "words", False)
    # 4 of 5 words, 2 of 3 pairs; 5 words where the reference has 7.
    brevity = math.exp(1 - 7 / 5)
    assert scores.values["BLEU@1"] == pytest.approx(100 * brevity * 4 / 5, abs=1e-3)
    assert scores.values["BLEU@2"] == pytest.approx(100 * brevity * math.sqrt(4 / 5 * 2 / 3), abs=1e-3)
    # Longest common parts of 3 and 1 words; beta is 1.2.
    first, second = (1 + 1.44) * 1.0 * 0.6 / (0.6 + 1.44 * 1.0), 0.5
    assert scores.items["ROUGE-L"].tolist() == pytest.approx([100 * first, 100 * second])
    assert scores.values["ROUGE-L"] == pytest.approx(50 * (first + second))
    assert scores.implementation.startswith("pycocoevalcap ")


def test_cider_of_the_truth_is_ten_and_of_nothing_zero() -> None:
    truth = [["red shirt with sleeves"], ["blue shoe with laces"], ["green bag with belts"]]
    captions = [truth[0][0], "", "yellow hat"]
    scores = caption_scores(truth, captions, "words", meteor=False)
    assert scores.items["CIDEr"].tolist() == pytest.approx([1000.0, 0.0, 0.0])
    assert scores.missing == {"METEOR": "METEOR was not requested"}


def test_words_are_letters_and_digits() -> None:
    assert word_tokens(["Men's T-Shirt, 50%", "  "]) == ["men s t shirt 50", ""]


@needs_java
def test_the_ptb_tokenizer_is_cocos() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = [text for item in REFERENCES for text in item]
    expected = PTBTokenizer().tokenize({n: [{"caption": text}] for n, text in enumerate(texts)})
    assert ptb_tokens(texts) == [expected[n][0] for n in range(len(texts))]
    assert ptb_tokens(["two\u2028lines", "", "one"]) == ["two lines", "", "one"]


@needs_java
@pytest.mark.slow
def test_meteor_of_the_truth_is_full() -> None:
    truth = [["a red shirt with long sleeves"], ["a blue shoe with white laces"]]
    assert caption_scores(truth, [item[0] for item in truth]).values["METEOR"] == pytest.approx(100.0, abs=0.5)


def test_without_java_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioning, "has_java", lambda: False)
    scores = caption_scores(REFERENCES, ["a", "b", "c"])
    assert not scores.values
    assert scores.missing == dict.fromkeys(captioning.CAPTION_METRICS, NO_JAVA)
    assert caption_scores(REFERENCES, ["a", "b", "c"], "words").missing == {"METEOR": NO_JAVA}


def test_what_cannot_be_scored_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(E2FashionError, match="2 captions for 3 items"):
        caption_scores(REFERENCES, ["a", "b"])
    with pytest.raises(E2FashionError, match="item 1 has no reference caption"):
        caption_scores([["a"], [" "]], ["a", "b"])
    with pytest.raises(E2FashionError, match="item 0 has no reference caption"):
        caption_scores([["", "\u200b"], ["a"]], ["a", "b"])
    monkeypatch.setattr(captioning, "PACKAGE", "no-such-package")
    with pytest.raises(E2FashionError, match=r"install e2fashion\[captioning\]"):
        caption_scores([["a"]], ["a"])


def test_clip_score_is_two_and_a_half_times_the_cosine_and_never_negative() -> None:
    pictures = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), dim=-1)
    captions = F.normalize(torch.tensor([[1.0, 1.0], [-1.0, 0.2]]), dim=-1)
    assert clip_scores(pictures, captions).tolist() == pytest.approx([250 / math.sqrt(2), 0.0])
