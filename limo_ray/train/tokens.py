"""Chats become tokens, with a mark on those that are learned: what the assistant says.

The model's own chat template writes the whole chat once; where each answer begins and ends in it is
found by comparing with what the template writes without the answer. So no template needs to be
known, and the ids are those that `apply_chat_template` gives. Learned are the answer and the
end-of-turn token after it, which the model must produce to stop; nothing of the prompt.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import TemplateError

from limo_ray.problems.chats import Messages
from limo_ray.problems.columns import InvalidRow

STAND_IN = "\u2042stand\u2042in\u2042"  # in no real text; stands for an answer


@dataclass(kw_only=True, slots=True)
class Tokens:
    """One example: token ids and whether each is learned, both of shape (length,)."""

    ids: np.ndarray
    learn: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """Learned tokens: the first token of a row is predicted from nothing, so it never is."""
        return int(self.learn[1:].sum())


class Encoder:
    """Encodes chats with one tokenizer and one chat template."""

    def __init__(self, tokenizer: Any, template: str = "", turns: str = "all") -> None:
        """`template` goes before the tokenizer's own; `turns` (all, last) says which are learned.

        Raises ValueError for a tokenizer that has no template or cannot give token offsets.
        """
        if not template and not tokenizer.chat_template:
            raise ValueError("model: has no chat template: give one with rows.template")
        if not tokenizer.is_fast:
            raise ValueError("model: its tokenizer cannot tell where its tokens are (not fast)")
        self.tokenizer = tokenizer
        self.template = template or None
        self.turns = turns
        self.special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)

    def encode(self, messages: Messages) -> Tokens:
        """InvalidRow when the template refuses the chat or leaves out a part of an answer."""
        text = self._render(messages)
        learned = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
        spans = [
            self._span(text, messages, p) for p in learned[-1 if self.turns == "last" else 0 :]
        ]
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.array(found["input_ids"], np.int32)
        starts, ends = np.array(found["offset_mapping"], np.int64).reshape(-1, 2).T
        learn = np.zeros(len(ids), bool)
        for start, end in spans:
            inside = (starts >= start) & (starts < end) & (ends > start)
            learn |= inside
            after = int(np.searchsorted(starts, end))
            while after < len(ids) and not (closing := int(ids[after]) in self.special):
                if text[end : ends[after]].strip():
                    break
                after += 1  # a blank before the end-of-turn token has to be produced too
            if after < len(ids) and closing and not text[end : starts[after]].strip():
                learn[np.searchsorted(starts, end) : after + 1] = True
            elif after == len(ids) and not self._ends(ids, learn):
                ids = np.append(ids, np.int32(self.tokenizer.eos_token_id))
                learn = np.append(learn, True)
        return Tokens(ids=ids, learn=learn)

    def _ends(self, ids: np.ndarray, learn: np.ndarray) -> bool:
        """Whether the last learned token already is one that ends a turn."""
        return bool(learn.any()) and int(ids[np.flatnonzero(learn)[-1]]) in self.special

    def _render(self, messages: Messages, prompt: bool = False) -> str:
        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        except TemplateError as error:
            raise InvalidRow("messages", f"the chat template refuses them: {error}") from None

    def _span(self, text: str, messages: Messages, place: int) -> tuple[int, int]:
        """Where in the whole text an answer begins and ends, without its end-of-turn token."""
        before = self._render(messages[:place])
        asked = self._render(messages[:place], prompt=True)
        start = _common(text, asked)
        answer = messages[place]["content"]
        # a template that opens <think> in the prompt, or drops it from answers, leaves the prompt
        # early: never before the end of the turn that asks
        stable = _common(before, asked)
        changed = [*messages]
        changed[place] = {"role": "assistant", "content": STAND_IN}
        _, met, after = self._render(changed).rpartition(STAND_IN)
        end = len(text) - len(after)
        if start < stable or not met or not text.endswith(after) or end < start:
            name = f"messages[{place}]"
            raise InvalidRow(name, "the chat template writes it differently as the chat goes on")
        if _plain(answer) not in _plain(text[start:end]):
            raise InvalidRow(
                f"messages[{place}].content",
                "the chat template leaves out a part of it (its <think> part?): name another "
                "template with rows.template",
            )
        return start, end


def _plain(text: str) -> str:
    """Without white space: templates trim it."""
    return re.sub(r"\s+", "", text)


def _common(a: str, b: str) -> int:
    """Length of the text that both begin with."""
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
