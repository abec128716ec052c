"""An encoder as others' code expects one: OpenAI's ``clip``, ``sentence-transformers``, ONNX."""
