"""Metrics as pure functions and torchmetrics classes."""
