"""How far a model's replies agree with labels that the user gives."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from limo_ray.core.records import fingerprint
from limo_ray.curate.annotation_config import AnnotationConfig
from limo_ray.curate.annotation_prompts import fields
from limo_ray.problems.answer_check import same_gold_answer
from limo_ray.storage.store import Store
from limo_ray.verify.reply import parse


@dataclass(kw_only=True, slots=True)
class Label:
    """A row whose reply is known."""

    values: dict[str, str]
    """What the prompt needs: question, answer, solution, item."""
    reply: str


@dataclass(kw_only=True, slots=True)
class Agreement:
    labels: int
    agree: int
    """A reply that cannot be parsed agrees with nothing. Ratings agree when their means differ by
    at most 1; final answers when the verifier takes one for the other."""
    low: float
    high: float
    """The 95 % interval (Wilson's) of the share that agree."""
    constant: float
    """The share that the commonest label alone would get."""


def read_labels(annotation: AnnotationConfig) -> list[Label]:
    """The labels of one annotation, none without a file.

    Raises ValueError, with file and line, for a row without what the prompt needs, or whose label
    is no reply.
    """
    if not annotation.labels:
        return []
    folder, _, name = annotation.labels.rpartition("/")
    text = Store(folder or ".").read_text(name)
    if text is None:
        raise ValueError(f"annotate.{annotation.name}.labels: {annotation.labels} is not there")
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                found.append(_label(line, annotation))
            except ValueError as error:
                raise ValueError(f"{annotation.labels}:{number}: {error}") from error
    return found


def labels_signature(annotation: AnnotationConfig) -> str:
    """Changes when the labels do."""
    return fingerprint([asdict(label) for label in read_labels(annotation)])


def _label(line: str, annotation: AnnotationConfig) -> Label:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"no object: {line[:80]!r}")
    needed = [*fields(annotation.text()), "label"]
    values: dict[str, Any] = {name: row.get(name) for name in needed}
    for name, value in values.items():
        if value is None:
            raise ValueError(f"{name}: is missing")
        if isinstance(value, list):
            values[name] = " ".join(map(str, value))
    label = str(values.pop("label"))
    bare_answer = annotation.kind == "final_answer"
    reply = label if bare_answer else parse(json.dumps(annotation.spec()), label)
    if reply is None:
        raise ValueError(f"label: {label!r} is no reply of kind {annotation.kind}")
    return Label(values={name: str(value) for name, value in values.items()}, reply=reply)


def agreement(kind: str, pairs: list[tuple[str, str | None]]) -> Agreement:
    """Of (label, reply) pairs, at least one; a reply is None where it could not be parsed."""
    from scipy.stats import binomtest  # half a second: only where there are labels

    agree = sum(reply is not None and _same(kind, label, reply) for label, reply in pairs)
    share = binomtest(agree, len(pairs)).proportion_ci(method="wilson")
    [(_, most)] = Counter(label for label, _ in pairs).most_common(1)
    return Agreement(
        labels=len(pairs), agree=agree, low=share.low, high=share.high, constant=most / len(pairs)
    )


def _same(kind: str, label: str, reply: str) -> bool:
    if kind == "rating":
        means = [sum(map(int, text.split())) / 4 for text in (label, reply)]
        return abs(means[0] - means[1]) <= 1
    if kind == "final_answer" and "none" not in (label, reply):
        return same_gold_answer(label, reply.partition(" => ")[2], "math")
    return label.casefold() == reply.casefold()
