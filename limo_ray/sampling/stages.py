"""A stage of attempts: sampling settings, stop rule, and the log that it writes to. Pure."""

from dataclasses import dataclass

from limo_ray.core.records import fingerprint as hash_of
from limo_ray.engines.base import SamplingConfig
from limo_ray.sampling.stop_rule import StopRule


@dataclass(kw_only=True, slots=True)
class Stage:
    """One pass of attempts at problems: with which sampling, under which rule, in which log."""

    name: str
    rule: StopRule
    sampling: SamplingConfig
    fingerprint: str
    gate: bool = True
    """Only kept problems go on to the next stage; a teacher's stage lets all of them through."""
    completes: str = ""
    """Name of an earlier stage, on an engine with a finite set of attempts: this one adds attempts
    at its undecided problems, up to the rule's budget, and decides them in its place."""
    completed: bool = False
    """A later stage completes this one."""
    only: frozenset[str] = frozenset()
    """Ids of the problems that it samples; the others skip it. Empty for all."""

    @property
    def decides(self) -> str:
        """Name of the stage whose decisions it makes: its own, or the one that it completes."""
        return self.completes or self.name


def sampling_fingerprint(
    identity: str, system: str, dtype: str, max_model_len: int, sampling: SamplingConfig
) -> str:
    """Names the attempt log that attempts from one distribution share: 16 hex digits.

    It covers model, weights and template (`identity`), prompt, dtype, lengths and sampling; not
    budget or keep rule, so that a change of those reuses every attempt, and not the seed.
    """
    values = {
        "identity": identity,
        "system": system,
        "dtype": dtype,
        "max_model_len": max_model_len,
        "temperature": sampling.temperature,
        # greedy decoding is the same whatever the filters say
        "filters": [sampling.top_p, sampling.top_k, sampling.min_p] if sampling.temperature else [],
        "max_tokens": sampling.max_tokens,
        "stop": sampling.stop,
        "loop": [sampling.loop_count, sampling.loop_pattern] if sampling.loop_count else [],
    }
    return hash_of(values)
