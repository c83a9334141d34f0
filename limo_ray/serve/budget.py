r"""Budget forcing (s1, arXiv 2501.19393): a least and a most thinking, and "Wait" at its end.

A completion is thinking, then answer. Thinking ends where the model writes the `end` mark
(`</think>`) or ends its turn. Then, while waits are left or too little was thought, the end is
taken back and "Wait" is inserted, and the model thinks on. Where thinking has used up its budget it
is closed: the `close` mark, if the model had opened its thinking, and "Final Answer:" are inserted,
and the answer has what is left of max_tokens. This covers models with tags and plain chains of
thought, which open nothing and whose thinking ends with the turn.

What counts:
- Every token, sampled or inserted, counts once: in the completion's tokens, in max_tokens, and, up
  to the end of thinking, in the thinking budget. An end taken back was sampled, so it counts,
  though the text does not show it.
- A "Wait" is inserted only where the model can think at least one more token after it.
- Thinking leaves room to close it and to answer within max_tokens, if there is any to leave.
- A budget that ends inside a character drops its bytes from what the model reads on.

vLLM's own `thinking_token_budget` cannot take the most: it counts only between two marks that are
set at the engine's start, so that plain chains of thought have no budget, and it leaves no room to
answer within max_tokens.

No engine here: `force` asks an async `generate` for one segment of tokens after another.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(kw_only=True, slots=True)
class Style:
    open: str = "<think>"
    """What opens thinking, in the prompt's last words or in the completion."""
    end: str = "</think>"
    """What ends it; empty where only the end of the turn does."""
    begin: str = ""
    """Inserted before the first token where the prompt does not open thinking, if not empty."""
    wait: str = "\n\nWait"
    """Inserted where thinking shall go on."""
    close: str = "\n</think>\n\n"
    """Inserted at the end of the budget, if thinking was opened."""
    final: str = "Final Answer:"
    """Inserted after it, whether thinking was opened or not."""
    answer_tokens: int = 64
    """Tokens that a budget near max_tokens leaves for the answer, or half of what there is."""

    def check(self) -> None:
        if not self.wait:
            raise ValueError("wait: must not be empty")
        if self.answer_tokens < 1:
            raise ValueError(f"answer_tokens: {self.answer_tokens} must be at least 1")


@dataclass(frozen=True, slots=True)
class Budget:
    """What a request asks for: tokens at least and at most (None for no limit), and waits."""

    least: int = 0
    most: int | None = None
    waits: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The request's own limits, for thinking and answer together."""

    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    include_stop: bool = False


@dataclass(slots=True)
class GenerationSegment:
    """One request to the engine. `number` counts those of a completion from 0."""

    number: int
    prompt: list[int]
    max_tokens: int
    min_tokens: int
    stop: list[str]
    stop_ids: list[int]


@dataclass(slots=True)
class CompletionChunk:
    """Some tokens of a completion; `finish` (stop, length, ...) is on the last one only.

    `text` is what of them can be shown: less than `ids` say where a stop string may be under way, a
    character is not complete, or an end was taken back. `stop` is the string or id that stopped.
    """

    text: str
    ids: list[int]
    finish: str | None = None
    stop: int | str | None = None
    inserted: bool = False  # not sampled
    extra: Any = None  # whatever the engine adds to these ids: log probabilities


Chunks = AsyncGenerator[CompletionChunk, None]
Generate = Callable[[GenerationSegment], Chunks]
Phase = Callable[[], Chunks]


class Codec(Protocol):
    """The tokenizer. `ends`: the ids that end a turn; `special`: those that are no text."""

    ends: frozenset[int]
    special: frozenset[int]

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: list[int]) -> str:
        """With special tokens; an incomplete character is U+FFFD."""
        ...

    def shown(self, ids: list[int]) -> str:
        """As the request wants to see them."""
        ...


async def force(
    budget: Budget, style: Style, limits: Limits, prompt: list[int], codec: Codec,
    generate: Generate,
) -> Chunks:  # fmt: skip
    """One completion, forced.

    Args:
        budget: of thinking.
        style: the model's marks.
        limits: of the whole completion; max_tokens is at least 1 and fits the context.
        prompt: token ids.
        codec: the tokenizer.
        generate: samples one segment; closing its iterator aborts it.

    Yields:
        Chunks, of which the last has `finish`.
    """
    completion = _ForcedCompletion(budget, style, limits, prompt, codec, generate)
    phase: Phase | None = completion.begin
    while phase is not None:
        async with aclosing(phase()) as chunks:
            async for chunk in chunks:
                yield chunk
        phase = completion.next_phase


class _ForcedCompletion:
    """A completion under way. Each phase yields its chunks and sets the phase after it."""

    def __init__(
        self, budget: Budget, style: Style, limits: Limits, prompt: list[int], codec: Codec,
        generate: Generate,
    ) -> None:  # fmt: skip
        self.style = style
        self.limits = limits
        self.codec = codec
        self.generate = generate
        self.next_phase: Phase | None = None
        self.least = budget.least
        self.waits = budget.waits
        self.total = limits.max_tokens
        closing = len(codec.encode(style.close + style.final))
        self.most = _clipped(budget.most, self.total, closing, style.answer_tokens)
        mark = codec.encode(style.end) if style.end else []
        # A mark of special tokens is in no text: its first token is what stops, as in s1's code.
        single = len(mark) == 1 or (bool(mark) and mark[0] in codec.special)
        self.end_ids = mark[:1] if single else []
        self.end_texts = [style.end] if mark and not single else []

        self.context = list(
            prompt
        )  # what the model reads: prompt and what stands of the completion
        self.start = len(prompt)  # of the completion in it
        self.used = 0  # tokens of the completion, sampled or inserted
        self.segments = 0
        self.tail = ""  # the last characters shown
        self.last: list[int] = []  # ids of the segment that just ended
        self.finish = ""  # how the last segment or insertion ended, and what stopped it
        self.stop: int | str | None = None

    # ---- phases

    async def begin(self) -> Chunks:
        """Opens thinking where the prompt does not."""
        if self.style.begin and not self._is_open():
            yield self._insert(self.style.begin)
        self.next_phase = None if self.finish else self.think

    async def think(self) -> Chunks:
        """One segment of thinking."""
        room = self._thinking_room()
        if room > 0:
            async with aclosing(self._sample(room, thinking=True)) as chunks:
                async for chunk in chunks:
                    yield chunk
        else:
            self.finish = "length"
        self.next_phase = self._after_thinking()

    async def wait(self) -> Chunks:
        """Takes back the end of thinking; the model thinks on after a "Wait"."""
        self.waits = max(0, self.waits - 1)
        if self.stop in self.end_texts:
            keep, rest, _ = _split(self.last, self.style.end, self.codec)
            self.context[len(self.context) - len(self.last) :] = [*self.last[:keep], *rest]
        elif self.last and (self.last[-1] in self.codec.ends or self.last[-1] == self.stop):
            self.context.pop()
        self._drop_incomplete()
        yield self._insert(self.style.wait)
        self.next_phase = None if self.finish else self.think

    async def accept_end(self) -> Chunks:
        """The model's own end of thinking stands: its text was held back until now."""
        if self.end_ids:
            text = self.codec.shown(self.last[-1:])
        else:
            text = _split(self.last, self.style.end, self.codec)[2]
        self.tail += text
        yield CompletionChunk(text, [])
        self.next_phase = self.answer

    async def close(self) -> Chunks:
        """The budget is used up: ends thinking, if there is room for that."""
        self._drop_incomplete()
        opening = self.style.close if self._is_open() else "\n\n" if self.used else ""
        text = opening + self.style.final
        if self.used + len(self.codec.encode(text)) >= self.total:
            yield CompletionChunk("", [], "length")
            self.next_phase = None
        else:
            yield self._insert(text)
            self.next_phase = None if self.finish else self.answer

    async def answer(self) -> Chunks:
        """All that is left of max_tokens."""
        self.finish, self.stop = "length", None
        if self.used < self.total:
            async with aclosing(self._sample(self.total - self.used, thinking=False)) as chunks:
                async for chunk in chunks:
                    yield chunk
        self.next_phase = self.end

    async def end(self) -> Chunks:
        yield CompletionChunk("", [], self.finish, self.stop)
        self.next_phase = None

    # ---- what the phases share

    def _after_thinking(self) -> Phase:
        stopped = self.finish == "stop"
        by_turn = stopped and (self.stop is None or self.stop in self.codec.ends)
        if by_turn or (stopped and self.stop in (*self.end_texts, *self.end_ids)):
            room = self._thinking_room() - len(self.codec.encode(self.style.wait))
            if (self.waits > 0 or self.used < self.least) and room > 0:
                return self.wait
            if by_turn or self.stop in (*self.limits.stop, *self.limits.stop_ids):
                return self.end
            return self.accept_end
        if self.finish != "length" or self.used >= self.total or self.most is None:
            return self.end
        return self.close

    def _thinking_room(self) -> int:
        """Tokens that thinking may still use."""
        return (self.total if self.most is None else min(self.total, self.most)) - self.used

    async def _sample(self, room: int, *, thinking: bool) -> Chunks:
        """One segment; leaves in `finish`, `stop` and `last` how it ended."""
        limits = self.limits
        before, text = self.tail, ""
        self.last = []
        self.finish, self.stop = "", None
        # after a "Wait" the model thinks at least one token: every wait gets nearer to the end
        least = int(thinking and self.segments > 0)
        segment = GenerationSegment(
            number=self.segments,
            prompt=list(self.context),
            max_tokens=room,
            min_tokens=min(room, max(least, limits.min_tokens - self.used)),
            stop=[*limits.stop, *(self.end_texts if thinking else [])],
            stop_ids=[*limits.stop_ids, *(self.end_ids if thinking else [])],
        )
        self.segments += 1
        async with aclosing(self.generate(segment)) as chunks:
            async for chunk in chunks:
                self.used += len(chunk.ids)
                self.last += chunk.ids
                self.context += chunk.ids
                if self.used > limits.min_tokens:
                    found, keep = _missed_stop(before, text, chunk.text, limits)
                    if found:
                        self.finish, self.stop = "stop", found
                        yield CompletionChunk(chunk.text[:keep], chunk.ids, extra=chunk.extra)
                        return
                text += chunk.text
                shown = chunk.text
                if chunk.finish:
                    self.finish, self.stop = chunk.finish, chunk.stop
                    if limits.include_stop and chunk.stop in limits.stop:
                        shown += str(chunk.stop)
                self.tail = (self.tail + shown)[-256:]
                yield CompletionChunk(shown, chunk.ids, extra=chunk.extra)
        assert self.finish, "a segment must end with a reason"

    def _insert(self, text: str) -> CompletionChunk:
        """Inserts text, up to the request's own stop string if it makes one."""
        self.finish, self.stop = "", None
        whole = self.tail + text
        for stop in self.limits.stop:
            at = whole.find(stop, max(0, len(self.tail) - len(stop) + 1))
            if at >= 0:
                text = whole[len(self.tail) : at] + (stop if self.limits.include_stop else "")
                self.finish, self.stop = "stop", stop
                break
        ids = self.codec.encode(text) if text else []
        self.used += len(ids)
        self.context += ids
        shown = self.codec.shown(ids)
        self.tail = (self.tail + shown)[-256:]
        return CompletionChunk(shown, ids, self.finish or None, self.stop, inserted=True)

    def _drop_incomplete(self) -> None:
        """Drops the bytes of a character that was cut, at most three."""
        for _ in range(3):
            tail = self.context[self.start :][-4:]
            if not tail or not self.codec.decode(tail).endswith("\ufffd"):
                return
            self.context.pop()

    def _is_open(self) -> bool:
        """Whether thinking is open: the opening mark was last seen after the last end mark."""
        style = self.style
        if not style.open:
            return False
        text = self.codec.decode(self.context[max(0, self.start - 32) :])
        return text.rfind(style.open) > (text.rfind(style.end) if style.end else -1)


def _clipped(most: int | None, total: int, closing: int, answer: int) -> int | None:
    """The most thinking that leaves room to close it and to answer."""
    if most is None or most + closing < total or closing >= total:
        return most
    return min(most, max(total - closing - answer, (total - closing) // 2))


def _missed_stop(before: str, text: str, new: str, limits: Limits) -> tuple[str, int]:
    """A stop string that the engine did not see at a segment's start; how much of `new` to show.

    It sees none that begins in what was shown before the segment, nor any in the tokens that it may
    not stop at.
    """
    for stop in limits.stop:
        if len(text) >= 2 * len(stop):
            continue
        edge = before[-(len(stop) - 1) :] if len(stop) > 1 else ""
        at = (edge + text + new).find(stop)
        if at >= 0:
            until = at + (len(stop) if limits.include_stop else 0)
            return stop, max(0, until - len(edge) - len(text))
    return "", 0


def _split(ids: list[int], mark: str, codec: Codec) -> tuple[int, list[int], str]:
    """Tokens before a mark: how many whole ones, ids of the rest; and the text from the mark on."""
    whole = codec.decode(ids)
    at = whole.rfind(mark)
    if at < 0:  # decoded otherwise than it was streamed: nothing is taken back
        return len(ids), [], ""
    keep = len(ids)
    while keep and not (len(head := codec.decode(ids[:keep])) <= at and whole.startswith(head)):
        keep -= 1
    rest = whole[len(codec.decode(ids[:keep])) : at]
    return keep, codec.encode(rest) if rest else [], whole[at:]
