"""One record of a file becomes one row of the pool, or says exactly why it cannot.

Pure: no Ray, no file system. A record is what a reader made of a line of JSONL, a record of CSV or
a row of Parquet; a row has the columns of `records.POOL`.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any

from limo_ray.core.records import problem_id
from limo_ray.problems.columns import (
    InvalidRow,
    holds,
    kind_of,
    lookup,
    parse_condition,
    path_steps,
    plain_text,
    template_pieces,
    text_of,
)
from limo_ray.problems.mappings import Mapping

STAGE = "sources"  # of the ledger
ORIGIN = ("source", "file", "line")  # columns that say where a row comes from
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Domains whose gold answers are JSON: they may come as nested values instead of text.
JSON_DOMAINS = {"choice", "countdown", "gym", "code"}

_LABELLED = re.compile(r"\s*\(?([A-Z])\s*[).:]\s*(.*)", re.DOTALL)
_UNIT = re.compile(r"\s*\([^()]*\)\s*$")


def pool_row(record: Any, mapping: Mapping, *, source: str, file: str, line: int) -> dict[str, Any]:
    """The row of the pool for one record.

    A row that is no problem has an empty id, question and answer, stage "sources", and reason
    "invalid" (no column, no text, ...) or "not_selected" (a condition of `where`).
    """
    domain = mapping.domain or "math"
    row = empty_row(source=source, file=file, line=line, domain=domain)
    try:
        _check_shape(record, mapping)
        for condition in mapping.where:
            met, value = holds(record, condition)
            if not met:
                evidence = json.dumps({"where": condition, "value": repr(value)[:200]})
                return row | {"stage": STAGE, "reason": "not_selected", "evidence": evidence}
        question, answer = _problem(record, mapping, domain)
    except InvalidRow as error:
        return row | invalid(error)
    return row | {
        "id": problem_id(question),
        "question": question,
        "answer": answer,
        "metadata": _metadata(record, mapping),
    }


def empty_row(*, source: str, file: str, line: int, domain: str) -> dict[str, Any]:
    """A row of the pool that says only where it comes from."""
    return {
        "id": "",
        "question": "",
        "answer": "",
        "source": source,
        "domain": domain,
        "metadata": "{}",
        "file": file,
        "line": line,
        "stage": None,
        "reason": None,
        "evidence": None,
    }


def invalid(error: InvalidRow) -> dict[str, str]:
    """Stage, reason and evidence of a record that is no problem."""
    return {"stage": STAGE, "reason": "invalid", "evidence": error.evidence()}


def _check_shape(record: Any, mapping: Mapping) -> None:
    turns = isinstance(record, list) and path_steps(mapping.question)[0].isdigit()
    if not isinstance(record, dict) and not turns:
        raise InvalidRow("line", f"not an object but {kind_of(record)}", record)


def _problem(record: Any, mapping: Mapping, domain: str) -> tuple[str, str]:
    """Question and gold answer, in the form that the verifier takes for the domain; "" for none."""
    question = text_of(record, mapping.question, "question")
    field = "answer" if mapping.answer else "solution"
    column = mapping.answer or mapping.solution
    if mapping.options:
        options, labels = options_of(lookup(record, mapping.options, "options"))
        letter = letter_of(lookup(record, column, field), options, labels)
        question += "\n" + "".join(f"\n{k}) {v}" for k, v in options.items())
        return question, json.dumps({"answer": letter, "options": options}, ensure_ascii=False)
    if domain in JSON_DOMAINS and "{" not in column:
        value = lookup(record, column, field)
        if isinstance(value, dict | list):
            return question, json.dumps(value, sort_keys=True)
    try:
        answer = text_of(record, column, field)
        return question, EXTRACT[mapping.answer_from](answer, field)
    except InvalidRow:
        if mapping.unanswered:
            return question, ""
        raise


def _metadata(record: Any, mapping: Mapping) -> str:
    kept: dict[str, Any] = {}
    for path in mapping.metadata:
        try:
            value = lookup(record, path, "metadata")
        except InvalidRow:  # metadata is a help, not a condition
            continue
        # JSON has no NaN and no infinity.
        kept[path] = None if isinstance(value, float) and not math.isfinite(value) else value
    return json.dumps(kept, default=str) if kept else "{}"


def needed_columns(mapping: Mapping) -> set[str]:
    """Every name of a top-level column that a mapping may need, and whole paths as names."""
    paths = [mapping.options, *mapping.metadata]
    paths += [parse_condition(condition)[0] for condition in mapping.where]
    for template in (mapping.question, mapping.answer, mapping.solution):
        paths += [path for path, is_path in template_pieces(template) if is_path]
    return {name for path in paths if path for name in (path, path_steps(path)[0])}


def _boxed(solution: str, field: str) -> str:
    # The verifier's own rule, so that gold answers are read as completions are.
    from limo_ray.verify.extract import boxed

    found = boxed(solution)
    if found is None:
        why = "\\boxed is empty or not closed" if "\\boxed" in solution else "no \\boxed"
        raise InvalidRow(field, why, solution[-200:])
    return found


def _boxed_or_text(solution: str, field: str) -> str:
    return _boxed(solution, field) if "\\boxed" in solution else solution


def _hashes(solution: str, field: str) -> str:
    _, mark, answer = solution.rpartition("####")
    if not mark:
        raise InvalidRow(field, "no ####", solution[-200:])
    if not answer.strip():
        raise InvalidRow(field, "nothing after ####", solution[-200:])
    return answer.strip()


def _units(answer: str, field: str) -> str:
    return _UNIT.sub("", answer) or answer


def _json(answer: str, field: str) -> str:
    try:
        value = json.loads(answer)
    except ValueError as e:
        raise InvalidRow(field, f"not JSON: {e}", answer) from e
    if isinstance(value, list):
        accepted = [plain_text(each, field) for each in value]
        if not accepted:
            raise InvalidRow(field, "an empty list", answer)
        return accepted[0] if len(accepted) == 1 else json.dumps(accepted, ensure_ascii=False)
    return plain_text(value, field)


EXTRACT: dict[str, Callable[[str, str], str]] = {
    "": lambda answer, field: answer,
    "boxed": _boxed,
    "boxed_or_text": _boxed_or_text,
    "hashes": _hashes,
    "units": _units,
    "json": _json,
}


def options_of(value: Any) -> tuple[dict[str, str], list[str]]:
    """Options as letter -> text, and the labels they had in the data, in the same order."""
    if isinstance(value, dict) and isinstance(value.get("label"), list):
        labels = [plain_text(label, "options") for label in value["label"]]
        texts = value.get("text")
    elif isinstance(value, dict):
        labels, texts = list(value), list(value.values())
    else:
        labels, texts = [], value
    if not isinstance(texts, list):
        raise InvalidRow("options", f"not a list or an object but {kind_of(value)}", value)
    if not 2 <= len(texts) <= len(LETTERS) or (labels and len(labels) != len(texts)):
        raise InvalidRow("options", f"{len(texts)} options with {len(labels)} labels", value)
    plain = [plain_text(option, "options") for option in texts]
    matches = [_LABELLED.fullmatch(option) for option in plain]
    if all(m is not None and m[1] == k and m[2] for m, k in zip(matches, LETTERS, strict=False)):
        plain = [m[2].strip() for m in matches if m is not None]
    return dict(zip(LETTERS, plain, strict=False)), labels or list(LETTERS[: len(plain)])


def letter_of(value: Any, options: dict[str, str], labels: list[str]) -> str:
    """The letter that an answer names: by label, by index from 0 (a number), or by its text."""
    letters = list(options)
    if isinstance(value, int) and not isinstance(value, bool) and str(value) not in labels:
        if 0 <= value < len(letters):
            return letters[value]
        raise InvalidRow("answer", f"no option with index {value} among {len(letters)}", value)
    answer_text = plain_text(value, "answer")
    if (label := answer_text.strip("().: ")) in labels:
        return letters[labels.index(label)]
    for letter, option in options.items():
        if answer_text == option:
            return letter
    raise InvalidRow("answer", f"not one of the options {labels[0]} to {labels[-1]}", value)
