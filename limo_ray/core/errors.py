"""The errors that a job reports in one line, and the cause of one that crossed Ray."""

import re


class LimoError(Exception):
    """An error of limo_ray's own: the message is the one line that the user reads."""


class EngineError(LimoError):
    """An engine that cannot start, or that died: the message says why in one line."""


class SpendCapReached(LimoError):
    """Paid attempts cost as much as the config allows: the job stopped with all of them logged."""


class TrainingError(LimoError):
    """A training that cannot go on, told in one line."""


class VerificationError(LimoError):
    """Too many verdicts are no judgement: the run must stop, not select on them."""


_OURS = re.compile(r"^limo_ray[\w.]*: (.+)$", re.M)
_RAISED = re.compile(r"^[\w.]*(?:Error|Exception)\w*: (.+)$", re.M)


def reason(error: BaseException) -> str:
    """The cause of an error that crossed Ray, in one line: what our own code raised, if it did.

    Ray carries the cause only as the text of its traceback, the innermost exception first.
    """
    text = str(error)
    found = _OURS.search(text) or _RAISED.search(text)
    return found.group(1) if found else text.strip().splitlines()[-1]
