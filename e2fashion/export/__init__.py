"""An encoder as others' code expects one: OpenAI's ``clip``, ``sentence-transformers``, ONNX."""

from e2fashion.export.openai_clip import OpenAIStyleModel, Preprocess, load

__all__ = ["OpenAIStyleModel", "Preprocess", "load"]
