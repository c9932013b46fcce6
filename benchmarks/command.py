"""The command line that the measuring scripts share."""

import argparse


def parser(documentation: str) -> argparse.ArgumentParser:
    """Return a parser whose `--help` prints a script's docstring as it stands.

    >>> print(parser("Measure.\\n\\n    python -m benchmarks").format_help().partition("\\n\\n")[2])
    Measure.
    <BLANKLINE>
        python -m benchmarks
    <BLANKLINE>
    options:
      -h, --help  show this help message and exit
    <BLANKLINE>
    """
    return argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
