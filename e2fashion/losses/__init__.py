"""Contrastive losses as pure functions, and their weighted sum with further terms."""
