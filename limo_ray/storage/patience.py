"""Writes that outlast a bad ten minutes of the store."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

GIVE_UP_S = 600.0  # a store that takes nothing for so long is down
LONGEST_WAIT_S = 30.0


def patiently(write: Callable[[], object], what: str) -> None:
    """Calls `write` until it works; raises its OSError after GIVE_UP_S of failures.

    Args:
        what: named in the warnings.
    """
    begun = time.monotonic()
    wait = 1.0
    while True:
        try:
            write()
            return
        except OSError as error:
            if time.monotonic() - begun > GIVE_UP_S:
                raise
            log.warning("%s not written (%s): next try in %.0f s", what, error, wait)
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_S)
