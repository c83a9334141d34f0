"""Settings of the samplers, the same for every job that samples."""

from dataclasses import dataclass, field

from limo_ray.core.checks import check_at_least
from limo_ray.verify import CodeConfig, JudgeConfig


@dataclass(kw_only=True, slots=True)
class SamplerConfig:
    """How attempts are logged and verified."""

    flush_s: float = 3.0
    """Seconds between two writes to the attempt log: what a kill can cost at the most."""
    speculative_share: float = 0.05
    """Largest share of attempts that may be made past certain need while an engine would idle."""
    verify_workers: int = 1
    """Processes per engine for answers that need the slow checker."""
    verify_timeout_s: float = 5.0
    """Seconds that one check may take before it is killed (verdict TIMEOUT)."""
    max_error_share: float = 0.05
    """The job stops when more than this share of all verdicts are TIMEOUT or ERROR."""
    code: CodeConfig = field(default_factory=CodeConfig)
    """The sandbox that programs of the domain `code` run in."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """A model that is asked before an answer in words is called wrong; off without a url."""
    spend_cap: float = 0.0
    """Dollars that the logged attempts of a job may cost, those of earlier starts and other jobs on
    the same logs included (engines.*.api.input_price and output_price; of an evaluation, each
    model's). At the cap the job starts no request, logs the open ones and stops. 0 for none."""
    max_engine_deaths: int = 3
    """Times that each engine may die and be started again before the job stops."""
    partial_tokens: int = 512
    """An unfinished completion of at least so many tokens is saved when its engine is preempted
    (SIGTERM, a drained node) or the job interrupted, and goes on later; 0 saves none."""
    drain_margin_s: float = 15.0
    """Seconds before its node's announced end at which a sampler saves what it has and exits."""

    def check(self) -> None:
        if self.flush_s <= 0:
            raise ValueError(f"flush_s: {self.flush_s} must be positive")
        if not 0 <= self.speculative_share < 1:
            raise ValueError(f"speculative_share: {self.speculative_share} must be in [0, 1)")
        check_at_least("verify_workers", self.verify_workers, 1)
        if not 0 < self.max_error_share <= 1:
            raise ValueError(f"max_error_share: {self.max_error_share} must be in (0, 1]")
        for name in ("spend_cap", "partial_tokens", "drain_margin_s"):
            check_at_least(name, getattr(self, name), 0)
