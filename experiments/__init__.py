"""Claims: one small file per table or figure, with its command, its cost and its known deviations.

Every file has the same command line (``python -m experiments.<name> --help``) and writes Markdown, LaTeX, CSV and the
records behind them into ``runs/experiments/<name>/``; runs that several of them need are trained once, in
``runs/experiments/runs/``. Published values stand in ``published.yaml``, each with its source.

``--scale small`` and ``--scale pretrained`` make small counterparts of the paper's tables on public photos.
"""
