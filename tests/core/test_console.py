"""The live view of a running job: what it prints where, and when."""

import io
import sys
import threading

import pytest
from rich.table import Table

from limo_ray.core import console
from limo_ray.core.console import LiveView


class Job:
    """Counts up whenever it is asked; its line is shown for odd counts."""

    def __init__(self) -> None:
        self.count = 0
        self.enough = threading.Event()

    def refresh(self) -> None:
        self.count += 1
        if self.count >= 4:
            self.enough.set()

    def line(self) -> str:
        return f"count {self.count}" if self.count % 2 else ""

    def table(self) -> Table:
        table = Table(title="a job")
        table.add_column("count")
        table.add_row(str(self.count))
        return table


def shown(job: Job, show_last: bool) -> list[str]:
    view = LiveView(refresh=job.refresh, table=job.table, line=job.line, line_every_s=0.01)
    view.start()
    assert job.enough.wait(20)
    view.stop(show_last=show_last)
    output = sys.stdout
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


@pytest.mark.parametrize("show_last", [True, False])
def test_a_pipe_gets_lines_where_there_is_news(
    monkeypatch: pytest.MonkeyPatch, show_last: bool
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    job = Job()
    lines = shown(job, show_last)
    odd = [f"count {number}" for number in range(1, job.count + 1, 2)]
    again = [f"count {job.count}"] if show_last and job.count % 2 else []
    assert lines == odd + again


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(console, "TABLE_EVERY_S", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    text = "\n".join(shown(Job(), show_last=True))
    assert "a job" in text and "count" in text
    assert "count 1" not in text, "a terminal gets no lines"
