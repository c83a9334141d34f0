"""Programs, judged by tests that they run in a sandbox."""

import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from limo_ray.verify import Verdict, show, unverifiable, verify
from limo_ray.verify.code import extract
from limo_ray.verify.code import verify as run

pytestmark = pytest.mark.process

ADD = json.dumps({"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]})
TWO_SUM = json.dumps(
    {"tests": ["assert candidate([2, 7, 11], 9) == [0, 1]"], "entry_point": "Solution().twoSum"}
)
DOUBLE = json.dumps({"stdin": [["3\n", "6\n"], ["21", "42"]]})


def block(program: str) -> str:
    return f"Here it is:\n```python\n{program}\n```\nIt adds."


@pytest.mark.parametrize(
    ("answer", "program", "verdict"),
    [
        (ADD, "def add(a, b):\n    return a + b", Verdict.CORRECT),
        (ADD, "def add(a, b):\n    return a - b", Verdict.WRONG),
        (ADD, "def add(a, b):\n    return a +", Verdict.WRONG),
        (ADD, "def sub(a, b):\n    return a + b", Verdict.WRONG),
        (
            TWO_SUM,
            "class Solution:\n"
            "    def twoSum(self, nums: List[int], target: int) -> List[int]:\n"
            "        seen = defaultdict(int)\n"
            "        for i, n in enumerate(nums):\n"
            "            if target - n in seen:\n"
            "                return [seen[target - n], i]\n"
            "            seen[n] = i\n",
            Verdict.CORRECT,
        ),
        (DOUBLE, "print(2 * int(input()))", Verdict.CORRECT),
        (DOUBLE, "import sys\nprint(2 * int(sys.stdin.read()), end='')", Verdict.CORRECT),
        (DOUBLE, "print(2 * int(open(0).read()))", Verdict.CORRECT),
        (DOUBLE, "print(6)", Verdict.WRONG),
        (DOUBLE, "print(2 * int(input()))\nraise SystemExit(1)", Verdict.WRONG),
        # To end early is not to pass.
        (ADD, "import os\nos._exit(0)", Verdict.WRONG),
        (ADD, "raise SystemExit", Verdict.WRONG),
        (ADD, "def add(a, b):\n    raise SystemExit", Verdict.WRONG),
        ('{"tests": []}', "def add(a, b):\n    return a + b", Verdict.ERROR),
    ],
)
def test_verdicts(answer: str, program: str, verdict: Verdict) -> None:
    assert verify(answer, block(program), "code") is verdict


def test_the_program_is_found() -> None:
    two = "```python\na = 1\n```\ntext\n```py\nb = 2\n```\n```bash\nls\n```"
    assert extract(two) == "b = 2"
    assert extract("thinking\n```\na = 1\n```\n</think>\n```\nc = 3\n```") == "c = 3"
    assert extract("def f():\n    return 1") == "def f():\n    return 1"
    assert extract("```python\ndef f():") == "def f():"
    assert extract("```python\ndef f():", complete=False) is None
    assert extract("I do not know") is None


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(100)",
        "try:\n while 1: pass\nfinally:\n while 1: pass",
    ],
)
def test_time_runs_out(program: str) -> None:
    began = time.monotonic()
    assert run(ADD, program, seconds=0.7) is Verdict.TIMEOUT
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "program",
    [
        "x = [0] * 10**10",
        "x = b'1' * 2**33",
        "x = ' '\nwhile True: x += x",
        "def f(): return f()\nf()",
        "while True: print('x' * 1000)",
        "open('big', 'wb').write(b'x' * 2**26)",
    ],
)
def test_memory_and_files_are_limited(program: str) -> None:
    assert run(ADD, program, seconds=20) is Verdict.WRONG


def probe(action: str) -> bool:
    """Whether an action in the sandbox ends without an exception."""
    return run(json.dumps({"tests": ["assert True"]}), action) is Verdict.CORRECT


def test_the_probe_itself_works() -> None:
    assert probe("open('here', 'w').write('x')\nassert open('here').read() == 'x'")
    assert probe("import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()")
    assert not probe("1 / 0")


# `ctypes` and `_posixsubprocess` reach the kernel without most of Python's events: on Linux the
# kernel's own walls stand behind the audit hook.
RAW = "import ctypes\nlibc = ctypes.CDLL(None)\n"


@pytest.mark.parametrize(
    "action",
    [
        "import socket\nsocket.socket()",
        "import socket\nsocket.create_connection(('127.0.0.1', PORT))",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:PORT')",
        "import subprocess\nsubprocess.run(['true'], check=True)",
        "import os\nassert os.system('true') == 0",
        "import os\nos.fork()",
        "import os\nos.kill(os.getppid(), 0)",
        "import os\nos.execv('/bin/true', ['true'])",
        "import multiprocessing\np = multiprocessing.Process(target=print)\np.start()",
        "open('OUTSIDE', 'w')",
        "import os\nos.open('OUTSIDE', os.O_CREAT | os.O_WRONLY)",
        "import os\nos.remove('VICTIM')",
        "import os\nos.rename('VICTIM', 'mine')",
        "import os\nos.symlink('VICTIM', 'link')\nopen('link', 'w')",
        "import shutil\nshutil.rmtree('FOLDER')",
        "import os\nos.chmod('VICTIM', 0)",
        "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (100, 100))",
        RAW + "assert libc.fork() >= 0",
        RAW + "assert libc.socket(2, 1, 0) >= 0",
        RAW + "assert libc.open(b'OUTSIDE', 65) >= 0",
    ],
)
def test_nothing_gets_out(action: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        action = action.replace("PORT", str(server.getsockname()[1]))
        action = action.replace("OUTSIDE", str(tmp_path / "outside"))
        action = action.replace("VICTIM", str(victim)).replace("FOLDER", str(tmp_path))
        assert not probe(action)
    assert victim.read_text() == "here"
    assert victim.stat().st_mode & 0o600 == 0o600
    assert os.listdir(tmp_path) == ["victim"]


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock, seccomp and namespaces are Linux's")
@pytest.mark.parametrize(
    "action",
    [
        "import os\nos.fork()",
        "import socket\nsocket.socket()",
        "open('OUTSIDE', 'w')",
        "open('VICTIM').read()",
        "import os\nos.execv('/bin/true', ['true'])",
        "import os\nos.kill(os.getppid(), 0)",
    ],
)
def test_the_kernel_refuses_without_the_audit_hook(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from limo_ray.verify import sandbox

    version = tuple(int(n) for n in os.uname().release.split(".")[:2])
    if version < (5, 13):
        pytest.skip("Landlock came with Linux 5.13")
    source = Path(sandbox.__file__).read_text().replace("    forbid(folder)\n", "")
    bare = tmp_path / "bare.py"
    bare.write_text(source)
    monkeypatch.setattr(sandbox, "__file__", str(bare))
    victim = tmp_path / "victim"
    victim.write_text("here")
    assert probe("1 + 1")
    action = action.replace("OUTSIDE", str(tmp_path / "outside")).replace("VICTIM", str(victim))
    assert not probe(action)


def test_a_program_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    assert probe("import os\nassert 'SECRET_KEY' not in os.environ")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "malformed"),
        ("[]", "malformed"),
        ('{"tests": []}', "no tests"),
        ('{"tests": ["assert ("]}', "malformed"),
        ('{"tests": [1]}', "malformed"),
        ('{"stdin": [["1"]]}', "malformed"),
        ('{"stdin": [[1, 2]]}', "malformed"),
        ('{"tests": ["assert f()"], "entry_point": "import os"}', "malformed"),
    ],
)
def test_gold_answers_that_cannot_be_used(answer: str, reason: str) -> None:
    assert reason in (unverifiable(answer, "code") or "fine")


def test_gold_answers() -> None:
    assert unverifiable(ADD, "code") is None
    assert unverifiable(DOUBLE, "code") is None
    assert show(ADD, "code") == "2 tests, such as: assert add(1, 2) == 3"
