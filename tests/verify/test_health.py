"""What verdicts say of a run."""

import pytest

from limo_ray.verify import Health, Verdict, VerificationError, final_verdict


@pytest.mark.parametrize(
    ("verdict", "finish_reason", "final"),
    [
        (Verdict.UNPARSED, "length", Verdict.TRUNCATED),
        (Verdict.UNPARSED, "stop", Verdict.UNPARSED),
        (Verdict.WRONG, "length", Verdict.WRONG),
        (Verdict.CORRECT, "length", Verdict.CORRECT),
        (Verdict.WRONG, "loop", Verdict.LOOPED),
        (Verdict.UNPARSED, "loop", Verdict.LOOPED),
        (Verdict.CORRECT, "loop", Verdict.CORRECT),
        (Verdict.TIMEOUT, "length", Verdict.TIMEOUT),
    ],
)
def test_why_a_completion_ended(verdict: Verdict, finish_reason: str, final: Verdict) -> None:
    assert final_verdict(verdict, finish_reason) is final


def test_too_many_failures_stop_the_run() -> None:
    health = Health(max_error_share=0.1, min_count=20)
    for _ in range(18):
        health.add(Verdict.CORRECT)
    health.add(Verdict.TIMEOUT)
    health.add(Verdict.WRONG)
    health.add(Verdict.ERROR)
    with pytest.raises(VerificationError, match=r"3 of 22 .*2 timeouts, 1 errors"):
        health.add(Verdict.TIMEOUT)


def test_a_few_early_failures_do_not() -> None:
    health = Health(max_error_share=0.1, min_count=20)
    for _ in range(19):
        health.add(Verdict.ERROR)
    with pytest.raises(VerificationError):
        health.add(Verdict.ERROR)


def test_other_verdicts_never_do() -> None:
    health = Health(max_error_share=0, min_count=1)
    for verdict in (Verdict.WRONG, Verdict.UNPARSED, Verdict.TRUNCATED, Verdict.LOOPED):
        health.add(verdict, 1000)
    assert health.counts.total() == 4000


def test_the_share_is_a_share() -> None:
    with pytest.raises(ValueError, match="max_error_share"):
        Health(max_error_share=2)
