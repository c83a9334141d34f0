"""The funnel on the terminal: what went where, and what to try."""

from limo_ray.curate import funnel
from limo_ray.curate.outputs import RunResult
from limo_ray.report.html import REASONS

COUNTS = [
    {"source": "own", "outcome": outcome, "stage": stage, "reason": reason, "rows": rows}
    for outcome, stage, reason, rows in (
        ("kept", "selection", None, 5), ("dropped", "strong", "drop_hard", 1200),
        ("dropped", "sources", "invalid", 40), ("dropped", "filters", "length", 7),
        ("dropped", "filters", "language", 30), ("dropped", "dedup", "duplicate", 300),
    )
]  # fmt: skip


def test_each_stage_has_its_reasons_in_the_order_of_the_pipeline() -> None:
    assert funnel.lines(COUNTS) == [
        "  rows read      1,582",
        "  sources          -40  40 invalid",
        "  filters          -37  30 language, 7 length",
        "  dedup           -300  300 duplicate",
        "  strong        -1,200  1,200 drop_hard",
        "  left               5",
    ]


def test_advice_is_for_what_dropped_most() -> None:
    told = funnel.advice(COUNTS)
    assert [line.split()[0] for line in told] == ["drop_hard", "invalid", "language"]
    assert told[0].startswith("  drop_hard (1,200 rows): take easier problems")
    assert "filters.language=[]" in told[2]


def test_every_reason_that_the_report_explains_has_advice_or_needs_none() -> None:
    named = {reason.rpartition("/")[2] for reason in REASONS}
    assert named - set(funnel.ADVICE) == {"duplicate"}


def result(wanted: int) -> str:
    counts = {
        "input": 1582,
        "pool": 1205,
        "sampled": 1205,
        "kept": 5,
        "with_chain": 5,
        "selected": 5,
    }
    return RunResult(
        folder="/runs/own", counts=counts, selected=5, resumed=False, message="", wanted=wanted,
        funnel=COUNTS,
    ).summary()  # fmt: skip


def test_a_summary_has_the_funnel_and_advice_only_where_too_little_is_left() -> None:
    assert "-1,200  1,200 drop_hard" in result(5) and "to get more" not in result(5)
    short = result(10)
    assert "to get more" in short and "drop_hard (1,200 rows): take easier" in short
    assert short.endswith("/runs/own/examples.parquet")
