"""How fast the code is, against slow but obvious variants that compute the same: ``python -m scripts.bench``.

One file per topic: the variants, and a function per benchmark that times them. Tests prove that the variants agree.
"""
