"""Captioning without paired training: a decoder is trained on texts and captions images."""
