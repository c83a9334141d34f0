r"""Budget forcing (s1, arXiv 2501.19393): a least and a most thinking, and "Wait" at its end.

A completion is thinking, then answer. Thinking ends where the model writes the `end` mark
(`</think>`) or ends its turn. Then, while waits are left or too little was thought, the end is
taken back and "Wait" is put in, and the model thinks on. Where thinking has used up its budget it
is closed: the `close` mark, if the model had opened its thinking, and "Final Answer:" are put in,
and the answer has what is left of max_tokens. This covers models with tags and plain chains of
thought, which open nothing and whose thinking ends with the turn.

What counts:
- Every token that the model sampled or that was put in counts once: in the completion's tokens, in
  max_tokens, and, up to the end of thinking, in the thinking budget. An end taken back was
  sampled, so it counts, though the text does not show it.
- A "Wait" is put in only where the model can think at least one more token after it.
- Thinking leaves room to close it and to answer within max_tokens, if there is any to leave.
- A budget that ends inside a character drops its bytes from what the model reads on.

No engine here: `force` asks an async `generate` for one stretch of tokens after another.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(kw_only=True, slots=True)
class Style:
    open: str = "<think>"
    """What opens thinking, in the prompt's last words or in the completion."""
    end: str = "</think>"
    """What ends it; empty where only the end of the turn does."""
    begin: str = ""
    """Put in before the first token where the prompt does not open thinking; empty for nothing."""
    wait: str = "\n\nWait"
    """Put in where thinking shall go on."""
    close: str = "\n</think>\n\n"
    """Put in at the end of the budget, if thinking was opened."""
    final: str = "Final Answer:"
    """Put in after it, whether thinking was opened or not."""
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

    @property
    def idle(self) -> bool:
        """Whether it changes nothing."""
        return self.least == 0 and self.most is None and self.waits == 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The request's own limits, for thinking and answer together."""

    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    include_stop: bool = False


@dataclass(slots=True)
class Stretch:
    """One uninterrupted piece of work for the engine. `number` counts them from 0."""

    number: int
    prompt: list[int]
    max_tokens: int
    min_tokens: int
    stop: list[str]
    stop_ids: list[int]


@dataclass(slots=True)
class Piece:
    """Some tokens of a completion; `finish` (stop, length, ...) is on the last one only.

    `text` is what of them can be shown: less than `ids` say where a stop string may be under way, a
    character is not complete, or an end was taken back. `stop` is the string or id that stopped.
    """

    text: str
    ids: list[int]
    finish: str | None = None
    stop: int | str | None = None
    put_in: bool = False
    extra: Any = None  # whatever the engine adds to these ids: log probabilities


Generate = Callable[[Stretch], AsyncGenerator[Piece, None]]


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


@dataclass(slots=True)
class _State:
    context: list[int]  # what the model reads: the prompt and what stands of the completion
    start: int  # of the completion in it
    used: int = 0  # tokens of the completion, sampled or put in
    stretches: int = 0
    tail: str = ""  # the last characters shown
    last: list[int] = field(default_factory=list)  # ids of the stretch that just ended
    finish: str = ""
    stop: int | str | None = None


async def force(
    budget: Budget, style: Style, limits: Limits, prompt: list[int], codec: Codec,
    generate: Generate,
) -> AsyncGenerator[Piece, None]:  # fmt: skip
    """One completion, forced.

    Args:
        budget: of thinking.
        style: the model's marks.
        limits: of the whole completion; max_tokens is at least 1 and fits the context.
        prompt: token ids.
        codec: the tokenizer.
        generate: draws one stretch; closing its iterator aborts it.

    Yields:
        Pieces, of which the last has `finish`.
    """
    state = _State(context=list(prompt), start=len(prompt))
    total = limits.max_tokens
    mark = codec.encode(style.end) if style.end else []
    # A mark of special tokens is in no text: its first token is what stops, as in s1's own code.
    by_id = mark[:1] if len(mark) == 1 or (mark and mark[0] in codec.special) else []
    by_text = [style.end] if mark and not by_id else []
    closing = codec.encode(style.close + style.final)
    most = _clipped(budget.most, total, len(closing), style.answer_tokens)
    waits = budget.waits

    if style.begin and not _opened(state, style, codec):
        async for piece in _put(state, style.begin, limits, codec):
            yield piece
        if state.finish:
            return
    while True:
        room = total - state.used if most is None else min(total, most) - state.used
        if room > 0:
            forced = state.stretches > 0
            async with aclosing(
                _draw(state, room, forced, limits, by_text, by_id, generate)
            ) as pieces:
                async for piece in pieces:
                    yield piece
            by_mark = state.finish == "stop" and state.stop in (*by_text, *by_id)
            by_turn = state.finish == "stop" and (state.stop is None or state.stop in codec.ends)
        else:
            state.finish, by_mark, by_turn = "length", False, False
        if by_mark or by_turn:
            wait = codec.encode(style.wait)
            left = (total if most is None else min(total, most)) - state.used
            if (waits > 0 or state.used < budget.least) and len(wait) < left:
                waits = max(0, waits - 1)
                _take_back(state, style, codec, by_text=state.stop in by_text)
                async for piece in _put(state, style.wait, limits, codec):
                    yield piece
                if state.finish:
                    return
                continue
            if by_turn:
                yield Piece("", [], "stop", state.stop if isinstance(state.stop, int) else None)
                return
            if state.stop in (*limits.stop, *limits.stop_ids):
                yield Piece("", [], "stop", state.stop)
                return
            # the model's own end stands: its text was held back until now
            text = codec.shown(state.last[-1:]) if by_id else _after(state, style, codec)
            state.tail += text
            yield Piece(text, [])
            break
        if state.finish != "length" or state.used >= total or most is None:
            yield Piece("", [], state.finish, state.stop)
            return
        _drop_incomplete(state, codec)
        opened = _opened(state, style, codec)
        text = (style.close if opened else "\n\n" if state.used else "") + style.final
        if state.used + len(codec.encode(text)) >= total:
            yield Piece("", [], "length")
            return
        async for piece in _put(state, text, limits, codec):
            yield piece
        if state.finish:
            return
        break
    if state.used >= total:
        yield Piece("", [], "length")
        return
    async with aclosing(_draw(state, total - state.used, False, limits, [], [], generate)) as rest:
        async for piece in rest:
            yield piece
    yield Piece("", [], state.finish, state.stop)


def _clipped(most: int | None, total: int, closing: int, answer: int) -> int | None:
    """The most thinking that leaves room to close it and to answer."""
    if most is None or most + closing < total or closing >= total:
        return most
    return min(most, max(total - closing - answer, (total - closing) // 2))


async def _draw(
    state: _State, room: int, forced: bool, limits: Limits, by_text: list[str], by_id: list[int],
    generate: Generate,
) -> AsyncGenerator[Piece, None]:  # fmt: skip
    """One stretch; leaves in the state how it ended."""
    before = state.tail
    text = ""
    state.last = []
    state.finish, state.stop = "", None
    stretch = Stretch(
        number=state.stretches, prompt=list(state.context), max_tokens=room,
        # after a "Wait" the model thinks at least one token: every wait gets nearer to the end
        min_tokens=min(room, max(int(forced), limits.min_tokens - state.used)),
        stop=[*limits.stop, *by_text], stop_ids=[*limits.stop_ids, *by_id],
    )  # fmt: skip
    state.stretches += 1
    async with aclosing(generate(stretch)) as pieces:
        async for piece in pieces:
            state.used += len(piece.ids)
            state.last += piece.ids
            state.context += piece.ids
            if state.used > limits.min_tokens:
                found, keep = _missed(before, text, piece.text, limits.stop, limits.include_stop)
                if found:
                    state.finish, state.stop = "stop", found
                    yield Piece(piece.text[:keep], piece.ids, extra=piece.extra)
                    return
            text += piece.text
            shown = piece.text
            if piece.finish:
                state.finish, state.stop = piece.finish, piece.stop
                if limits.include_stop and piece.stop in limits.stop:
                    shown += str(piece.stop)
            state.tail = (state.tail + shown)[-256:]
            yield Piece(shown, piece.ids, extra=piece.extra)
    assert state.finish, "a stretch must end with a reason"


def _missed(
    before: str, text: str, new: str, stop: tuple[str, ...], include: bool
) -> tuple[str, int]:
    """A stop string that the engine did not see at a stretch's begin, and what of `new` is shown.

    It sees none that begins in what was shown before the stretch, nor any in the tokens that it may
    not stop at.
    """
    for one in stop:
        if len(text) >= 2 * len(one):
            continue
        edge = before[-(len(one) - 1) :] if len(one) > 1 else ""
        at = (edge + text + new).find(one)
        if at >= 0:
            until = at + (len(one) if include else 0)
            return one, max(0, until - len(edge) - len(text))
    return "", 0


async def _put(
    state: _State, text: str, limits: Limits, codec: Codec
) -> AsyncGenerator[Piece, None]:
    """Puts text in, up to the request's own stop string if it makes one."""
    state.finish, state.stop = "", None
    whole = state.tail + text
    for one in limits.stop:
        at = whole.find(one, max(0, len(state.tail) - len(one) + 1))
        if at >= 0:
            text = whole[len(state.tail) : at] + (one if limits.include_stop else "")
            state.finish, state.stop = "stop", one
            break
    ids = codec.encode(text) if text else []
    state.used += len(ids)
    state.context += ids
    shown = codec.shown(ids)
    state.tail = (state.tail + shown)[-256:]
    yield Piece(shown, ids, state.finish or None, state.stop, put_in=True)


def _take_back(state: _State, style: Style, codec: Codec, *, by_text: bool) -> None:
    """Takes the end of thinking out of what the model reads."""
    if by_text:
        keep, rest, _ = _split(state.last, style.end, codec)
        state.context[len(state.context) - len(state.last) :] = [*state.last[:keep], *rest]
    elif state.last and (state.last[-1] in codec.ends or state.last[-1] == state.stop):
        state.context.pop()
    _drop_incomplete(state, codec)


def _after(state: _State, style: Style, codec: Codec) -> str:
    """The end mark and what its last token brought with it, as text."""
    return _split(state.last, style.end, codec)[2]


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


def _drop_incomplete(state: _State, codec: Codec) -> None:
    """Drops the bytes of a character that was cut, at most three."""
    for _ in range(3):
        tail = state.context[state.start :][-4:]
        if not tail or not codec.decode(tail).endswith("\ufffd"):
            return
        state.context.pop()


def _opened(state: _State, style: Style, codec: Codec) -> bool:
    """Whether thinking is open: the opening mark was last seen after the last end mark."""
    if not style.open:
        return False
    text = codec.decode(state.context[max(0, state.start - 32) :])
    return text.rfind(style.open) > (text.rfind(style.end) if style.end else -1)
