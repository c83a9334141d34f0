"""The one system prompt and the one place where chats are made, for sampling, training and serving.

A model that is trained on one prompt and asked with another loses points (recipe: the authors use
the same system prompt in training and inference), so nobody else in this package builds messages.
"""

import re

# arXiv 2502.03387, appendix: used in supervised fine-tuning and in evaluation alike.
SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."

THINK = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


def question_messages(question: str, system: str = SYSTEM) -> list[dict[str, str]]:
    """The chat that asks one question; an empty `system` leaves the system turn out."""
    turns = [{"role": "system", "content": system}] if system else []
    return [*turns, {"role": "user", "content": question}]


def example_messages(question: str, solution: str, system: str = SYSTEM) -> list[dict[str, str]]:
    """The chat of one training example: the question's chat and the solution as its answer."""
    return [*question_messages(question, system), {"role": "assistant", "content": solution}]


def strip_think(completion: str) -> str:
    """The completion without its `<think>` part.

    A template that opens the tag in the prompt leaves only `</think>` in the completion: what is
    before it is thinking too. A part that never closes is kept, since nothing tells where it ends.
    """
    text = THINK.sub("", completion)
    _, closed, answer = text.rpartition("</think>")
    return answer.lstrip() if closed else text
