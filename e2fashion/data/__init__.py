"""Catalogues of products and the batches that are made from them."""
