"""Caption metrics as COCO computes them, through ``pycocoevalcap`` (extra ``captioning``); CLIPScore beside them."""

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
    "Java is not on the path: METEOR and COCO's PTB tokenizer, which the other caption metrics read, are n/a. Install "
    "Java 8 or newer, or take tokenizer=words, whose numbers are comparable with each other alone (METEOR stays n/a)."
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

    CIDEr weighs words by how many of the N items mention them: it says nothing without N. Without Java what needs it
    is ``missing``. ``ptb`` is COCO's tokenizer (punctuation dropped, lower case); ``words`` (ours) keeps runs of
    letters and digits. ``meteor`` False leaves METEOR out, whose tables take seconds and 2 GB to load.

    Raises:
        E2FashionError: the extra is not installed, nothing to score, or an item without a reference.
    """
    if len(references) != len(candidates) or not candidates:
        raise E2FashionError(
            f"{len(candidates)} captions for {len(references)} items: give one each, and at least one."
        )
    bare = next((number for number, texts in enumerate(references) if all(map(is_blank, texts))), None)
    if bare is not None:
        raise E2FashionError(f"item {bare} has no reference caption: leave it out, and count it.")
    scorers = _scorers()
    implementation = f"{PACKAGE} {version(PACKAGE)}"
    java = has_java()
    if tokenizer == "ptb" and not java:
        return CaptionScores({}, {}, tokenizer, implementation, dict.fromkeys(CAPTION_METRICS, NO_JAVA))
    split = {"ptb": ptb_tokens, "words": word_tokens}[tokenizer]
    told = split(candidates)
    flat = iter(split([text for texts in references for text in texts]))
    truth = {number: [next(flat) for _ in texts] for number, texts in enumerate(references)}
    given = {number: [text] for number, text in enumerate(told)}
    values: dict[str, float] = {}
    items: dict[str, Tensor] = {}
    bleu = scorers["bleu"]().compute_score(truth, given, verbose=0)[0]
    values |= {name: 100 * float(value) for name, value in zip(BLEU, bleu, strict=True)}
    for name in (ROUGE_L, CIDER):
        mean, single = scorers[name]().compute_score(truth, given)
        values[name] = 100 * float(mean)
        items[name] = 100 * torch.as_tensor(single, dtype=torch.float64)
    missing = {} if java and meteor else {METEOR: NO_JAVA if meteor else "METEOR was not asked for"}
    if not missing:
        values[METEOR] = 100 * float(scorers[METEOR]().compute_score(truth, given)[0])
    return CaptionScores(
        {n: values[n] for n in CAPTION_METRICS if n in values}, items, tokenizer, implementation, missing
    )


def ptb_tokens(texts: Sequence[str]) -> list[str]:
    """Texts as COCO's tokenizer splits them: lower case, words apart, punctuation left out. Needs Java.

    The package's own class is not used: it writes into its installation, reports on stderr, and loses count of lines
    where a text holds an unusual line break.
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
    """Texts in lower case with every mark as a blank (ours)."""
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
