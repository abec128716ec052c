"""Checkpoints of OpenAI's CLIP, open_clip and the official E2 code, to our models and back."""
