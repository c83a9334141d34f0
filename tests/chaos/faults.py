"""What the chaos tests put into every worker: a side log of the draws, and a store that fails.

`install` is the worker process setup hook of the chaos driver (`tests.chaos.driver`), so nothing
of this is in the package. Settings come from the environment:

    CHAOS_FOLDER       where each process writes its side log
    CHAOS_SEED         seeds the store's faults
    CHAOS_STORE        share of writes to the attempt log that fail or are late; 0 for none

A side log has a line for each event: b (draw begun), c (begun from a saved partial completion),
f (the engine's answer is there), a (it is judged and handed to the log), w (the attempt is in the
store), x (the store did not take it), each with the log that it belongs to (its temperature or, for
a, w and x, its fingerprint), problem, index, time.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

CUT_SHORT = signal.SIGUSR1  # the scripted engine of a sampler dies


class SideLog:
    def __init__(self, folder: str) -> None:
        path = f"{folder}/{os.getpid()}-{time.time_ns()}.log"
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, what: str, log: object, draws: list[tuple[str, int]]) -> None:
        """In one write each: a killed process leaves whole lines."""
        now = time.time()
        lines = "".join(f"{what} {log} {problem} {index} {now:.6f}\n" for problem, index in draws)
        os.write(self.file, lines.encode())


def install() -> None:
    from limo_ray.attempts import log as store
    from limo_ray.engines import scripted

    side = SideLog(os.environ["CHAOS_FOLDER"])
    _watch_draws(scripted, side)
    _watch_log(store, side)
    share = float(os.environ.get("CHAOS_STORE", "0"))
    if share:
        rng = random.Random(f"{os.environ['CHAOS_SEED']}:{os.getpid()}")
        _spoil_store(store, share, rng)


def _watch_draws(scripted: Any, side: SideLog) -> None:
    """Logs draws; CUT_SHORT ends the engine that is alive, as a crash of its processes would."""
    plain = scripted.ScriptedEngine.generate
    crashes = [0]
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(CUT_SHORT, lambda *_: crashes.append(1))

    async def generate(self: Any, request: Any) -> Any:
        born = self.__dict__.setdefault("_born", len(crashes))
        log, draw = request.sampling.temperature, (request.problem.id, request.index)
        side.write("c" if request.prefix else "b", log, [draw])
        completion = await plain(self, request)
        if len(crashes) > born:
            raise scripted.EngineError("engine crashed")
        if completion.finish_reason != "cut":
            side.write("f", log, [draw])
        return completion

    scripted.ScriptedEngine.generate = generate


def _watch_log(store: Any, side: SideLog) -> None:
    plain, append = store.LogWriter._write, store.LogWriter.append

    def watched(self: Any, attempt: Any) -> None:
        append(self, attempt)
        draw = (attempt.problem_id, attempt.index)
        side.write("a", self.log.folder.rpartition("/")[2], [draw])

    store.LogWriter.append = watched

    def write(self: Any, table: Any, size: int) -> None:
        draws = list(zip(table["problem_id"].to_pylist(), table["index"].to_pylist(), strict=True))
        log = self.log.folder.rpartition("/")[2]
        try:
            plain(self, table, size)
        except OSError:
            side.write("x", log, draws)
            raise
        if size == 0:
            side.write("w", log, draws)

    store.LogWriter._write = write


def _spoil_store(store: Any, share: float, rng: random.Random) -> None:
    """Writes to the attempt log are late, are dropped, or are said to be dropped and are not."""
    plain = store.Store._whole

    @contextlib.contextmanager
    def whole(self: Any, name: str) -> Iterator[Any]:
        ill = name.startswith("attempts/") and rng.random() < share
        kind = rng.choice(["late", "dropped", "unsure"]) if ill else "fine"
        if kind == "late":
            time.sleep(rng.uniform(0.2, 1.5))
        if kind == "dropped":
            raise OSError(f"chaos: write of {name} dropped")
        with plain(self, name) as stream:
            yield stream
        if kind == "unsure":
            raise OSError(f"chaos: no answer to the write of {name}")

    store.Store._whole = whole
