"""Claims: one small file per table or figure, with its command, its cost and its known deviations.

Every file has the same command line (``python -m experiments.<name> --help``): runs are named by ``configs/ablation``
or by ``configs/run``, and a view draws from their records. Tables are written as Markdown, LaTeX and CSV with the
records behind them, figures as PNG, into ``runs/experiments/<name>/``; runs that several experiments need are trained
once, in ``runs/experiments/runs/``. Published values are in ``published.yaml``, each with its source.

``--scale small`` and ``--scale pretrained`` make small counterparts of the paper's tables on public photos.
"""
