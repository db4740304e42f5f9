"""Synthesizers: each a file that reads like its paper, on top of shared mechanisms."""
