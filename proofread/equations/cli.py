"""The commands of this part."""


def add_commands(subparsers) -> None:
    """Add this part's commands to the command line."""
