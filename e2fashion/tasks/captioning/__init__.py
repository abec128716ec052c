"""Captioning without paired training: texts teach a decoder, pictures are told by it."""
