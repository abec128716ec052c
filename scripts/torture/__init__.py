"""Kills, races, full disks and damaged input for every verb and every reader: ``python -m scripts.torture``.

Everything runs in forked children of one process that has imported the libraries once, so that a trial costs what the
verb costs and not what the imports do.
"""
