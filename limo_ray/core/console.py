"""What the user sees on the terminal: lines, and the live view of a running job."""

import sys
import threading
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table

TABLE_EVERY_S = 0.5
LINE_EVERY_S = 15.0


def say(text: str) -> None:
    """Prints at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class LiveView:
    """Shows a running job from a thread: a live table on a terminal, plain lines elsewhere.

    >>> view = LiveView(refresh=lambda: None, table=Table, line=lambda: "3 of 5 done")
    >>> view.start()
    >>> view.stop()
    """

    def __init__(
        self,
        *,
        refresh: Callable[[], None],
        table: Callable[[], Table],
        line: Callable[[], str],
        line_every_s: float = LINE_EVERY_S,
    ) -> None:
        """
        Args:
            refresh: fetches what the others show; called before each but the last.
            table: the view on a terminal, every half second.
            line: the view elsewhere; "" if there is nothing new.
            line_every_s: seconds between two lines.
        """
        self._refresh = refresh
        self._table = table
        self._line = line
        self._line_every_s = line_every_s
        self._show_last = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="live view", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, show_last: bool = True) -> None:
        """Ends the view; `show_last` shows the state once more, without a refresh."""
        self._show_last = show_last
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        console = Console(file=sys.stdout)
        if console.is_terminal:
            self._follow_on_terminal(console)
            return
        while not self._stop.wait(self._line_every_s):
            self._refresh()
            self._print(console)
        if self._show_last:
            self._print(console)

    def _follow_on_terminal(self, console: Console) -> None:
        with Live(self._table(), console=console, refresh_per_second=2) as live:
            while not self._stop.wait(TABLE_EVERY_S):
                self._refresh()
                live.update(self._table())
            if self._show_last:
                live.update(self._table())

    def _print(self, console: Console) -> None:
        if line := self._line():
            console.print(line, soft_wrap=True, highlight=False)
