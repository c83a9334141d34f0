"""The report and the dataset card of a curation run, as text from plain values.

    render_report(manifest, ledger_counts, examples, problems)   ->   report.html
    render_card(manifest, ledger_counts, examples)               ->   README.md

Pure: the pipeline reads what they tell and writes what they return. No Ray, no torch.
"""

from limo_ray.report.card import render_card
from limo_ray.report.html import render_report

__all__ = ["render_card", "render_report"]
