"""Programs, judged by tests that they run in a sandbox (`limo_ray.verify.sandbox`).

A gold answer is JSON: {"stdin": [[input, expected output], ...]}, or
{"tests": ["assert f(1) == 2", ...], "entry_point": null}, where the tests may use `candidate` for
the entry point ("add", "Solution().twoSum").

The walls keep a program from doing harm. They do not keep one that sets out to cheat, in the same
process as its tests, from passing them.
"""

import ast
import contextlib
import json
import os
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from typing import Any, NamedTuple

from limo_ray.core.records import Verdict
from limo_ray.verify import sandbox
from limo_ray.verify.extract import region

SECONDS = 10.0  # all tests of one program together; the Verifier's limit may be shorter
MEMORY_MB = 1024
FILE_MB = 16
OUTPUT = 8 * 2**20  # bytes of output of one test, beyond which the program is ended
LONGEST = 200_000  # characters of a program

_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_OPEN = re.compile(r"^[ \t]*```[ \t]*(?:python|py)?[ \t]*\n", re.MULTILINE | re.IGNORECASE)
_PYTHON = {"", "python", "python3", "py"}


class Tests(NamedTuple):
    """What a program must do: statements to run after it, or inputs with the expected outputs."""

    tests: tuple[str, ...]
    entry_point: str | None
    stdin: tuple[tuple[str, str], ...]


@lru_cache(maxsize=512)
def gold(answer: str) -> Tests:
    """The tests that a gold answer describes; ValueError when it describes none."""
    try:
        row: dict[str, Any] = json.loads(answer)
        tests = tuple(row.get("tests") or ())
        stdin = tuple((case[0], case[1]) for case in row.get("stdin") or ())
        entry_point = row.get("entry_point") or None
        for test in tests:
            ast.parse(test)
        if entry_point is not None:
            ast.parse(entry_point, mode="eval")
    except (AttributeError, LookupError, TypeError, SyntaxError, ValueError, RecursionError) as e:
        raise ValueError(f"malformed tests: {type(e).__name__}: {e}") from e
    if not tests and not stdin:
        raise ValueError("no tests")
    if not all(isinstance(text, str) for case in stdin for text in case):
        raise ValueError("malformed tests: stdin must be pairs of text")
    return Tests(tests, entry_point, stdin)


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
    """CORRECT when the program passes every test, WRONG when not, TIMEOUT past `seconds`."""
    tests = gold(answer)
    deadline = time.monotonic() + seconds
    runs: list[tuple[str | None, str]] = list(tests.stdin) or [(None, "")]
    for given, expected in runs:
        token = secrets.token_hex(16)
        spec = {
            "code": extracted,
            "tests": tests.tests,
            "entry_point": tests.entry_point,
            "seconds": int(seconds) + 1,
            "memory_mb": MEMORY_MB,
            "file_mb": FILE_MB,
            "token": token,
        }
        description = json.dumps(spec).encode()
        message = struct.pack(">I", len(description)) + description + (given or "").encode()
        done = _run(message, deadline)
        if done is None:
            return Verdict.TIMEOUT
        output, passed = done[0], done[1].endswith(token.encode())
        if given is None and not passed:
            return Verdict.WRONG
        if given is not None and (not _ended_well(done) or not _same(output, expected)):
            return Verdict.WRONG
    return Verdict.CORRECT


def _ended_well(done: tuple[bytes, bytes, int]) -> bool:
    return done[2] == 0


def _same(output: bytes, expected: str) -> bool:
    """Equal line by line, but for white space at the ends of lines and of the whole."""
    said = output.decode("utf-8", "replace").rstrip().split("\n")
    return [line.rstrip() for line in said] == [e.rstrip() for e in expected.rstrip().split("\n")]


def _run(message: bytes, deadline: float) -> tuple[bytes, bytes, int] | None:
    """Output, error output and exit code of one run in the sandbox; None past the deadline."""
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", sandbox.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        try:
            return _talk(process, message, deadline)
        finally:
            _end(process)


def _talk(
    process: subprocess.Popen[bytes], message: bytes, deadline: float
) -> tuple[bytes, bytes, int] | None:
    """Feed standard input and collect both outputs until they close."""
    assert process.stdin and process.stdout and process.stderr
    out, err, inp = process.stdout.fileno(), process.stderr.fileno(), process.stdin.fileno()
    os.set_blocking(inp, False)
    got = {out: bytearray(), err: bytearray()}
    poll = select.poll()
    for fd in got:
        poll.register(fd, select.POLLIN)
    poll.register(inp, select.POLLOUT)
    still_open = set(got)
    while still_open:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        for fd, event in poll.poll(left * 1000):
            if fd == inp:
                try:
                    message = message[os.write(inp, message[:65536]) :] if event & 4 else b""
                except BrokenPipeError:
                    message = b""
                if not message:
                    poll.unregister(inp)
                    process.stdin.close()
                continue
            data = os.read(fd, 65536)
            got[fd] += data
            if not data:
                poll.unregister(fd)
                still_open.discard(fd)
            elif len(got[fd]) > OUTPUT:
                return bytes(got[out]), b"", -1
    try:
        code = process.wait(max(0.01, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    return bytes(got[out]), bytes(got[err]), code


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program with all it started, close the pipes, reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()


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
