"""Benchmarks: streams and paper protocols over memories and seeds, kept as records. ``python -m benchmarks --help``."""
