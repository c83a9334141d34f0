"""Programs, judged by tests that they run in a sandbox (`limo_ray.verify.sandbox`).

A gold answer is JSON: {"stdin": [[input, expected output], ...]}, or
{"tests": ["assert f(1) == 2", ...], "entry_point": null}, where the tests may use `candidate` for
the entry point ("add", "Solution().twoSum").

A program's output is compared outside the sandbox, and so is the value of a call where a test is
`assert f(1) == 2` or the like (`limo_ray.verify.code_tests`): the expected values never come near
the program. Tests of another form (loops, helper functions) run inside, next to the program: one
that sets out to cheat can pass those.
"""

import ast
import json
import logging
import re
import secrets
import time
from functools import cache, lru_cache
from typing import Any, NamedTuple

from limo_ray.core.records import Verdict
from limo_ray.verify import code_tests, program_runner
from limo_ray.verify.code_tests import Failed, Step
from limo_ray.verify.extract import region
from limo_ray.verify.program_runner import CodeConfig, Sandbox
from limo_ray.verify.sandbox import NOT_RUN
from limo_ray.verify.walls.values import decode

log = logging.getLogger(__name__)

SECONDS = 10.0  # all tests of one program together; the Verifier's limit may be shorter
LONGEST = 200_000  # characters of a program

# Possessive: what is repeated is not tried again shorter, which would take quadratic time.
_FENCE = re.compile(r"^[ \t]*+```[ \t]*+(\w*+)[^\n]*+\n(.*?)^[ \t]*+```", re.DOTALL | re.MULTILINE)
_OPEN = re.compile(r"^[ \t]*+```[ \t]*+(?:python|py)?[ \t]*+\n", re.MULTILINE | re.IGNORECASE)
_PYTHON = {"", "python", "python3", "py"}


class Tests(NamedTuple):
    """What a program must do: statements to run after it, or inputs with the expected outputs."""

    tests: tuple[str, ...]
    entry_point: str | None
    stdin: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...] = ()


@lru_cache(maxsize=512)
def gold(answer: str) -> Tests:
    """The tests that a gold answer describes; ValueError when it describes none."""
    try:
        row: dict[str, Any] = json.loads(answer)
        tests = tuple(row.get("tests") or ())
        stdin = tuple((case[0], case[1]) for case in row.get("stdin") or ())
        entry_point = row.get("entry_point") or None
        steps = code_tests.steps(tests, entry_point)
        if entry_point is not None:
            ast.parse(entry_point, mode="eval")
    except (AttributeError, LookupError, TypeError, SyntaxError, ValueError, RecursionError) as e:
        raise ValueError(f"malformed tests: {type(e).__name__}: {e}") from e
    if not tests and not stdin:
        raise ValueError("no tests")
    if not all(isinstance(text, str) for case in stdin for text in case):
        raise ValueError("malformed tests: stdin must be pairs of text")
    return Tests(tests, entry_point, stdin, steps)


def extract(completion: str, *, complete: bool = True) -> str | None:
    """The last closed block of Python; a whole completion that is a program; else None."""
    text = region(completion)
    blocks = [body for language, body in _FENCE.findall(text) if language.lower() in _PYTHON]
    if blocks:
        return blocks[-1].strip("\n")[:LONGEST] or None
    if not complete:
        return None
    if opened := list(_OPEN.finditer(text)):
        return text[opened[-1].end() :].strip("\n")[:LONGEST] or None
    if re.search(r"^(?:def|class|import|from|print\()", text, re.MULTILINE):
        return text.strip("\n")[:LONGEST]
    return None


def verify(answer: str, extracted: str, seconds: float = SECONDS) -> Verdict:
    """CORRECT when the program passes every test, WRONG when not, TIMEOUT past `seconds`.

    ERROR when the sandbox itself failed.

    Raises:
        VerificationError: where the walls that `use` asks for are missing.
    """
    tests = gold(answer)
    if not _owner_checked:
        check(_config)
    deadline = time.monotonic() + seconds
    description = {
        "code": extracted,
        "seconds": int(seconds) + 1,
        "required": () if _config.without_kernel_walls else program_runner.REQUIRED,
    }
    try:
        with program_runner.borrowed() as sandbox:
            if not tests.stdin:
                return _passes(sandbox, description, tests, deadline)
            for given, expected in tests.stdin:
                verdict = _prints(sandbox, description, given, expected, deadline)
                if verdict is not Verdict.CORRECT:
                    return verdict
            return Verdict.CORRECT
    except program_runner.SandboxBroken as error:
        log.warning("a program was not judged: %s", error)
        return Verdict.ERROR


def _prints(
    sandbox: Sandbox, description: dict[str, Any], given: str, expected: str, deadline: float
) -> Verdict:
    """Whether a program prints the expected output for an input, and ends well."""
    ended = sandbox.run(description, given.encode(), deadline, lambda _: True)
    if ended is None:
        return Verdict.TIMEOUT
    if ended.code == NOT_RUN:
        return Verdict.ERROR
    right = ended.code == 0 and not ended.cut and _same(ended.output, expected)
    return Verdict.CORRECT if right else Verdict.WRONG


def _passes(
    sandbox: Sandbox, description: dict[str, Any], tests: Tests, deadline: float
) -> Verdict:
    """Whether all steps of the tests hold."""
    token = secrets.token_hex(16)
    description = description | {
        "steps": [(step.inside, step.condition is not None) for step in tests.steps],
        "entry_point": tests.entry_point,
        "token": token,
    }
    passed = -1  # the first line says which walls stand

    def each_line(line: bytes) -> bool:
        nonlocal passed
        if passed >= 0 and not _holds(tests.steps[passed], line, token):
            return False
        passed += 1
        return passed < len(tests.steps)

    ended = sandbox.run(description, b"", deadline, each_line)
    if passed == len(tests.steps):
        return Verdict.CORRECT
    if ended is None:
        return Verdict.TIMEOUT
    return Verdict.ERROR if ended.code == NOT_RUN else Verdict.WRONG


def _holds(step: Step, line: bytes, token: str) -> bool:
    """Whether a step's condition holds of the values that a line of the report describes."""
    try:
        message = json.loads(line)
        if step.condition is None:
            return bool(message == token)
        if not isinstance(message, list) or len(message) != len(step.inside):
            return False
        values = [Failed() if value is None else decode(*value) for value in message]
    except (RecursionError, TypeError, ValueError):
        return False
    return code_tests.holds(step.condition, values)


def _same(output: bytes, expected: str) -> bool:
    """Equal line by line, but for white space at the ends of lines and of the whole."""
    said = output.decode("utf-8", "replace").rstrip().split("\n")
    return [line.rstrip() for line in said] == [e.rstrip() for e in expected.rstrip().split("\n")]


_config = CodeConfig()
_owner_checked = False


def use(config: CodeConfig, *, checked: bool = False) -> None:
    """How programs are run from now on in this process; `checked`: by the process that started it.

    Each program's process makes sure of its walls again.
    """
    global _config, _owner_checked
    _config, _owner_checked = config, checked


@cache
def _checked(without_kernel_walls: bool) -> tuple[str, ...]:
    return program_runner.check(CodeConfig(without_kernel_walls=without_kernel_walls))


def check(config: CodeConfig) -> None:
    """VerificationError where the walls that a config asks for are missing; looked at once."""
    _checked(config.without_kernel_walls)


def unverifiable(answer: str) -> str | None:
    """Why a gold answer cannot be used, or None."""
    try:
        gold(answer)
    except ValueError as e:
        return str(e)
    return None


def show(answer: str) -> str:
    """How many tests there are, with the first."""
    tests = gold(answer)
    if tests.tests:
        return f"{len(tests.tests)} tests, such as: {tests.tests[0]}"[:200]
    given, expected = tests.stdin[0]
    return f"{len(tests.stdin)} runs, such as: {given!r} gives {expected!r}"[:200]
