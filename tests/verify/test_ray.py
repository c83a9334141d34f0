"""The verifier inside Ray tasks and actors gives the verdicts that it gives outside."""

from typing import Any

from limo_ray.verify import Verdict, Verifier, verify

PAIRS = [
    ("1/2", "\\boxed{0.5}", "math"),
    ("\\log_2 8", "\\boxed{3}", "math"),
    ("\\lfloor x \\rfloor", "\\boxed{\\lceil 2x \\rceil}", "math"),
    ("5", "nothing", "math"),
    ('{"tests": ["assert f() == 1"]}', "```python\ndef f(): return 1\n```", "code"),
]
EXPECTED = ["correct", "correct", "wrong", "unparsed", "correct"]
ENDLESS = ("\\binom{10^{10}}{5}+x", "\\boxed{\\binom{10000000000}{5000000000}}", "math")


def judge_all() -> list[str]:
    with Verifier(timeout_s=5) as verifier:
        return [str(v) for v in verifier.verify_many(PAIRS)]


def test_a_task(local_ray: Any) -> None:
    assert [str(verify(*pair)) for pair in PAIRS] == EXPECTED
    assert local_ray.get(local_ray.remote(num_cpus=0.5)(judge_all).remote()) == EXPECTED


class Sampler:
    """An actor with an event loop, as the sampler is."""

    def __init__(self) -> None:
        self.verifier = Verifier(timeout_s=4.0)  # far more than an answer takes on a busy machine

    async def judge(self, answer: str, completion: str, domain: str) -> str:
        return str((await self.verifier.averify(answer, completion, domain)).verdict)


def test_an_asynchronous_actor(local_ray: Any) -> None:
    actor = local_ray.remote(num_cpus=0.5)(Sampler).remote()
    verdicts = local_ray.get([actor.judge.remote(*pair) for pair in [ENDLESS, *PAIRS]])
    assert verdicts == [Verdict.TIMEOUT, *EXPECTED]
    local_ray.kill(actor)
