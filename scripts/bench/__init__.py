"""How fast the code is, against slow but obvious arms that compute the same: ``python -m scripts.bench``.

One file per benchmark: its arms, and ``run`` that times them. Tests prove that the arms agree.
"""
