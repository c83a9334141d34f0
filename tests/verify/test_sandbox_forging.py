"""Programs that are wrong and try to be called right, and honest ones of the same form."""

import json
import sys
import time

import pytest

from limo_ray.verify import Verdict
from limo_ray.verify.code import verify

pytestmark = pytest.mark.process

EQUAL = """
class Equal(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __bool__(self): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __sub__(self, other): return 0
    def __abs__(self): return 0
    def __round__(self, n=0): return self
    def __iter__(self): return iter([self])
    def __len__(self): return 1
    def __contains__(self, x): return True
    def __instancecheck__(self, x): return True
    __rsub__ = __add__ = __sub__
class Any:
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __bool__ = lambda self: True
    __hash__ = lambda self: 0
    __sub__ = __rsub__ = __abs__ = lambda *args: 0
    __reduce__ = lambda self: (print, ())
    __repr__ = __str__ = lambda self: '3'
    __index__ = __int__ = lambda self: 3
class AnyList(list):
    __eq__ = lambda self, other: True
    __iter__ = lambda self: iter([3])
class AnyStr(str):
    __eq__ = lambda self, other: True
    __hash__ = lambda self: 0
"""
FRAMES = """
import sys, os, json
def frames():
    frame = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back
def secrets():
    for frame in frames():
        for space in (frame.f_locals, frame.f_globals):
            for value in list(space.values()):
                if isinstance(value, dict): yield from value.values()
                yield value
"""

# All of them define f and g; none computes anything.
FORGERIES = {
    "an equal number": EQUAL + "f = g = lambda *a: Equal()",
    "an equal object": EQUAL + "f = g = lambda *a: Any()",
    "an equal list": EQUAL + "f = g = lambda *a: AnyList()",
    "an equal text": EQUAL + "f = g = lambda *a: AnyStr()",
    "equal things in a list": EQUAL + "f = g = lambda *a: [Any(), Any()]",
    "an equal class": "class M(type):\n __eq__ = lambda *a: True\n __hash__ = lambda *a: 0\n"
    "class f(metaclass=M): pass\ng = f",
    "unittest.mock.ANY": "from unittest.mock import ANY\nf = g = lambda *a: ANY",
    "builtins": "import builtins, operator, math\n"
    "for n in ('abs', 'all', 'any', 'round', 'sorted', 'len', 'isinstance', 'type', 'bool'):\n"
    " setattr(builtins, n, lambda *a, **k: True)\nmath.isclose = lambda *a, **k: True\n"
    "operator.eq = lambda a, b: True\nf = g = lambda *a: 0",
    "no assertion errors": "import builtins\nbuiltins.AssertionError = ''\nf = g = lambda *a: 0",
    "exec and compile": "import builtins\nbuiltins.exec = builtins.eval = lambda *a: True\n"
    "builtins.compile = lambda *a, **k: 'True'\nf = g = lambda *a: 0",
    "json": "import json, json.encoder\njson.dumps = lambda *a, **k: '[[true]]'\n"
    "json.JSONEncoder.encode = lambda *a: '[[true]]'\nf = g = lambda *a: 0",
    "the modules of the walls": "import sys\n"
    "for m in list(sys.modules.values()):\n"
    " if 'walls' in m.__name__ or m.__name__ == '__main__':\n"
    "  for n in ('encode', '_encode', 'decode'):\n"
    "   if hasattr(m, n): setattr(m, n, lambda *a: True)\n"
    "f = g = lambda *a: 0",
    "lines of values": "import os\n"
    "for line in (b'[[true]]', b'[[0]]', b'[[\"object\", true]]', b'[null]', b'[[3]]', b'[]'):\n"
    " os.write(3, line + b'\\n')\nf = g = lambda *a: 0",
    "lines in a call": "import os\ndef f(*a):\n for _ in range(100): os.write(3, b'[[true]]\\n')\n"
    "g = f",
    "another kind of value": "import os\ndef f(*a):\n os.write(3, b'[[[\"object\", true]]]\\n')\n"
    "g = f",
    "the token": FRAMES + "def f(*a):\n for v in secrets():\n"
    "  if isinstance(v, str) and len(v) == 32:\n"
    "   for _ in range(100): os.write(3, json.dumps(v).encode() + b'\\n')\n os._exit(0)\ng = f",
    "the expected value from frames": FRAMES + "import re\ndef f(*a):\n"
    " for v in secrets():\n  for m in re.findall(r'== (\\d+)', repr(v)): return int(m)\n"
    " return 0\ng = f",
    "a polite end": "import os\ndef f(*a): os._exit(0)\ng = f",
    "SystemExit": "def f(*a): raise SystemExit(0)\ng = f",
    "an early end": "raise SystemExit(0)",
    "an end at exit": "import atexit, os\natexit.register(os._exit, 0)\nf = g = lambda *a: 0",
    "an exception": "def f(*a): raise AssertionError\ng = f",
    "a changing value": "class L(list):\n n = 0\n def __len__(self): return 3\n"
    " def __iter__(self): L.n += 1; return iter([L.n] * 3)\nf = g = lambda *a: L()",
    "a changed space": "import sys\nfor frame in iter(lambda f=[sys._getframe()]: f, None):\n"
    " fr = frame[0]\n while fr:\n  for v in list(fr.f_locals.values()):\n"
    "   if isinstance(v, dict) and 'steps' in v: v['steps'] = []\n  fr = fr.f_back\n break\n"
    "f = g = lambda *a: 0",
    "an infinite value": "f = g = lambda *a: float('nan')",
    "a value that calls": "class E(Exception):\n def __init__(self, *a): raise SystemExit(0)\n"
    "def f(*a): raise E\ng = f",
    "a deep value": "x = []\nfor _ in range(10**5): x = [x]\nf = g = lambda *a: x",
    "a value in itself": "x = []\nx.append(x)\nf = g = lambda *a: x",
}
COSTLY = {  # for the process that compares
    "a large value": "f = g = lambda *a: [0] * 10**6",
    "a large number": "f = g = lambda *a: 1 << 10**7",
    "a large fraction": "from fractions import Fraction\n"
    "f = g = lambda *a: Fraction(3**10**6, 2**10**6)",
    "a large decimal": "from decimal import Decimal\nf = g = lambda *a: Decimal('1e999999')",
    "colliding keys": "import json, os\ndef f(*a):\n"
    " keys = [[['int', hex(k * (2**61 - 1))], 0] for k in range(100_000)]\n"
    " os.write(3, json.dumps([[['dict', *keys]]]).encode() + b'\\n')\ng = f",
    "deep JSON": "import os\ndef f(*a): os.write(3, b'[' * 10**5 + b'\\n')\ng = f",
    "odd JSON": "import os\ndef f(*a): os.write(3, b'[[{\"a\": NaN}], 1e999]\\n')\ng = f",
}

TESTS = {
    "a number": "assert f(1) == 7301",
    "literal first": "assert 7301 == f(1)",
    "a list": "assert f(1) == [7301, 2]",
    "a tuple": "assert f(1, 2) == (7301, 'x')",
    "a dict": "assert f(1) == {'a': 7301}",
    "a set": "assert set(f(1)) == set([7301, 5])",
    "a text": "assert f(1) == 'seven'",
    "nearly": "assert abs(f(1) - 7301.5) < 1e-6",
    "rounded": "assert round(f(1), 2) == 7301.5",
    "close": "import math\nassert math.isclose(f(1), 7301.5, rel_tol=1e-9)",
    "sorted": "assert sorted(f(1)) == [7301, 7302]",
    "between": "assert 7300 < f(1) < 7302",
    "one of": "assert f(1) in (7301, 7302)",
    "two": "assert f(1) == 7301 and g(1) == 7302",
    "either": "assert f(1) == 7301 or g(1) == 7302",
    "a message": "assert f(1) == 7301, f'{f(1)}'",
    "by name": "x = f(1)\nassert x == 7301",
    "an item": "assert f(1)[0] == 7301",
    "HumanEval": "def check(candidate):\n    assert candidate(1) == 7301\n"
    "    assert candidate(2) == 7302\n\ncheck(f)",
    "not false": "assert (f(1) == 7301) is True",
    "true": "assert bool(f(1) == 7301) == True",
    "all": "assert all([f(1) == 7301, f(2) == 7302])",
    "any": "assert any((f(1) == 7301, f(2) == 7302))",
    "if": "assert f(1) == 7301 if True else False",
    "not unequal": "assert not f(1) != 7301",
    "a sum": "assert f(1) + 1 == 7302",
    "computed": "assert f(1) == 7300 + 1",
    "root": "import math\nassert f(1) == math.sqrt(53304601)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's walls are Linux's")
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_is_called_right(name: str, test: str) -> None:
    answer = json.dumps({"tests": [TESTS[test]]})
    assert verify(answer, FORGERIES[name], seconds=20) is Verdict.WRONG


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's walls are Linux's")
@pytest.mark.parametrize("test", ["a number", "a dict", "nearly"])
@pytest.mark.parametrize("name", COSTLY)
def test_values_cost_no_time_outside(name: str, test: str) -> None:
    answer = json.dumps({"tests": [TESTS[test]]})
    began = time.thread_time()
    assert verify(answer, COSTLY[name], seconds=30) is Verdict.WRONG
    assert time.thread_time() - began < 2


HONEST = {
    "assert f(1) == Counter('aab')": "f = lambda n: Counter('aab')",
    "assert f(1) == OrderedDict(a=1)": "f = lambda n: OrderedDict(a=1)",
    "assert f(1) == {1: [2, (3, {4})], 'x': None, None: 1.5}": "f = lambda n: defaultdict(int, "
    "{1: [2, (3, frozenset([4]))], 'x': None, None: 1.5})",
    "assert f(1) == (1, 2)": "P = namedtuple('P', 'x y')\nf = lambda n: P(1, 2)",
    "assert f(1) == 3": "import enum\nclass E(enum.IntEnum):\n A = 3\nf = lambda n: E.A",
    "assert f(1) == True": "f = lambda n: 1",
    "assert f(1) == 1.0": "f = lambda n: 1",
    "assert f(1) == 0.5": "from fractions import Fraction\nf = lambda n: Fraction(1, 2)",
    "assert f(1) == b'x'": "f = lambda n: bytearray(b'x')",
    "assert f(1) == {1, 2}": "f = lambda n: {1: 0, 2: 0}.keys()",
    "assert f(1) == range(3)": "f = lambda n: range(0, 3)",
    "assert f(1) == deque([1])": "f = lambda n: deque([1])",
    "assert list(f(3)) == [0, 1, 2]": "def f(n): yield from range(n)",
    "assert sum(f(3)) == 3": "def f(n): yield from range(n)",
    "assert 2 in f(3)": "def f(n): yield from range(n)",
    "assert f(3) == f(4)": "class P:\n __eq__ = lambda a, b: True\nf = lambda n: P()",
    "assert f(1) == E.A": "import enum\nE = enum.Enum('E', 'A')\nf = lambda n: E.A",
    "assert f(2) == [E.A]": "import enum\nE = enum.Enum('E', 'A')\nf = lambda n: [E.A]",
    "assert sum(10, 15) == 25": "def sum(a, b): return a + b",
    "assert max(1, 2) == 1": "def max(a, b): return a",
    "assert f(1) is None": "f = lambda n: None",
    "assert f(1) is not None": "f = lambda n: object()",
    "assert f(1)": "f = lambda n: re.match('a', 'a')",
    "assert not f(1)": "f = lambda n: []",
    "assert f(1) is True": "f = lambda n: True",
    "assert f(0) is None or f(0).x == 1": "f = lambda n: None",
    "assert isinstance(f(1), list) and len(f(1)) == 2": "f = lambda n: [1, 2]",
    "assert abs(f(2) - 1.4142) < 1e-3": "f = lambda n: n ** 0.5",
    "assert math.isclose(f(2), 2 ** 0.5)": "f = lambda n: n ** 0.5",
    "assert f(2) == math.sqrt(2)": "f = lambda n: n ** 0.5",
    "assert f(100) == 2**100": "f = lambda n: 2 ** n",
    "assert f(1) == float('inf')": "f = lambda n: inf",
    "assert f(1) != f(1)": "f = lambda n: nan",
    "assert f(1) == [i * i for i in range(3)]": "f = lambda n: [0, 1, 4]",
    "assert f(1) == 'a' * 3": "f = lambda n: 'aaa'",
    "assert f(1) == '\\ud800'": "f = lambda n: chr(0xd800)",
    "x = [3, 1]\nf(x)\nassert x == [1, 3]": "f = lambda x: x.sort()",
    "for i in range(3):\n    assert f(i) == i": "f = lambda n: n",
    "try:\n    f(1)\n    assert False\nexcept ValueError:\n    pass": "def f(n): raise ValueError",
    "def check(c):\n    x = c(1)\n    assert x == 1\n    for i in [2]:\n        assert c(i) == i"
    "\ncheck(f)": "f = lambda n: n",
    "def check(c):\n    if c(1) == 1:\n        return\n    assert False\n"
    "check(f)": "f = lambda n: n",
    "assert all([f(1) == 1, f(2) == 2]) and any([f(1)])": "f = lambda n: n",
    "assert all(f(i) == i for i in range(3))": "f = lambda n: n",
    "assert bool(f(1)) == True": "f = lambda n: [n]",
    "assert (y := f(1)) == 1\nassert y == 1": "f = lambda n: n",
    "assert f(1) == 1, g(1)": "f = lambda n: n",
    "from math import gcd\nassert f(4, 6) == gcd(4, 6)": "f = gcd",
    "assert 0 < f(1) <= 1 < 2": "f = lambda n: n",
    "assert f(10**400) == 10**400": "f = lambda n: n",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's walls are Linux's")
@pytest.mark.parametrize("test", HONEST)
def test_honest_programs_pass(test: str) -> None:
    assert verify(json.dumps({"tests": [test]}), HONEST[test]) is Verdict.CORRECT
    wrong = "f = lambda *a: (_ for _ in ()).throw(KeyError)\nsum = max = f"
    assert verify(json.dumps({"tests": [test]}), wrong) is Verdict.WRONG
