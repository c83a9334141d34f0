"""Who may go in, and when: token buckets per key, and a bounded queue that is fair between keys.

A bucket holds one minute's allowance and refills evenly, so a key that was quiet may spend a minute
at once, and in no span of T seconds more than `limit * (1 + T / 60)`. Tokens of the model are
reserved before a request by what it may use at most, and settled after it by what it used; that may
leave a bucket in debt, which the refill pays first. All times are seconds of one monotonic clock.
State lives in one process: with several of them each has its own buckets.
"""

import asyncio
import math
from collections import OrderedDict, deque
from dataclasses import dataclass

from limo_ray.serve.errors import Refusal
from limo_ray.serve.keys import Key

PERIOD = 60.0


class Bucket:
    """`limit` per minute; full at first."""

    __slots__ = ("at", "level", "limit")

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.level = float(limit)
        self.at = now

    def refill(self, now: float) -> None:
        # a clock that stands still or goes back fills nothing and takes nothing
        passed = max(0.0, now - self.at)
        self.level = min(float(self.limit), self.level + passed * self.limit / PERIOD)
        self.at = max(self.at, now)

    def wait(self, amount: float) -> float:
        """Seconds until `amount`, or the limit if that is less, is there; 0 if it is."""
        missing = min(amount, self.limit) - self.level
        # a rounding error of the refill must not become another second of waiting
        return 0.0 if missing <= 1e-6 * self.limit else missing * PERIOD / self.limit

    def resize(self, limit: int) -> None:
        """Another limit from now on; what was spent stays spent."""
        self.level += limit - self.limit
        self.limit = limit


@dataclass(slots=True)
class Grant:
    """What a request took from its key's buckets, to be settled once."""

    name: str
    tokens: float = 0.0
    settled: bool = False


class Limiter:
    """Requests and tokens per minute of each key. At most two buckets per name are held."""

    def __init__(self, rpm: int, tpm: int) -> None:
        """
        Args:
            rpm: requests per minute of a key without its own; 0 for no limit.
            tpm: tokens (prompt and completion) per minute, likewise.
        """
        self.rpm = rpm
        self.tpm = tpm
        self.requests: dict[str, Bucket] = {}
        self.tokens: dict[str, Bucket] = {}

    def take(self, key: Key, tokens: float, now: float) -> Grant:
        """Takes one request and `tokens` tokens, or neither.

        More tokens than the limit itself are taken from a full bucket, which is in debt then: such
        a request would otherwise never be served.

        Raises:
            Refusal: 429, with the seconds after which the same request would be let in.
        """
        requests = self._bucket(self.requests, key.name, key.rpm, self.rpm, now)
        spent = self._bucket(self.tokens, key.name, key.tpm, self.tpm, now)
        wait_requests = requests.wait(1) if requests else 0.0
        wait_tokens = spent.wait(tokens) if spent else 0.0
        wait = max(wait_requests, wait_tokens)
        if wait > 0:
            what, bucket = (
                ("tokens", spent) if wait_tokens > wait_requests else ("requests", requests)
            )
            assert bucket is not None
            raise Refusal(
                429,
                f"the limit of {bucket.limit} {what} per minute of this key is reached; "
                f"try again in {math.ceil(wait)} s",
                reason=what,
                code="rate_limit_exceeded",
                retry_after=wait,
            )
        if requests:
            requests.level -= 1
        if spent:
            spent.level -= tokens
        return Grant(key.name, tokens if spent else 0.0)

    def settle(self, grant: Grant, used: float, now: float) -> None:
        """Corrects the tokens of a request to those it used. A second time changes nothing."""
        bucket = self.tokens.get(grant.name)
        if grant.settled or bucket is None:
            return
        grant.settled = True
        bucket.refill(now)
        bucket.level = min(float(bucket.limit), bucket.level + grant.tokens - used)

    def give_back(self, grant: Grant, now: float) -> None:
        """Undoes a grant: the request did not get in."""
        requests = self.requests.get(grant.name)
        if requests is not None and not grant.settled:
            requests.refill(now)
            requests.level = min(float(requests.limit), requests.level + 1)
        self.settle(grant, 0, now)
        grant.settled = True

    def headers(self, key: Key, now: float) -> list[tuple[str, str]]:
        """OpenAI's x-ratelimit headers, of the limits that there are."""
        out: list[tuple[str, str]] = []
        for what, buckets in (("requests", self.requests), ("tokens", self.tokens)):
            bucket = buckets.get(key.name)
            if bucket is None:
                continue
            bucket.refill(now)
            out += [
                (f"x-ratelimit-limit-{what}", str(bucket.limit)),
                (f"x-ratelimit-remaining-{what}", str(max(0, math.floor(bucket.level + 1e-6)))),
                (f"x-ratelimit-reset-{what}", span(bucket.wait(bucket.limit))),
            ]
        return out

    def keep(self, names: set[str]) -> None:
        """Forgets the buckets of all other names."""
        for buckets in (self.requests, self.tokens):
            for name in set(buckets) - names:
                del buckets[name]

    def _bucket(
        self, buckets: dict[str, Bucket], name: str, own: int | None, common: int, now: float
    ) -> Bucket | None:
        limit = common if own is None else own
        if limit == 0:
            buckets.pop(name, None)
            return None
        bucket = buckets.get(name)
        if bucket is None:
            bucket = buckets[name] = Bucket(limit, now)
        bucket.refill(now)
        if bucket.limit != limit:
            bucket.resize(limit)
        return bucket


def span(seconds: float) -> str:
    """A duration as OpenAI's headers write it: 120ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 10) / 10, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:g}s"


class Full(Exception):
    """The queue takes no more."""


class Queue:
    """At most `max_inside` inside, at most `max_waiting` waiting; keys take turns at the door.

    Within a key the order is that of arrival. Nobody fills the queue against others: in a full one
    a key with fewer places takes the last place of the key with the most. One event loop owns it.
    """

    def __init__(self, max_inside: int, max_waiting: int) -> None:
        self.max_inside = max_inside
        self.max_waiting = max_waiting
        self.inside = 0
        self.waiting = 0
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def enter(self, name: str) -> asyncio.Future[None] | None:
        """None: inside now. A future: inside when it is done, out again when it is cancelled.

        Whoever does not want to wait for it any more says `give_up`.

        Raises:
            Full: no place to wait.
        """
        if self.inside < self.max_inside:
            self.inside += 1
            return None
        if self.waiting >= self.max_waiting:
            self._displace(name)
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(name, deque()).append(ticket)
        self.waiting += 1
        return ticket

    def _displace(self, name: str) -> None:
        """Frees a place for `name` at the cost of the longest line, if that is fair."""
        longest = max(self._lines.values(), key=len, default=deque())
        if len(longest) <= len(self._lines.get(name, ())) + 1:
            raise Full
        longest.pop().cancel()
        self.waiting -= 1

    def give_up(self, name: str, ticket: asyncio.Future[None]) -> None:
        """Leaves the line; leaves the inside if the door opened in the same moment."""
        if ticket.cancelled():
            return
        if ticket.done():
            self.leave()
            return
        line = self._lines[name]
        line.remove(ticket)
        if not line:
            del self._lines[name]
        self.waiting -= 1

    def leave(self) -> None:
        """One is out: the next key's first goes in."""
        if not self._lines:
            self.inside -= 1
            return
        name, line = next(iter(self._lines.items()))
        ticket = line.popleft()
        if line:
            self._lines.move_to_end(name)
        else:
            del self._lines[name]
        self.waiting -= 1
        ticket.set_result(None)
