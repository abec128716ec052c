"""COCO caption metrics through ``pycocoevalcap`` (extra ``captioning``), and CLIPScore."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from e2fashion.escape import is_blank
from e2fashion.types import E2FashionError

CaptionTokenizer = Literal["ptb", "words"]
BLEU, METEOR, ROUGE_L, CIDER = tuple(f"BLEU@{n}" for n in range(1, 5)), "METEOR", "ROUGE-L", "CIDEr"
CAPTION_METRICS = (*BLEU, METEOR, ROUGE_L, CIDER)
CLIP_SCORE = "CLIPScore"
CLIP_SCORE_WEIGHT = 2.5

PACKAGE = "pycocoevalcap"
PTB_CLASS = "edu.stanford.nlp.process.PTBTokenizer"
NO_JAVA = (
    "Java is not on the path: METEOR and COCO's PTB tokenizer, which the other caption metrics need, are n/a. Install "
    "Java 8 or newer, or use tokenizer=words, whose numbers are only comparable with each other (METEOR stays n/a)."
)


@dataclass(frozen=True)
class CaptionScores:
    """Metrics in percent, the values of single items (N,) where a metric is their mean, and how they were computed.

    ``missing`` maps metrics that could not be computed to the reason.
    """

    values: dict[str, float]
    items: dict[str, Tensor]
    tokenizer: CaptionTokenizer
    implementation: str
    missing: dict[str, str] = field(default_factory=dict)


def has_java() -> bool:
    """Whether a Java runtime is on the path."""
    return shutil.which("java") is not None


def caption_scores(
    references: Sequence[Sequence[str]],
    candidates: Sequence[str],
    tokenizer: CaptionTokenizer = "ptb",
    meteor: bool = True,
) -> CaptionScores:
    """BLEU-1 to 4, METEOR, ROUGE-L (beta 1.2) and CIDEr-D of ``candidates`` (N) against their ``references`` (N).

    CIDEr weights words by their frequency among the N items, so it depends on N. Without Java, metrics that need it are
    ``missing``. ``ptb`` is COCO's tokenizer (without punctuation, lower case); ``words`` (ours) keeps runs of letters
    and digits. ``meteor`` False skips METEOR, which needs seconds and 2 GB to load its tables.

    Raises:
        E2FashionError: the extra is not installed, there are no captions, or an item has no reference.
    """
    if len(references) != len(candidates) or not candidates:
        raise E2FashionError(
            f"{len(candidates)} captions for {len(references)} items: give one each, and at least one."
        )
    blank = next((number for number, texts in enumerate(references) if all(map(is_blank, texts))), None)
    if blank is not None:
        raise E2FashionError(f"item {blank} has no reference caption: leave it out and count it.")
    scorers = _scorers()
    implementation = f"{PACKAGE} {version(PACKAGE)}"
    java = has_java()
    if tokenizer == "ptb" and not java:
        return CaptionScores({}, {}, tokenizer, implementation, dict.fromkeys(CAPTION_METRICS, NO_JAVA))
    split = {"ptb": ptb_tokens, "words": word_tokens}[tokenizer]
    flat = iter(split([text for texts in references for text in texts]))
    truth = {number: [next(flat) for _ in texts] for number, texts in enumerate(references)}
    given = {number: [text] for number, text in enumerate(split(candidates))}
    values: dict[str, float] = {}
    items: dict[str, Tensor] = {}
    bleu = scorers["bleu"]().compute_score(truth, given, verbose=0)[0]
    values |= {name: 100 * float(value) for name, value in zip(BLEU, bleu, strict=True)}
    for name in (ROUGE_L, CIDER):
        mean, single = scorers[name]().compute_score(truth, given)
        values[name] = 100 * float(mean)
        items[name] = 100 * torch.as_tensor(single, dtype=torch.float64)
    missing = {} if java and meteor else {METEOR: NO_JAVA if meteor else "METEOR was not requested"}
    if not missing:
        values[METEOR] = 100 * float(scorers[METEOR]().compute_score(truth, given)[0])
    return CaptionScores(
        {n: values[n] for n in CAPTION_METRICS if n in values}, items, tokenizer, implementation, missing
    )


def ptb_tokens(texts: Sequence[str]) -> list[str]:
    """Texts tokenized by COCO's tokenizer: lower case, without punctuation. Needs Java.

    The package's own class is not used: it writes into its installation folder, prints to stderr, and miscounts lines
    of texts with unusual line breaks.

    Raises:
        E2FashionError: Java fails.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    with tempfile.TemporaryDirectory(prefix="captions-") as folder:
        file = Path(folder) / "captions.txt"
        file.write_text("\n".join(" ".join(text.split()) for text in texts), encoding="utf-8")
        command = ["java", "-cp", str(jar), PTB_CLASS, "-preserveLines", "-lowerCase", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise E2FashionError(f"The PTB tokenizer failed ({reason}): check `java -version` (8 or newer).")
    lines = done.stdout.split("\n")[: len(texts)]
    if len(lines) != len(texts):
        raise E2FashionError(f"The PTB tokenizer gave {len(lines)} lines for {len(texts)} captions: report the texts.")
    dropped = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(word for word in line.split() if word not in dropped) for line in lines]


def word_tokens(texts: Sequence[str]) -> list[str]:
    """Texts in lower case, all characters but letters and digits replaced by blanks (ours)."""
    return [" ".join("".join(sign if sign.isalnum() else " " for sign in text.lower()).split()) for text in texts]


def clip_scores(image_embeds: Tensor, caption_embeds: Tensor) -> Tensor:
    """CLIPScore of each pair of L2-normalized embeddings (N, C), in percent: 2.5 * max(cosine, 0) (N,)."""
    return 100 * CLIP_SCORE_WEIGHT * (image_embeds * caption_embeds).sum(-1).clamp(min=0).double()


def _scorers() -> dict[str, Callable[[], Any]]:
    try:
        version(PACKAGE)
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.rouge.rouge import Rouge
    except (ImportError, PackageNotFoundError) as error:
        raise E2FashionError(f"Caption metrics need {PACKAGE}: install e2fashion[captioning]. ({error})") from error
    return {"bleu": lambda: Bleu(4), METEOR: Meteor, ROUGE_L: Rouge, CIDER: Cider}
