"""Programs that take too much (memory, disk, threads, time) end, and nothing of them stays."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limo_ray.verify.program_runner import THREADS, Sandbox
from limo_ray.verify.sandbox import Settings
from limo_ray.verify.walls import files

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel's walls are Linux's"),
]

RAW = "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
DISK = {
    "40 files of 15 MB": "for i in range(40): open(f'f{i}', 'wb').write(bytes(15 * 2**20))",
    "one large file": "open('f', 'wb').write(bytes(2**26))",
    "a file that grows": "f = open('f', 'wb', 0)\nwhile 1: f.write(bytes(2**16))",
    "files without names": "import os\nkept = []\nfor i in range(40):\n"
    " f = open('f', 'wb', 0); os.remove('f'); kept.append(f)\n"
    " for _ in range(15): f.write(bytes(2**20))\nwhile 1: pass",
    "many files": "i = 0\nwhile 1: open(f'f{i}', 'w').close(); i += 1",
    "many folders": "import os\ni = 0\nwhile 1: os.mkdir(f'f{i}'); i += 1",
    "nested folders": "import os\nfor i in range(3000): os.mkdir('x' * 200); os.chdir('x' * 200)\n"
    "while 1: pass",
    "a large folder": "import os\ni = 0\nwhile 1: os.mkdir(f'{i:0>250}'); i += 1",
}
LEFT = {  # what programs leave in their folder, within the bounds
    "nested folders": "import os\nfor i in range(1500): os.mkdir('x' * 30); os.chdir('x' * 30)\n"
    "open('f', 'wb').write(bytes(100_000))",
    "folders without permission": "import os\nos.umask(0o777)\nfor i in range(5):\n"
    " os.mkdir(f'a{i}')\n",
    "nested folders without permission": "import os\nos.makedirs('a/b/c', 0o777)\n"
    "open('a/b/c/f', 'w').close()\nos.umask(0o777)\nos.mkdir('a/b/c/d')",
    "read-only files": "import os\nos.close(os.open('f', os.O_CREAT, 0o400))\nos.mkdir('d', 0o500)",
    "odd names": "import os\nfor n in (b'\\xff\\xfe', b'\\n', b'-rf', b'~', b'1~', b' '):\n"
    " os.mkdir(n); open(n + b'/' + n, 'w').close()\n os.makedirs(n + b'/1~/' + n)",
}
ENDLESS = {
    "a loop": "while 1: pass",
    "sleep": "import time\ntime.sleep(1000)",
    "no SIGTERM": "import signal, time\nfor s in range(1, 65):\n"
    " try: signal.signal(s, lambda *a: 0)\n"
    " except Exception: pass\nwhile 1: time.sleep(1)",
    "blocked signals": "import signal, time\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
    "while 1: time.sleep(1)",
    "exceptions caught": "while 1:\n try:\n  while 1: pass\n except BaseException: pass",
    "a thread that stays": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(1000,)).start()",
    "at exit": "import atexit, time\natexit.register(time.sleep, 1000)",
    "a hang in a destructor": "import time\nclass A:\n"
    " def __del__(self, f=time.sleep): f(1000)\na = A()",
    "closed streams": "import os, time\nfor i in range(64):\n try: os.close(i)\n"
    " except OSError: pass\ntime.sleep(1000)",
    "a long C call": "9 ** 9 ** 9",
    "a read that never ends": "import os\nr, w = os.pipe()\nos.read(r, 1)",
}
TOO_MUCH = {
    "memory": "x = [bytearray(2**20) for _ in range(5000)]",
    "memory in threads": "import threading\n"
    "def f():\n x = [bytearray(2**20) for _ in range(5000)]\n"
    "ts = [threading.Thread(target=f) for _ in range(8)]\n[t.start() for t in ts]\n1 / 0",
    "memory of the kernel": "import mmap\nx = [mmap.mmap(-1, 2**24) for _ in range(1000)]\n",
    "pipes": "import os\nwhile 1: os.pipe()",
    "descriptors": "x = [open('f', 'w') for _ in range(1000)]",
    "duplicates": "import os\nwhile 1: os.dup(0)",
    "recursion": "def f(): f()\nf()",
    "recursion in C": "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "a deep program": "eval('(' * 10**5)",
    "a crash": "import sys\nsys.setrecursionlimit(10**9)\n"
    "class A: __getattr__ = lambda self, name: getattr(self, name)\nA().x",
    "output": "while 1: print('x' * 10000)",
    "output in threads": "import threading\ndef f():\n while 1: print('x' * 10000)\n"
    "for _ in range(8): threading.Thread(target=f).start()",
    "reports": "import os\nwhile 1: os.write(3, b'x' * 10000)",
    "lines of reports": "import os\nwhile 1: os.write(3, b'\\n' * 10000)",
}


@pytest.fixture(scope="module", params=[(), ("namespaces",)], ids=["all walls", "no namespaces"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    made = Sandbox(Settings(without=request.param))
    yield made
    made.close()


def left(guardian: int) -> list[Path]:
    """Folders of a sandbox's programs."""
    return list(Path(tempfile.gettempdir()).glob(f"verify-{guardian}-*"))


def end(sandbox: Sandbox, code: str, seconds: float = 10.0) -> int | None:
    """The exit code of a program, None when it ran out of time; it leaves nothing behind."""
    spec = {"code": code, "required": (), "seconds": 20}
    ended = sandbox.run(spec, b"", time.monotonic() + seconds, lambda line: b"walls" in line)
    assert left(sandbox.process.pid) == []
    return None if ended is None else -1 if ended.cut else ended.code


@pytest.mark.parametrize("name", DISK)
def test_disk_is_bounded(sandbox: Sandbox, name: str) -> None:
    assert end(sandbox, DISK[name], seconds=20) not in (0, None) or name == "nested folders"
    assert end(sandbox, "open('f', 'wb').write(bytes(10 * 2**20))") == 0  # the next one has all


@pytest.mark.parametrize("name", LEFT)
def test_what_a_program_leaves_is_removed(sandbox: Sandbox, name: str) -> None:
    end(sandbox, LEFT[name])
    code = "import os\nassert not os.listdir('.')\nopen('f', 'w').close()"
    assert end(sandbox, code) == 0


@pytest.mark.parametrize("name", ENDLESS)
def test_time_is_bounded(sandbox: Sandbox, name: str) -> None:
    began = time.monotonic()
    assert end(sandbox, ENDLESS[name], seconds=0.5) is None
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_is_refused(sandbox: Sandbox, name: str) -> None:
    assert end(sandbox, TOO_MUCH[name], seconds=30) not in (0, None)
    assert end(sandbox, "print(1)") == 0


BOMBS = {
    "threads": "import threading, time\nn = 0\ntry:\n while 1:\n"
    "  threading.Thread(target=time.sleep, args=(100,), daemon=True).start(); n += 1\n"
    "except RuntimeError: pass\nprint(n)",
    "small threads": "import threading, time\nthreading.stack_size(32768)\nn = 0\ntry:\n while 1:\n"
    "  threading.Thread(target=time.sleep, args=(100,), daemon=True).start(); n += 1\n"
    "except RuntimeError: pass\nprint(n)\nimport os, sys\nsys.stdout.flush()\nos._exit(0)",
    "threads that start threads": "import threading, time\nthreading.stack_size(32768)\n"
    "n = [0]\ndef f():\n try:\n  while 1:\n"
    "   threading.Thread(target=f, daemon=True).start(); n[0] += 1\n"
    " except RuntimeError: time.sleep(1)\nf()\nprint(n[0])\nimport os, sys\nsys.stdout.flush()\n"
    "os._exit(0)",
}


@pytest.mark.parametrize("name", BOMBS)
def test_threads_are_allowed_to_a_bound(sandbox: Sandbox, name: str) -> None:
    spec = {"code": BOMBS[name], "required": (), "seconds": 20}
    ended = sandbox.run(spec, b"", time.monotonic() + 20, lambda _: True)
    assert ended is not None and ended.code == 0
    assert 20 <= int(ended.output) <= 2 * THREADS
    pooled = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(40) as p: assert sum(p.map(abs, range(1000))) == 499500\n"
        "import threading\nfor _ in range(500):\n t = threading.Thread(target=int)\n"
        " t.start(); t.join()"
    )
    assert end(sandbox, pooled) == 0


def test_a_lost_runner_leaves_nothing(tmp_path: Path) -> None:
    """The process that verifies is killed: the sandbox ends its program and removes its files."""
    code = (
        "import time, sys\nfrom limo_ray.verify.program_runner import Sandbox\n"
        "from limo_ray.verify.sandbox import Settings\n"
        "s = Sandbox(Settings(without=tuple(sys.argv[1:])))\n"
        "print(s.process.pid, flush=True)\n"
        "s.run({'code': 'open(\"f\", \"w\")\\nwhile 1: pass', 'required': (), 'seconds': 100}, b'',"
        " time.monotonic() + 100, lambda line: print('runs', flush=True) or True)"
    )
    for without in ([], ["namespaces"]):
        runner = subprocess.Popen([sys.executable, "-c", code, *without], stdout=subprocess.PIPE)
        assert runner.stdout is not None
        guardian = int(runner.stdout.readline())
        assert runner.stdout.readline() == b"runs\n"
        assert bool(left(guardian)) == bool(without)
        runner.kill()
        runner.wait()
        runner.stdout.close()
        deadline = time.monotonic() + 30
        while (
            Path(f"/proc/{guardian}").exists() or left(guardian)
        ) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{guardian}/exe").exists()
        assert left(guardian) == []


def test_removal_never_raises_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    os.set_inheritable(fd, False)
    pid = os.fork()
    if pid == 0:  # another process, which may change its folder
        os.fchdir(fd)
        for _ in range(3000):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
            for name in ("1~", "2~", "f"):
                os.close(os.open(name, os.O_CREAT, 0))
        os.chmod(".", 0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(fd)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limit[1]))
    try:
        files.remove(str(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert not folder.exists()
    files.remove(str(folder))  # nothing there


def test_settings_travel() -> None:
    assert Settings(**json.loads(json.dumps(Settings(without=("hook",))._asdict()))).disk_mb == 64


ENDS = {  # programs whose output is complete, as it is when an interpreter ends
    "printed": "print(1)",
    "without a line": "import sys\nsys.stdout.write('1')",
    "bytes": "import sys\nsys.stdout.buffer.write(b'1')",
    "SystemExit": "print(1)\nraise SystemExit",
    "sys.exit(0)": "import sys\nprint(1)\nsys.exit(0)",
    "in a function": "def main():\n print(1)\nif __name__ == '__main__': main()",
    "a file left open": "f = open(1, 'w')\nf.write('1')",
    "a descriptor": "import os\nos.write(1, b'1')",
    "at exit": "import atexit\natexit.register(print, 1)",
    "a thread": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.1), print(1))).start()",
    "another stdout": "import sys, io\nprint(1)\nsys.stdout = io.StringIO()\nprint(2)",
    "a wrapped stdout": "import sys, io\nclass W(io.IOBase):\n"
    " def __init__(self): self.b = io.BytesIO()\n"
    " def write(self, s): self.b.write(s.encode())\n"
    " def flush(self): __import__('os').write(1, self.b.getvalue()); self.b.truncate(0)\n"
    "sys.stdout = W()\nprint(1)",
    "a closed stdout": "import sys\nprint(1)\nsys.stdout.close()",
    "no stdout": "import sys\nprint(1, flush=True)\nsys.stdout = None",
    "a destructor": "class A:\n def __del__(self): print(1)\na = A()",
    "a cycle": "class A:\n def __del__(self): print(1)\na = A()\na.a = a\ndel a",
}


@pytest.mark.parametrize("name", ENDS)
def test_output_is_complete(sandbox: Sandbox, name: str) -> None:
    spec = {"code": ENDS[name], "required": (), "seconds": 5}
    ended = sandbox.run(spec, b"", time.monotonic() + 20, lambda _: True)
    assert ended is not None and ended.code == 0 and ended.output.strip() == b"1"


def test_names_outside_are_hidden_where_files_can_be_mounted(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    sandbox = Sandbox()
    walls: list[bytes] = []
    try:
        code = f"import os\nassert not os.path.exists({str(tmp_path / 'there')!r})\n"
        code += "assert not os.path.exists('/var/lib')"
        spec = {"code": code, "required": (), "seconds": 5}
        ended = sandbox.run(spec, b"", time.monotonic() + 20, lambda line: not walls.append(line))
        if b"namespaces" not in walls[0]:
            pytest.skip("namespaces are not allowed")
        assert ended is not None and ended.code == 0
    finally:
        sandbox.close()
