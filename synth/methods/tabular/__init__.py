"""Synthesizers of tables."""
