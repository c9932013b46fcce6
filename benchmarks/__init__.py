"""Measure the speed and memory of the snippets. Run by hand; nothing here is a test."""
