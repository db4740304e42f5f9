"""Benchmarks: each prints a table and writes build/bench/NAME.json; nothing here asserts a time."""
