"""The manifest of a curation: what made the run, and its counts and figures, as manifest.json."""

from dataclasses import asdict, dataclass
from typing import Any

from limo_ray.core.uris import redacted
from limo_ray.engines.base import SamplingConfig
from limo_ray.sampling.stop_rule import StopRule


@dataclass(kw_only=True, slots=True)
class StageStatistics:
    """One stage: how it sampled, and what came out."""

    name: str
    engine: str
    model: str
    device: str
    fingerprint: str
    rule: StopRule
    sampling: SamplingConfig
    problems: int
    decisions: dict[str, int]
    attempts: dict[str, int]
    """sampled, reused, speculative, aborted, used, beyond a target's last keeper, full_budget."""
    tokens: dict[str, int]
    pass_rate: list[list[int]]
    """Rows of correct, finished, and how many problems had so many."""
    seconds: float
    tokens_per_s: float
    verdicts: dict[str, int]
    lengths: dict[str, list[float]]
    """Histogram of completion tokens: edges, correct, other."""
    dollars: float
    """That all attempts in its log cost, those of earlier runs too; 0 without prices."""
    published: dict[str, Any]
    """Of a stage with published attempts: data, rows, unusable, matched, attempts, problems, and
    labels (how the data set's labels compare with our verdicts); empty for other stages."""


@dataclass(kw_only=True, slots=True)
class Manifest:
    name: str
    status: str = "done"
    key: str
    """Fingerprint of settings and sources: the same key means the same run."""
    started: str
    ended: str
    seconds: float
    seconds_by_step: dict[str, float]
    machine: dict[str, Any]
    commit: str | None
    command: str
    versions: dict[str, str]
    config: dict[str, Any]
    fingerprints: dict[str, str]
    """Of the stages' attempt logs, by stage name."""
    pool: dict[str, Any]
    """seconds by step, kept_out (items by benchmark), missing (benchmarks, as sentences)."""
    counts: dict[str, int]
    """Rows and problems, from the input to the examples."""
    funnel: list[dict[str, Any]]
    """The ledger's counts: source, outcome, stage, reason, rows."""
    sampling: list[StageStatistics]
    engines: dict[str, dict[str, Any]]
    dollars: float
    """That the attempts in the logs of all stages cost; 0 without prices."""
    extrapolation: dict[str, Any] | None
    """per, and rows (target.Yield): the whole pool's yield, where sampling stopped at a target."""
    promising: dict[str, Any] | None
    """What the promising order saved (promising_pool.statistics); null in the random order."""
    suspicious: list[dict[str, Any]]
    """Problems whose gold answer no strong attempt gives while at least half agree on another one
    (suspicious.Suspicion), with the votes."""
    majority: dict[str, int]
    """Problems whose gold answer is the majority of the strong attempts, those of them kept, and
    the examples made of them."""
    annotations: list[dict[str, Any]]
    """What each annotation asked and what came back (annotations.Annotations.statistics)."""
    quality: dict[str, Any]
    selection: dict[str, Any]
    shortfall: str | None
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, without credentials of URIs: for manifest.json, report and card."""
        plain: dict[str, Any] = redacted(asdict(self))
        return plain
