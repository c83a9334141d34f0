"""Token buckets and the queue, on a clock that the test moves."""

import asyncio
import contextlib
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.serve.errors import Refusal
from limo_ray.serve.keys import Key
from limo_ray.serve.limits import Full, Limiter, Queue, span

ALICE, BOB = Key("alice", b""), Key("bob", b"")

visits = st.lists(
    st.tuples(
        st.floats(0, 40, allow_subnormal=False),  # seconds since the one before
        st.integers(0, 500),  # tokens set aside
        st.integers(0, 700),  # tokens used
    ),
    max_size=60,
)


@settings(deadline=None)
@given(visits, st.integers(1, 90))
def test_no_span_lets_in_more_requests_than_a_minute_and_the_refill(
    visits: list[tuple[float, int, int]], rpm: int
) -> None:
    limiter, now, let_in = Limiter(rpm, 0), 0.0, []
    for pause, _, _ in visits:
        now += pause
        with contextlib.suppress(Refusal):
            limiter.take(ALICE, 0, now)
            let_in.append(now)
    for first, begin in enumerate(let_in):
        for count, end in enumerate(let_in[first:], 1):
            assert count <= rpm * (1 + (end - begin) / 60) + 1e-3


@settings(deadline=None)
@given(visits, st.integers(50, 400))
def test_tokens_used_stay_within_the_limit_and_one_request(
    visits: list[tuple[float, int, int]], tpm: int
) -> None:
    """Settled at once, so that only the last one let in may go over the allowance."""
    limiter, now, used_up, last = Limiter(0, tpm), 0.0, 0.0, 0.0
    for pause, aside, used in visits:
        now += pause
        try:
            grant = limiter.take(ALICE, aside, now)
        except Refusal:
            continue
        limiter.settle(grant, used, now)
        used_up, last = used_up + used, used
        assert used_up - last <= tpm * (1 + now / 60) + 1e-3


@settings(deadline=None)
@given(visits, st.integers(1, 90), st.integers(50, 400))
def test_who_comes_again_after_retry_after_gets_in_and_not_a_second_earlier(
    visits: list[tuple[float, int, int]], rpm: int, tpm: int
) -> None:
    limiter, now = Limiter(rpm, tpm), 0.0
    for pause, aside, used in visits:
        now += pause
        try:
            limiter.settle(limiter.take(ALICE, aside, now), used, now)
        except Refusal as refusal:
            assert refusal.status == 429
            assert refusal.retry_after > 0
            if refusal.retry_after > 1:
                with pytest.raises(Refusal):
                    limiter.take(ALICE, aside, now + refusal.retry_after - 1)
            now += math.ceil(refusal.retry_after)
            limiter.settle(limiter.take(ALICE, aside, now), used, now)


@settings(deadline=None)
@given(visits)
def test_what_is_given_back_leaves_no_trace(visits: list[tuple[float, int, int]]) -> None:
    limiter, other, now = Limiter(40, 900), Limiter(40, 900), 0.0
    for pause, aside, used in visits:
        now += pause
        for each in (limiter, other):
            with contextlib.suppress(Refusal):
                each.settle(each.take(ALICE, aside, now), used, now)
        with contextlib.suppress(Refusal):
            grant = limiter.take(ALICE, aside, now)
            limiter.give_back(grant, now)
            limiter.give_back(grant, now)  # twice is once
        for what in ("requests", "tokens"):
            mine, theirs = getattr(limiter, what)["alice"], getattr(other, what)["alice"]
            assert mine.level == pytest.approx(theirs.level, abs=1e-6)


def test_tokens_are_set_aside_and_settled() -> None:
    limiter = Limiter(0, 600)
    grant = limiter.take(ALICE, 500, 0.0)
    with pytest.raises(Refusal, match="600 tokens per minute") as caught:
        limiter.take(ALICE, 200, 0.0)
    assert caught.value.retry_after == pytest.approx(10.0)
    limiter.settle(grant, 100, 0.0)
    limiter.settle(grant, 400, 0.0)  # the second time counts for nothing
    assert limiter.tokens["alice"].level == 500
    limiter.settle(limiter.take(ALICE, 500, 0.0), 1100, 0.0)  # used more than set aside: debt
    assert limiter.tokens["alice"].level == -600
    with pytest.raises(Refusal) as caught:
        limiter.take(ALICE, 1, 0.0)
    assert caught.value.retry_after == pytest.approx(60.1)


def test_a_request_larger_than_the_minute_passes_a_full_bucket_alone() -> None:
    limiter = Limiter(0, 100)
    limiter.take(ALICE, 1000, 0.0)
    with pytest.raises(Refusal) as caught:
        limiter.take(ALICE, 1000, 0.0)
    assert caught.value.retry_after == pytest.approx(600.0)
    limiter.take(ALICE, 1000, 600.0)


def test_a_refusal_takes_nothing_from_the_other_bucket() -> None:
    limiter = Limiter(10, 100)
    with pytest.raises(Refusal):
        for _ in range(3):
            limiter.take(ALICE, 60, 0.0)
    assert limiter.requests["alice"].level == 9


def test_keys_have_their_own_buckets_and_limits() -> None:
    limiter = Limiter(1, 0)
    rich = Key("rich", b"", rpm=3)
    free = Key("free", b"", rpm=0)
    for key, count in ((ALICE, 1), (BOB, 1), (rich, 3)):
        for _ in range(count):
            limiter.take(key, 0, 0.0)
        with pytest.raises(Refusal):
            limiter.take(key, 0, 0.0)
    for _ in range(100):
        limiter.take(free, 0, 0.0)
    limiter.keep({"bob"})
    assert set(limiter.requests) == {"bob"}


def test_another_limit_of_a_key_keeps_what_was_spent() -> None:
    limiter = Limiter(0, 0)
    for _ in range(4):
        limiter.take(Key("k", b"", rpm=10), 0, 0.0)
    with pytest.raises(Refusal):
        limiter.take(Key("k", b"", rpm=4), 0, 0.0)
    limiter.take(Key("k", b"", rpm=5), 0, 0.0)


def test_memory_grows_with_keys_not_with_requests() -> None:
    limiter = Limiter(5, 5)
    for number in range(2000):
        with contextlib.suppress(Refusal):
            limiter.take(Key(f"k{number % 7}", b""), 1, number * 0.1)
    assert len(limiter.requests) == len(limiter.tokens) == 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0121, "13ms"), (1.5, "1.5s"), (59.99, "1m0s"), (360, "6m0s"), (61.05, "1m1s")],
)
def test_spans_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert span(seconds) == text


# ---- the queue


def test_keys_take_turns_and_within_a_key_the_first_is_first() -> None:
    async def run() -> list[str]:
        queue = Queue(1, 10)
        assert queue.enter("a") is None
        tickets = {f"a{n}": queue.enter("a") for n in range(4)}
        tickets |= {f"b{n}": queue.enter("b") for n in range(2)}
        tickets["c0"] = queue.enter("c")
        order: list[str] = []
        while queue.waiting:
            queue.leave()
            [name] = [n for n, ticket in tickets.items() if ticket.done() and n not in order]
            order.append(name)
        queue.leave()
        assert queue.inside == 0
        return order

    assert asyncio.run(run()) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["in", "out", "up"])), max_size=80),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_the_queue_keeps_count_whatever_happens(
    steps: list[tuple[str, str]], inside: int, waiting: int
) -> None:
    async def run() -> None:
        queue = Queue(inside, waiting)
        in_now, in_line = 0, []
        for name, step in steps:
            if step == "in":
                try:
                    ticket = queue.enter(name)
                except Full:
                    assert queue.inside == inside
                    assert queue.waiting == waiting
                    places = Counter(n for n, _ in in_line)
                    assert places[name] + 1 >= max(places.values(), default=0)
                    continue
                if ticket is None:
                    in_now += 1
                else:
                    in_line.append((name, ticket))
            elif step == "out" and in_now:
                queue.leave()
                in_now -= 1
            elif step == "up" and in_line:
                # one whose ticket came up meanwhile gives up its place inside
                queue.give_up(*in_line.pop(0))
            moved = [e for e in in_line if e[1].done() and not e[1].cancelled()]
            in_line = [e for e in in_line if not e[1].done()]
            in_now += len(moved)
            assert (queue.inside, queue.waiting) == (in_now, len(in_line))
            assert in_now == inside or not in_line, "a free place and somebody waiting"
        assert sum(map(len, queue._lines.values())) == len(in_line)
        assert all(queue._lines.values()), "an empty line stays in memory"

    asyncio.run(run())


def test_nobody_fills_the_queue_against_others() -> None:
    async def run() -> None:
        queue = Queue(1, 4)
        queue.enter("a")
        greedy = [queue.enter("a") for _ in range(4)]
        with pytest.raises(Full):
            queue.enter("a")
        other = [queue.enter("b") for _ in range(2)]
        assert [ticket.cancelled() for ticket in greedy] == [False, False, True, True]
        with pytest.raises(Full):  # two each is fair
            queue.enter("b")
        queue.give_up("a", greedy[3])  # out already
        assert (queue.inside, queue.waiting) == (1, 4)
        for _ in range(5):
            queue.leave()
        assert all(ticket.done() for ticket in other)
        assert (queue.inside, queue.waiting) == (0, 0)

    asyncio.run(run())


def test_giving_up_in_the_moment_the_door_opens_passes_the_place_on() -> None:
    async def run() -> None:
        queue = Queue(1, 5)
        queue.enter("a")
        first, second = queue.enter("a"), queue.enter("b")
        queue.leave()
        assert first.done()
        queue.give_up("a", first)
        assert second.done()
        queue.leave()
        assert queue.inside == 0

    asyncio.run(run())
