"""Budget forcing with a scripted engine whose tokens are bytes, tags and a few longer tokens."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.serve.budget import Budget, CompletionChunk, GenerationSegment, Limits, Style, force

END, OPEN, CLOSE = 256, 257, 258  # of a turn; <think>; </think>
LONG = {300: b"k>\n\n", 301: b"Wait, ", 302: b"42.", 303: b"x</thin"}
NAMES = {END: b"<|end|>", OPEN: b"<think>", CLOSE: b"</think>", **LONG}
PLAIN = Style(wait="|W|", close="]", final="FA:", end="")
TAGS = Style(wait="|W|", close="</think>", final="FA:")
WORDS = Style(open="<th", end="</think>", wait="|W|", close="</think>", final="FA:")


class Bytes:
    """A tokenizer; with `tags` the thinking tags are tokens of their own."""

    ends = frozenset({END})
    special = frozenset({END})

    def __init__(self, tags: bool = True) -> None:
        self.tags = tags

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        data = text.encode()
        while data:
            known = [(i, n) for i, n in ((OPEN, NAMES[OPEN]), (CLOSE, NAMES[CLOSE])) if self.tags]
            for token, name in known:
                if data.startswith(name):
                    ids.append(token)
                    data = data[len(name) :]
                    break
            else:
                ids.append(data[0])
                data = data[1:]
        return ids

    def decode(self, ids: list[int]) -> str:
        joined = b"".join(NAMES.get(token) or bytes([token]) for token in ids)
        return joined.decode("utf-8", "replace")

    def shown(self, ids: list[int]) -> str:
        return self.decode([token for token in ids if token not in self.special])


class Script:
    """An engine that generates its script, and obeys a segment's limits as vLLM does."""

    def __init__(self, tokens: list[int], codec: Bytes) -> None:
        self.tokens = list(tokens)
        self.codec = codec
        self.segments: list[GenerationSegment] = []
        self.sampled: list[int] = []
        self.closed_early = 0

    async def generate(self, segment: GenerationSegment) -> AsyncGenerator[CompletionChunk, None]:
        assert segment.max_tokens >= 1
        assert 0 <= segment.min_tokens <= segment.max_tokens
        self.segments.append(segment)
        ids: list[int] = []
        shown = ""
        hold = max((len(one) for one in segment.stop), default=1) - 1
        try:
            while True:
                token = self.tokens.pop(0) if self.tokens else END
                free = len(ids) < segment.min_tokens
                if free and (token in self.codec.ends or token in segment.stop_ids):
                    token = ord(".")
                ids.append(token)
                self.sampled.append(token)
                finish, stop = None, None
                text = self.codec.shown(ids).rstrip("\ufffd")
                if not free:
                    if token in self.codec.ends:
                        finish = "stop"
                    elif token in segment.stop_ids:
                        finish, stop = "stop", token
                        text = self.codec.shown(ids[:-1])
                    else:
                        for one in segment.stop:
                            at = text.find(one)
                            if at >= 0:
                                finish, stop, text = "stop", one, text[:at]
                                break
                if finish is None and len(ids) >= segment.max_tokens:
                    finish = "length"
                until = len(text) if finish else max(len(shown), len(text) - hold)
                new, shown = text[len(shown) : until], text[:until]
                yield CompletionChunk(new, [token], finish, stop)
                if finish:
                    return
        except GeneratorExit:
            self.closed_early += 1
            raise


def run(
    said: list[int] | str, budget: Budget, style: Style = PLAIN, prompt: str = "Q",
    tags: bool = True, **limits: object,
) -> tuple[str, str | None, int, Script, list[CompletionChunk]]:  # fmt: skip
    """Text, finish reason, tokens counted, the engine, all chunks."""
    codec = Bytes(tags)
    engine = Script(codec.encode(said) if isinstance(said, str) else said, codec)
    bounds = Limits(**({"max_tokens": 200} | limits))

    async def draw() -> list[CompletionChunk]:
        forced = force(budget, style, bounds, codec.encode(prompt), codec, engine.generate)
        return [chunk async for chunk in forced]

    chunks = asyncio.run(draw())
    assert [bool(chunk.finish) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    text = "".join(chunk.text for chunk in chunks)
    return text, chunks[-1].finish, sum(len(chunk.ids) for chunk in chunks), engine, chunks


def ids(*texts: str | int) -> list[int]:
    codec = Bytes()
    return [
        token
        for text in texts
        for token in ([text] if isinstance(text, int) else codec.encode(text))
    ]


def test_without_a_budget_the_completion_is_the_models_own() -> None:
    text, finish, used, engine, _ = run(ids("abc", END), Budget())
    assert (text, finish, used, len(engine.segments)) == ("abc", "stop", 4, 1)
    text, finish, used, _, _ = run(ids("a", CLOSE, "b", END), Budget(), TAGS)
    assert (text, finish, used) == ("a</think>b", "stop", 4)


def test_an_end_becomes_a_wait_as_often_as_asked() -> None:
    text, finish, used, engine, _ = run(ids("a", END, "b", END, "c", END), Budget(waits=2))
    assert (text, finish) == ("a|W|b|W|c", "stop")
    assert used == len(engine.sampled) + 2 * len("|W|")
    # the end that was taken back is counted, and not read by the model
    assert engine.segments[1].prompt == ids("Q", "a|W|")
    assert engine.segments[2].prompt == ids("Q", "a|W|b|W|")
    assert [segment.min_tokens for segment in engine.segments] == [0, 1, 1]


def test_a_tag_is_taken_back_and_the_last_one_stands() -> None:
    said = ids(OPEN, "a", CLOSE, "b", CLOSE, "ans", END)
    text, finish, used, engine, _ = run(said, Budget(waits=1), TAGS)
    assert (text, finish) == ("<think>a|W|b</think>ans", "stop")
    assert used == len(said) + 3
    assert engine.segments[1].prompt == ids("Q", OPEN, "a|W|")
    assert engine.segments[2].prompt == ids("Q", OPEN, "a|W|b", CLOSE)


def test_a_tag_of_several_tokens_that_ends_inside_one() -> None:
    said = ids("ab</thin", 300, "cd</thin", 300, "ans", END)  # token 300 is "k>\n\n"
    text, finish, used, engine, _ = run(said, Budget(waits=1), WORDS, "Q<th", tags=False)
    assert (text, finish, used) == ("ab|W|cd</think>\n\nans", "stop", len(said) + 3)
    assert engine.codec.decode(engine.segments[1].prompt) == "Q<thab|W|"
    assert engine.codec.decode(engine.segments[2].prompt) == "Q<thab|W|cd</think>\n\n"


def test_a_tag_that_begins_inside_a_token() -> None:
    said = ids("ab", 303, 300, "cd", 303, 300, "ans", END)  # "x</thin" and "k>\n\n"
    text, _, used, engine, _ = run(said, Budget(waits=1), WORDS, "Q<th", tags=False)
    assert (text, used) == ("abx|W|cdx</think>\n\nans", len(said) + 3)
    assert engine.codec.decode(engine.segments[1].prompt) == "Q<thabx|W|"


def test_an_end_of_thinking_that_the_request_stops_at() -> None:
    said = ids("a", CLOSE, "b", CLOSE, "c", END)
    text, finish, _, engine, _ = run(said, Budget(waits=1), TAGS, stop_ids=(CLOSE,))
    assert (text, finish, len(engine.segments)) == ("a|W|b", "stop", 2)


def test_a_second_end_of_turn_that_the_engine_names() -> None:
    async def named(segment: GenerationSegment) -> AsyncGenerator[CompletionChunk, None]:
        yield CompletionChunk("a", [97, END], "stop", END)

    async def draw() -> list[CompletionChunk]:
        forced = force(Budget(waits=1), PLAIN, Limits(50), [1], Bytes(), named)
        return [chunk async for chunk in forced]

    assert "".join(chunk.text for chunk in asyncio.run(draw())) == "a|W|a"


def test_the_least_thinking_is_reached_by_waits() -> None:
    said = ids("a", END, "b", END, "c", END, "d" * 20, END)
    text, finish, used, engine, _ = run(said, Budget(least=13))
    assert (text, finish) == ("a|W|b|W|c|W|" + "d" * 20, "stop")
    assert [len(s.prompt) for s in engine.segments] == [1, 5, 9, 13]
    assert used == len(said) + 9


def test_at_most_so_much_is_thought_then_comes_the_answer() -> None:
    text, finish, used, engine, _ = run(ids("x" * 50, END), Budget(most=10))
    assert text == "x" * 10 + "\n\nFA:" + "x" * 40
    assert (finish, used) == ("stop", 51 + 5)
    assert engine.segments[0].max_tokens == 10
    opened, _, _, _, _ = run(ids("x" * 50, END), Budget(most=10), TAGS, "Q<think>")
    assert opened == "x" * 10 + "</think>FA:" + "x" * 40
    itself, _, _, _, _ = run(ids(OPEN, "x" * 50, END), Budget(most=10), TAGS)
    assert itself == "<think>" + "x" * 9 + "</think>FA:" + "x" * 41


def test_no_thinking_at_all() -> None:
    text, finish, used, engine, _ = run(ids("7", END), Budget(most=0))
    assert (text, finish, used) == ("FA:7", "stop", 5)
    assert len(engine.segments) == 1
    text, _, _, _, _ = run(ids("7", END), Budget(most=0, waits=3), TAGS, "Q<think>")
    assert text == "</think>FA:7"


def test_waits_and_the_most_together() -> None:
    text, finish, _, _, _ = run(ids("a", END, "b" * 50, END), Budget(most=10, waits=5))
    # 1 + the end taken back + 3 for the wait leave 5
    assert text == "a|W|" + "b" * 5 + "\n\nFA:" + "b" * 45
    assert finish == "stop"
    # a wait after which nothing could be thought is not put in
    text, _, _, _, _ = run(ids("a" * 6, END, "b", END), Budget(most=10, waits=5))
    assert text == "a" * 6


def test_budgets_larger_than_the_context_leave_room_for_an_answer() -> None:
    style = Style(wait="|W|", close="]", final="FA:", end="", answer_tokens=10)
    text, finish, used, _, _ = run("x" * 500, Budget(most=10_000), style, max_tokens=100)
    thought = 100 - len("]FA:") - 10
    assert text == "x" * thought + "\n\nFA:" + "x" * (100 - thought - 5)
    assert (finish, used) == ("length", 100)
    text, finish, used, _, _ = run("x" * 500, Budget(least=10_000), style, max_tokens=100)
    assert (text, finish, used) == ("x" * 100, "length", 100)
    said = ids(*["x", END] * 100)
    text, finish, used, _, _ = run(said, Budget(least=10_000), style, max_tokens=100)
    assert (finish, used) == ("stop", 97)  # no room for another wait


@pytest.mark.parametrize("total", range(1, 12))
def test_hardly_any_room(total: int) -> None:
    for most in (None, 0, 1, 5, 100):
        for waits in (0, 3):
            said = ids("a", END, "bc", END, "d" * 9)
            _, finish, used, _, _ = run(said, Budget(0, most, waits), TAGS, max_tokens=total)
            assert used <= total
            assert finish in ("stop", "length")


def test_a_budget_that_ends_inside_a_character() -> None:
    for cut in range(1, 5):
        text, _, used, engine, _ = run("ab🧮cd", Budget(most=2 + cut))
        expected = "ab" if cut < 4 else "ab🧮"
        assert text.startswith(f"{expected}\n\nFA:"), text
        assert engine.codec.decode(engine.segments[1].prompt) == f"Q{expected}\n\nFA:"
        assert used == len(engine.sampled) + 5


def test_stop_strings_of_the_request() -> None:
    text, finish, _, engine, chunks = run("abcdef", Budget(waits=2), stop=("cd",))
    assert (text, finish, chunks[-1].stop, len(engine.segments)) == ("ab", "stop", "cd", 1)
    # in what is put in, and over its borders
    text, finish, _, _, chunks = run(ids("ab", END, "c"), Budget(waits=1), stop=("b|W",))
    assert (text, finish, chunks[-1].stop) == ("ab", "stop", "b|W")
    text, finish, _, engine, chunks = run(
        ids("ab", END, "cdefghijk"), Budget(waits=1), stop=("W|c",)
    )
    assert (text, finish, chunks[-1].stop) == ("ab|W|", "stop", "W|c")
    assert engine.closed_early == 1
    text, _, _, _, _ = run("abcdef", Budget(waits=2), stop=("cd",), include_stop=True)
    assert text == "abcd"
    # in the answer
    text, finish, _, _, _ = run("x" * 5 + "abc", Budget(most=5), stop=("b",))
    assert (text, finish) == ("xxxxx\n\nFA:a", "stop")


def test_a_begin_that_the_prompt_lacks() -> None:
    style = Style(begin="<think>", wait="|W|", close="</think>", final="FA:")
    text, _, used, engine, _ = run(ids("a", CLOSE, "b", END), Budget(most=50), style)
    assert (text, used) == ("<think>a</think>b", 5)
    assert engine.segments[0].prompt == ids("Q", OPEN)
    text, _, _, _, _ = run(ids("a", CLOSE, "b", END), Budget(most=50), style, "Q<think>")
    assert text == "a</think>b"


def test_what_the_engine_ends_otherwise_is_passed_on() -> None:
    async def broken(_: GenerationSegment) -> AsyncGenerator[CompletionChunk, None]:
        yield CompletionChunk("a", [97], "abort")

    async def draw() -> list[CompletionChunk]:
        forced = force(Budget(waits=3), PLAIN, Limits(10), [1], Bytes(), broken)
        return [chunk async for chunk in forced]

    assert asyncio.run(draw())[-1].finish == "abort"


def test_closing_the_completion_closes_the_engines_segment() -> None:
    codec = Bytes()
    engine = Script(ids("a" * 50), codec)

    async def leave() -> None:
        forced = force(Budget(waits=1), PLAIN, Limits(100), [1], codec, engine.generate)
        async with aclosing(forced):
            async for _ in forced:
                break

    asyncio.run(leave())
    assert engine.closed_early == 1


TOKENS = st.lists(
    st.one_of(
        st.sampled_from([END, OPEN, CLOSE, *LONG]),
        st.sampled_from(list(b"ab<|W") + list("é🧮".encode())),
        st.integers(0, 255),
    ),
    max_size=60,
)


@settings(max_examples=500, deadline=None)
@given(
    said=TOKENS,
    least=st.integers(0, 40),
    most=st.one_of(st.none(), st.integers(0, 60)),
    waits=st.integers(0, 6),
    total=st.integers(1, 80),
    min_tokens=st.integers(0, 10),
    stop=st.lists(st.sampled_from(["b", "|W|", "ab", "W|a", "</think>", "FA"]), max_size=2),
    style=st.sampled_from([PLAIN, TAGS, WORDS]),
    prompt=st.sampled_from(["Q", "Q<think>", "Q<think>a</think>b"]),
    tags=st.booleans(),
)
def test_it_holds_whatever_the_model_says(
    said: list[int], least: int, most: int | None, waits: int, total: int, min_tokens: int,
    stop: list[str], style: Style, prompt: str, tags: bool,
) -> None:  # fmt: skip
    if most is not None:
        least = min(least, most)
    text, finish, used, engine, chunks = run(
        said, Budget(least, most, waits), style, prompt, tags,
        max_tokens=total, min_tokens=min(min_tokens, total), stop=tuple(stop),
    )  # fmt: skip
    inserted = [chunk for chunk in chunks if chunk.inserted]
    own = [token for chunk in chunks if not chunk.inserted for token in chunk.ids]
    assert own == engine.sampled  # every sampled token once, in order
    assert used == len(own) + sum(len(chunk.ids) for chunk in inserted) <= total
    assert finish in ("stop", "length")
    # thinking is what comes before the close or the standing end
    closes = [i for i, chunk in enumerate(chunks) if chunk.inserted and style.final in chunk.text]
    assert len(closes) <= 1
    if most is not None and closes:
        thought = sum(len(chunk.ids) for chunk in chunks[: closes[0]])
        assert thought <= most
    forced = sum("|W|" in chunk.text for chunk in inserted)
    assert forced <= waits + least  # each wait of the least brings at least a token
    for one in stop:
        assert min_tokens or one not in text.replace("</think>", "\0"), text
    for segment in engine.segments[1:]:
        assert len(segment.prompt) >= 1
        assert END not in segment.prompt[1:]
