"""The command line: ``e2fashion <verb> [config.yaml] [key=value ...] [--flags]``.

``key=value`` changes the configuration, flags steer the command. Every verb is one function of
:mod:`e2fashion.runner`; here words are only sorted into what those functions take.
"""

from e2fashion.cli.entry import VERBS, main

__all__ = ["VERBS", "main"]
