"""The states of a sampler, and which may follow which. Pure."""

from enum import StrEnum


class State(StrEnum):
    RUNNING = "running"
    """Starts attempts at the problems that it gets."""
    DRAINING = "draining"
    """Starts none, and writes what it has: its process ends (SIGTERM), or the job stops it.
    Undecided problems stay open: if the process ends, another sampler gets their batches."""
    STOPPED = "stopped"
    """Has written everything for a job that stopped it. Undecided problems leave undecided."""
    FAILED = "failed"
    """Every batch ends with the error, and so does the job."""


SUCCESSORS: dict[State, frozenset[State]] = {
    State.RUNNING: frozenset({State.DRAINING, State.FAILED}),
    State.DRAINING: frozenset({State.STOPPED, State.FAILED}),
    State.STOPPED: frozenset({State.FAILED}),  # its store may go down later
    State.FAILED: frozenset(),
}
