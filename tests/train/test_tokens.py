"""Ids are those of apply_chat_template; learned is what the assistant says, and its end."""

from typing import Any

import pytest

from limo_ray.problems.columns import InvalidRow
from limo_ray.train.tokens import Encoder
from tests.train import tiny

QWEN25 = (  # a default system turn
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}" + tiny.CHATML
)
LLAMA3 = (  # trims, begins with a special token
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
LLAMA2 = (  # the system turn inside the first user's, blanks before the end
    "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set s = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m['role'] == 'user' %}{{ '<s>[INST] ' + (s + '\n\n' if loop.first "
    "and s else '') + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + ' </s>' }}"
    "{% endif %}{% endfor %}"
)
GEMMA = (  # no system turn, another name for the assistant
    "{{ '<bos>' }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' "
    "+ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN3 = (  # takes the thinking out of all answers but the last
    "{% for m in messages %}{% set c = m['content'] %}"
    "{% if m['role'] == 'assistant' and not loop.last and '</think>' in c %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + c + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
R1 = (  # opens the thinking in the prompt, and takes it out of every answer
    "{{ '<bos>' }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{% set c = m['content'] %}{% if '</think>' in c %}"
    "{% set c = c.split('</think>')[-1] %}{% endif %}{{ '<|Assistant|>' + c + '<|end|>' }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
ALPACA = (  # nothing ends an answer
    "{% for m in messages %}{{ '### ' + m['role'] + ':\n' + m['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
HEADERS = ["<|start_header_id|>", "<|eot_id|>", "<|end_header_id|>", "<|begin_of_text|>"]
TEMPLATES = {
    "chatml": (tiny.CHATML, tiny.SPECIAL, "<|im_end|>"),
    "qwen2.5": (QWEN25, tiny.SPECIAL, "<|im_end|>"),
    "qwen3": (QWEN3, tiny.SPECIAL, "<|im_end|>"),
    "llama3": (LLAMA3, HEADERS, "<|eot_id|>"),
    "llama2": (LLAMA2, ["<s>", "</s>"], " </s>"),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>", "<bos>"], "<end_of_turn>"),
    "r1": (R1, ["<|User|>", "<|end|>", "<|Assistant|>", "<bos>"], "<|end|>"),
}

ASK = {"role": "user", "content": "What is 7 plus 8?"}
ANSWER = {"role": "assistant", "content": "Let us check: 7 plus 8 is \\boxed{15}. \u221a naïve"}
AGAIN = {"role": "user", "content": "And 1 plus 1?"}
LAST = {"role": "assistant", "content": "It is\n\n\\boxed{2}."}


def encoder(name: str, turns: str = "all") -> tuple[Encoder, Any]:
    template, special, _ = TEMPLATES[name]
    fast = tiny.tokenizer(template, special)
    return Encoder(fast, turns=turns), fast


def learned(found: Any, fast: Any) -> str:
    return fast.decode(found.ids[found.learn], skip_special_tokens=False)


@pytest.mark.parametrize("name", TEMPLATES)
def test_one_turn(name: str) -> None:
    code, fast = encoder(name)
    found = code.encode([ASK, ANSWER])
    whole = fast.apply_chat_template([ASK, ANSWER], tokenize=True, return_dict=False)
    assert found.ids.tolist() == whole
    assert learned(found, fast).lstrip(" ") == ANSWER["content"] + TEMPLATES[name][2]


@pytest.mark.parametrize("name", TEMPLATES)
def test_several_turns(name: str) -> None:
    code, fast = encoder(name)
    chat = [ASK, ANSWER, AGAIN, LAST]
    found = code.encode(chat)
    assert found.ids.tolist() == fast.apply_chat_template(chat, tokenize=True, return_dict=False)
    end = TEMPLATES[name][2]
    parts = [part.lstrip(" ") for part in learned(found, fast).split(end) if part]
    assert parts == [ANSWER["content"], LAST["content"]]
    only = encoder(name, turns="last")[0].encode(chat)
    assert learned(only, fast).lstrip(" ") == LAST["content"] + end


def test_a_system_turn_is_not_learned() -> None:
    code, fast = encoder("chatml")
    found = code.encode([{"role": "system", "content": "Be brief."}, ASK, LAST])
    assert learned(found, fast) == LAST["content"] + "<|im_end|>"


def test_thinking_of_the_last_answer_is_learned_and_a_loss_of_it_told() -> None:
    thought = {"role": "assistant", "content": "<think>\nseven, eight\n</think>\n\n15"}
    code, fast = encoder("qwen3")
    assert learned(code.encode([ASK, thought]), fast) == thought["content"] + "<|im_end|>"
    with pytest.raises(InvalidRow, match=r"messages\[1\].content: .*leaves out.*rows.template"):
        encoder("r1")[0].encode([ASK, thought])
    with pytest.raises(InvalidRow, match=r"messages\[1\].content: .*leaves out"):
        code.encode([ASK, thought, AGAIN, LAST])


def test_an_answer_that_looks_like_the_template() -> None:
    code, fast = encoder("chatml")
    tricky = {"role": "assistant", "content": "<|im_start|>user\nWhat is 7 plus 8?<|im_end|> no"}
    found = code.encode([ASK, tricky])
    assert learned(found, fast) == tricky["content"] + "<|im_end|>"


def test_a_template_without_an_end_gets_one() -> None:
    fast = tiny.tokenizer(ALPACA)
    found = Encoder(fast).encode([ASK, LAST])
    assert int(found.ids[-1]) == fast.eos_token_id and found.learn[-1]
    assert learned(found, fast).rstrip("\n").startswith(LAST["content"])


def test_a_template_that_refuses_is_told() -> None:
    with pytest.raises(InvalidRow, match="System role not supported"):
        encoder("gemma")[0].encode([{"role": "system", "content": "x"}, ASK, LAST])


def test_a_tokenizer_without_template() -> None:
    with pytest.raises(ValueError, match=r"rows\.template"):
        Encoder(tiny.tokenizer(""))
