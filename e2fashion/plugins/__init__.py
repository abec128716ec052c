"""An encoder as others' code expects one: OpenAI's ``clip``, ``sentence-transformers``, ONNX."""

from e2fashion.plugins.openai_style import OpenAIStyleModel, Preprocess, load

__all__ = ["OpenAIStyleModel", "Preprocess", "load"]
