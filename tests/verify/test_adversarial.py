"""Hostile strings: no hang, no crash, nothing executed, memory bounded.

ADVERSARIAL=100000 pytest tests/verify/test_adversarial.py     all of them (most of an hour)
"""

import os
import resource
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from limo_ray.verify import Verdict, Verifier, extract
from limo_ray.verify.domains import DOMAINS, easy
from tests.verify.adversarial import adversarial

COUNT = int(os.environ.get("ADVERSARIAL", "600"))
TIMEOUT_S = 0.3


@pytest.mark.process
@pytest.mark.timeout(60 + COUNT // 10)
def test_hostile_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(canary))
    # In a process of its own: the peak memory of children is one figure for all that a process had.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        verdicts, peak_mb = pool.submit(judge_all).result()
    assert verdicts.total() == COUNT
    assert verdicts[Verdict.ERROR] <= COUNT // 100
    # Most of them are judged or have no answer; the limit is for a few.
    assert verdicts[Verdict.TIMEOUT] < 0.15 * COUNT
    assert not canary.exists()
    assert not Path("/tmp/canary").exists()
    assert 50 < peak_mb < 2048


def judge_all() -> tuple[Counter[Verdict], float]:
    """The verdicts, each given in time, and the peak memory of a verifier's process in MB."""
    verdicts: Counter[Verdict] = Counter()
    with Verifier(timeout_s=TIMEOUT_S, memory_mb=1024) as verifier:
        verifier.start()
        for answer, completion, domain in adversarial(COUNT, seed=11):
            began = time.monotonic()
            verdicts[verifier.check(answer, completion, domain).verdict] += 1
            assert time.monotonic() - began < TIMEOUT_S + 20, ascii(completion[:200])
    return verdicts, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_runs_in_process_is_quick(domain: str) -> None:
    """Extraction and the fast path have no limit of time: they must not need one."""
    for answer, completion, _ in adversarial(400, seed=5):
        began = time.thread_time()
        extracted = extract(completion, domain)
        if extracted is not None:
            easy(answer, extracted, domain)
        assert time.thread_time() - began < 0.5, ascii(completion[:200])
