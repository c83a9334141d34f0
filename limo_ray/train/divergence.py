"""When a training has to stop: no number, or a spike that does not heal. Pure."""

import math
import statistics
from collections import deque

from limo_ray.train.config import WatchConfig


class DivergenceMonitor:
    """Follows the losses of one training; every worker sees the same and decides the same."""

    def __init__(self, config: WatchConfig, history: list[float], what: str = "loss") -> None:
        """`history` are the losses before a resumed training's first step.

        `what` is followed in place of the loss where that says nothing; it is positive.
        """
        self.what = what
        self.config = config
        self.calm: deque[float] = deque(maxlen=config.window)
        self.high = 0
        for loss in history:
            self.reason_to_stop(loss, 0.0)

    def reason_to_stop(self, loss: float, norm: float) -> str:
        """Why to stop after a step with this loss and gradient norm; empty to go on.

        Losses of a spike stay out of the median that it is measured against.
        """
        for name, value in ((self.what, loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"the {name} is {value}"
        full = len(self.calm) == self.config.window
        middle = statistics.median(self.calm) if full else math.inf
        if loss <= self.config.spike * middle:
            self.calm.append(loss)
            self.high = 0
            return ""
        self.high += 1
        if self.high < self.config.patience:
            return ""
        return (
            f"the {self.what} has been above {self.config.spike:g} x {middle:.3g} (the median "
            f"before) for {self.high} steps: {loss:.3g}"
        )

    @property
    def sound(self) -> bool:
        """Whether a checkpoint made now would be one to go back to."""
        return self.high == 0
