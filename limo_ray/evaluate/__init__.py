"""Evaluation: benchmarks, attempts at them, and scores that can be trusted."""
