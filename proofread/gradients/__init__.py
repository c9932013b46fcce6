"""Compare a gradient with the right one and name what went wrong."""
