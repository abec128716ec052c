"""Explain what an encoder sees in one image: stripe occlusion for texts, selection maps, attention, rollout."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from torch import Tensor

from e2fashion.arithmetic import measuring_precision, set_threads
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image, read_pixels
from e2fashion.data.transforms import normalize
from e2fashion.disk import file_name
from e2fashion.embedding import evaluating
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.figures import Heatmap, ImageArray, as_array, draw_heatmaps
from e2fashion.measuring import load_named, to_device
from e2fashion.options import check_schema
from e2fashion.tasks.localization.attribution import SCORERS, check_methods, gray_square, selects
from e2fashion.tasks.localization.config import ExplainConfig, Method
from e2fashion.types import E2FashionError, Sample

ACROSS = 5  #: panels in a line
LETTERS = 26  #: of a line below a panel


@dataclass(frozen=True)
class Explanation:
    """One map of one image: ``heatmap`` is the square that the encoder saw, with heat and the patches it read.

    ``heading`` names the method, ``subject`` the text or the entity that it is about (empty: neither).
    """

    method: str
    heading: str
    subject: str
    heatmap: Heatmap


@dataclass(frozen=True)
class Explained:
    """The maps of one ``image`` (H, W, 3), what it is called, and the name of the model."""

    model: str
    name: str
    image: ImageArray
    maps: list[Explanation]

    def draw(self, file: Path | None = None) -> Path:
        """Write the image and every map (bright where the model looks, frames are picks) as one figure.

        ``file`` defaults to one in ``runs/explain/<model>/``.
        """
        file = file or Path("runs") / "explain" / file_name(self.model) / f"{file_name(self.name)}.png"
        captions = [_below(item) for item in self.maps]
        headings, looks = [item.heading for item in self.maps], [item.heatmap for item in self.maps]
        draw_heatmaps(
            self.image, looks, headings, captions, file, f"{self.model}: where it looks in {self.name}", ACROSS
        )
        return file


def explain(config: ExplainConfig) -> Explained:
    """Where a model looks in an image file, or in a product of a catalogue, for texts and for its entities.

    Raises:
        E2FashionError: neither or both of image and catalogue, or what :func:`explain_image` refuses.
    """
    check_schema(config)
    set_threads(config.threads)
    if (config.image is None) == (config.data is None):
        raise E2FashionError(
            f"image={config.image}, data={config.data}: give one, an image file, or a catalogue and a product_id."
        )
    encoder, _ = load_named(config)
    if config.image is not None:
        image, name, texts = read_pixels(Path(config.image)), Path(config.image).stem, list[str]()
    else:
        image, name, texts = _product(config, encoder)
    if config.text is not None:
        texts = [text.strip() for text in config.text.split("|")]
    to_device(encoder, config.accelerator)
    config = replace(config, precision=measuring_precision(config))
    return Explained(encoder.name, name, as_array(image), explain_image(encoder, image, config, texts))


def explain_image(
    encoder: Encoder, image: Tensor, config: ExplainConfig | None = None, texts: Sequence[str] = ()
) -> list[Explanation]:
    """Every map of a decoded image uint8 (3, H, W) by the methods of ``config`` (none named: those that apply).

    Raises:
        E2FashionError: an unknown method, occlusion without a text or with an empty one, selection maps of a model
            that has none, or occlusion of a model that compares tokens.
    """
    config = config or ExplainConfig()
    methods = _default_methods(encoder, texts) if config.methods is None else config.methods
    _check(encoder, methods, texts)
    maps: list[Explanation] = []
    with evaluating(encoder.model, config.precision):
        for method in methods:
            maps += _explained(encoder, image, method, texts, config)
    return maps


def _explained(
    encoder: Encoder, image: Tensor, method: str, texts: Sequence[str], config: ExplainConfig
) -> list[Explanation]:
    """The maps of one method; of several blocks the last."""
    scorer, transform = SCORERS[method], encoder.transform
    if scorer.subject == "text" and config.square == "grey":
        image, transform = gray_square(image, transform.mean), replace(transform, resize="squeeze")
    square = transform(image)
    pixels = normalize(square[None].to(encoder.model.device), transform.mean, transform.std)
    entities = encoder.selecting_entities
    last = scorer.attribute(encoder, pixels, lambda: encoder.embed_texts(list(texts))[None], entities, config)[-1]
    names = [entity.name for entity in entities]
    subjects = {"text": list(texts), "entity": names, "image": [""]}[scorer.subject]
    selected = [[patch for patch in patches[0].tolist() if patch >= 0] for patches in last.selected or ()]
    selected = selected or [[] for _ in subjects]
    shown, heading = as_array(square), scorer.heading.format(layer=last.layer)
    return [
        Explanation(method, heading, subject, Heatmap(shown, heat.float().cpu().numpy(), patches))
        for subject, heat, patches in zip(subjects, last.maps[0], selected, strict=True)
    ]


def _default_methods(encoder: Encoder, texts: Sequence[str]) -> list[Method]:
    if encoder.backbone == "siglip" and not texts and not selects(encoder):
        return ["occlusion"]  # there is no CLS whose attention could be shown; the error asks for a text
    methods: list[Method] = ["occlusion"] if texts and not encoder.compares_tokens else []
    if selects(encoder):
        methods.append("tokens")
    return methods or ["attention"]


def _check(encoder: Encoder, methods: Sequence[str], texts: Sequence[str]) -> None:
    """Refuse what cannot be explained, before anything is computed."""
    if not methods:
        raise E2FashionError(f"there are no methods: choose among {', '.join(SCORERS)}.")
    check_methods(methods, "methods", encoder)
    if any(not text.strip() for text in texts):
        raise E2FashionError("a text is empty: say what to look for, as in text='a red logo'.")
    if by_text := [method for method in methods if SCORERS[method].subject == "text"]:
        require_single_vectors(encoder, SCORERS[by_text[0]].heading)
        if not texts:
            raise E2FashionError(f"{by_text[0]} needs a text: say what to look for, as in text='a red logo'.")
    if "tokens" in methods and not selects(encoder):
        raise E2FashionError(
            f"'{encoder.name}' has no selection tokens and so no maps of theirs: choose methods=occlusion,attention."
        )


def _product(config: ExplainConfig, encoder: Encoder) -> tuple[Tensor, str, list[str]]:
    """The decoded first image of a product, its name, and the texts that are known of it."""
    if config.product_id is None:
        raise E2FashionError(f"data={config.data} without product_id: say which product to explain.")
    catalogue = Catalogue.load(cast(str, config.data))
    sample = _sample(catalogue, config.product_id)
    tags = [sample.tags.get(entity.column) for entity in encoder.entities]
    texts = [text for text in (sample.description, *tags) if text and text.strip()]
    return decode_image(sample.image), f"product {config.product_id}", list(dict.fromkeys(texts))


def _sample(catalogue: Catalogue, product_id: str) -> Sample:
    """The first view of a product, from whichever split holds it."""
    for split in catalogue.split_names:
        rows = catalogue.split(split)
        if product_id in (ids := list(rows["product_id"])):
            row = rows[ids.index(product_id)]
            tags = {column: row[column] for column in catalogue.tag_columns}
            return Sample(product_id, row["image"], row["description"] or "", tags)
    raise E2FashionError(f"The catalogue {catalogue.path} has no product '{product_id}'.")


def _below(explanation: Explanation) -> str:
    if not explanation.heatmap.heat.any():
        return f"{explanation.subject}\n(no heat)".strip()
    return "\n".join(textwrap.wrap(explanation.subject, LETTERS, max_lines=2, placeholder=" ..."))
