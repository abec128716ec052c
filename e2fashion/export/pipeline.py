"""Transformers' zero-shot pipeline with the probabilities of models that were trained with the sigmoid loss."""

from __future__ import annotations

from typing import Any

from transformers import ZeroShotImageClassificationPipeline

from e2fashion.models.modeling_e2 import E2Model


class ZeroShotPipeline(ZeroShotImageClassificationPipeline):
    """``pipeline("zero-shot-image-classification", model=..., pipeline_class=ZeroShotPipeline)``.

    Of a model with a ``logit_bias`` the score of a label is a separate probability to fit, the sigmoid of its logit, as
    Transformers computes it for the model type ``siglip`` alone; an E2 on a SigLIP is of the type ``e2``, and its
    scores would be a softmax over the labels. For all other models it is Transformers' pipeline.
    """

    def check_model_type(self, supported_models: list[str] | dict[str, Any]) -> None:
        """As Transformers, which knows E2 by its name alone: its variants are E2s too."""
        if not isinstance(self.model, E2Model):
            super().check_model_type(supported_models)

    def postprocess(self, model_outputs: Any, **options: Any) -> list[dict[str, Any]]:
        """Labels and scores of an image, best first."""
        if getattr(self.model, "logit_bias", None) is None:
            return super().postprocess(model_outputs, **options)
        scores = model_outputs["logits"][0].sigmoid().tolist()
        answers = zip(scores, model_outputs["candidate_labels"], strict=True)
        return [{"score": score, "label": label} for score, label in sorted(answers, key=lambda pair: -pair[0])]
