"""Evaluation: benchmarks and, in time, the scores on them."""
