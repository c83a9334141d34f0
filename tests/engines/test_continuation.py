"""Joining a cut completion and its rest, with letters for tokens."""

from dataclasses import replace

from limo_ray.core.records import Problem
from limo_ray.engines.base import Request, SamplingConfig
from limo_ray.engines.continuation import join, request_seed

PROBLEM = Problem(id="0" * 32, question="What is 3 + 4?", answer="7", source="test")


def joined(
    prefix: str, rest: str, finish_reason: str = "length", *, asked: list[str] | None = None,
    **sampling: object,
) -> tuple[str, str, str]:  # fmt: skip
    request = Request(
        problem=PROBLEM, index=0, prompt=[1], sampling=SamplingConfig(**sampling),
        prefix=list(map(ord, prefix)),
    )  # fmt: skip

    def decode(tokens: list[int]) -> str:
        return "".join(map(chr, tokens))

    def ends_in_loop(tokens: list[int]) -> bool:
        if asked is not None:
            asked.append(decode(tokens))
        return decode(tokens).endswith("xyxyxy")

    text, reason, tokens = join(
        request, list(map(ord, prefix + rest)), finish_reason, decode, ends_in_loop
    )
    return text, reason, decode(tokens)


def test_without_stop_strings_and_loops_the_whole_comes_back() -> None:
    assert joined("one two ", "three", "stop") == ("one two three", "stop", "one two three")


def test_a_stop_string_across_the_seam_ends_the_text() -> None:
    text, reason, tokens = joined("one two thr", "ee four five", stop=["five", "three four"])
    assert (text, reason) == ("one two ", "stop")
    assert tokens == "one two three four five"  # they were sampled, and count


def test_a_loop_across_the_seam_takes_off_what_came_after_it() -> None:
    assert joined("axyxy", "xyz", "stop", loop_count=3) == ("axyxyxy", "loop", "axyxyxy")


def test_loops_are_looked_for_only_where_the_engine_could_not_see_them() -> None:
    asked: list[str] = []
    joined("axy", "b" * 20, loop_count=3, loop_pattern=2, asked=asked)
    assert asked == ["axy" + "b" * count for count in range(1, 7)]
    asked.clear()
    assert joined("axyxy", "xy", asked=asked)[1] == "length"  # loops may go on
    assert asked == []


def test_a_continued_request_has_random_numbers_of_its_own() -> None:
    request = Request(problem=PROBLEM, index=0, prompt=[1], sampling=SamplingConfig())
    assert request_seed(0, request) == request_seed(0, replace(request))
    seeds = {request_seed(0, replace(request, prefix=[1] * length)) for length in range(4)}
    assert len(seeds) == 4
