"""Scripts that write files of this repository: `python -m tools.<name>` from its root."""
