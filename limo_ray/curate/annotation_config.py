"""The schema of `annotate`: questions that a model is asked about problems and chains."""

import re
from dataclasses import dataclass, field
from typing import Any

from limo_ray.core.checks import check_at_least, check_between, check_one_of
from limo_ray.curate import annotation_prompts as prompts
from limo_ray.engines.base import SamplingConfig


def _greedy() -> SamplingConfig:
    return SamplingConfig(temperature=0.0, max_tokens=2048)


@dataclass(kw_only=True, slots=True)
class AnnotationConfig:
    name: str = "???"
    """Of the reply: in annotations.parquet, in a problem's metadata, as a reason in the ledger."""
    kind: str = "custom"
    """subject, well_posed, rating, paraphrase, final_answer, or custom (`prompt`)."""
    engine: str = "???"
    """Which of `engines` is asked; not one with published attempts."""
    sampling: SamplingConfig = field(default_factory=_greedy)
    """How it replies."""
    attempts: int = 1
    """Times that it is asked until a reply can be parsed; above 1 with a temperature only."""
    prompt: str = ""
    """The question, with {question}, {answer}, {solution} (a chain: then it is asked about each
    chain) or, for paraphrase, {item}; empty for the kind's own. How to reply is added."""
    replies: list[str] = field(default_factory=list)
    """custom: the replies that can be parsed; empty for any text of one line."""
    drop: list[str] = field(default_factory=list)
    """Replies that drop the problem. What is not parsed drops nothing."""
    nearest: int = 3
    """paraphrase: benchmark items that each problem is compared with."""
    similarity: float = 0.1
    """paraphrase: least tf-idf similarity (0 to 1) of an item that is asked about."""
    limit: int = 1000
    """final_answer: proof questions that are asked about, at the most."""
    labels: str = ""
    """JSONL file or URI with known replies: what the prompt names (question, ...) and `label`. They
    are asked about as well, and the agreement is reported."""

    def check(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"name: {self.name!r} must be a word of a-z, 0-9 and _")
        check_one_of("kind", self.kind, (*prompts.READY, "custom"))
        check_between("attempts", self.attempts, 1, 100)
        if self.attempts > 1 and not self.sampling.temperature:
            raise ValueError(f"attempts: {self.attempts} greedy replies would all be the same")
        check_at_least("nearest", self.nearest, 1)
        check_at_least("limit", self.limit, 1)
        check_between("similarity", self.similarity, 0, 1)
        if self.kind == "custom" and not self.prompt:
            raise ValueError("prompt: kind custom needs one")
        if self.kind != "custom" and self.replies:
            raise ValueError(f"replies: kind {self.kind} has its own")
        if self.kind == "rating" and not self.of_chains:
            raise ValueError("prompt: kind rating needs {solution}")
        known = self.spec().get("one_of", [])
        for reply in self.drop:
            if known and reply not in known:
                raise ValueError(f"drop: {reply!r} is none of the replies ({', '.join(known)})")
        if self.drop and (self.of_chains or self.kind == "final_answer"):
            raise ValueError("drop: only replies about kept problems can drop them")

    def text(self) -> str:
        """The prompt's template."""
        return self.prompt or prompts.READY[self.kind].template

    @property
    def of_chains(self) -> bool:
        """Whether it is asked about each chain, not about each problem."""
        return "{solution}" in self.text()

    def spec(self) -> dict[str, Any]:
        """What a reply must be, as `limo_ray.verify.reply` takes it."""
        if self.kind != "custom":
            return prompts.READY[self.kind].spec
        return {"one_of": list(self.replies)} if self.replies else {"text": True}
