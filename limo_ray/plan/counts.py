"""What a simulated job came to."""

from dataclasses import dataclass


@dataclass(slots=True)
class StageCount:
    """What a stage came to."""

    problems: int = 0
    """Decided."""
    kept: int = 0
    begun: int = 0
    """Attempts, and continued ones again; those not among `attempts`, `lost` or `saved` were cut
    off by a decision or the end."""
    attempts: int = 0
    """Finished, and in the log."""
    correct: int = 0
    tokens: int = 0
    """Of the finished ones."""
    lost: int = 0
    """Attempts that went with a node."""
    saved: int = 0
    """Attempts that a node left half done, to go on elsewhere."""
    speculative: int = 0
    within_attempts: int = 0
    """Of the finished ones those at problems that count as sampled, if asked for."""
    within_tokens: int = 0


@dataclass(slots=True)
class PassCount:
    """What an engine's replicas came to."""

    stages: list[StageCount]
    up: float = 0.0
    """Replica-seconds with the engine up."""
    decoding: float = 0.0
    """Sequence-seconds."""
    decoded: float = 0.0
    """Tokens, finished or not."""
    dry: tuple[float, float] | None = None
    """Replica-seconds up and tokens decoded when the last batch had been handed out."""
    ended: float = 0.0
    """Second in which its last batch left, or the job ended."""
    lost_tokens: float = 0.0
    preemptions: int = 0


@dataclass(slots=True)
class Outcome:
    seconds: float
    """From the job asking for nodes to the end of sampling."""
    passes: list[PassCount]
    sampled: int
    """Problems up to the last keeper wanted, or all."""
    kept: int
    reached: bool
    """Whether there was a target and it was reached."""


@dataclass(slots=True)
class Future:
    """One trial."""

    live: int
    """Problems in the pool."""
    outcome: Outcome
    pool_s: float
    seconds: float
    """The whole job."""
    spans: list[float]
    """Of each pass, the seconds from asking for its nodes until it has no more work."""
    costs: tuple[list[float], float, float]
    """Of each pass, of the pool's steps, of standing nodes."""
