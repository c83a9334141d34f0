"""The ready questions about problems and chains, and how a reply is asked for. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from limo_ray.curate.subjects import MSC


class Ready(NamedTuple):
    template: str
    spec: dict[str, Any]


READY = {
    # s1's domains (arXiv 2501.19393, section 2.1): one code for each question
    "subject": Ready(
        "Classify this mathematics problem by the Mathematics Subject Classification. These are "
        "the codes:\n\n" + "\n".join(f"{code} {name}" for code, name in MSC.items()) + "\n\n"
        "Problem:\n{question}\n\nGive the two digits of the code that fits best.",
        {"one_of": list(MSC)},
    ),
    "well_posed": Ready(
        "Is this problem well posed and complete? It is not if something that it needs is missing "
        "(a figure, a definition, a condition), if it contradicts itself, or if it has no single "
        "answer.\n\nProblem:\n{question}\n\nReply complete, incomplete or contradictory.",
        {"one_of": ["complete", "incomplete", "contradictory"]},
    ),
    # the four criteria of LIMO (arXiv 2502.03387v3, section 3.2)
    "rating": Ready(
        "Rate this solution from 1 (poor) to 10 (excellent) by four criteria:\n"
        "1. elaborated reasoning: every step is worked out, without leaps\n"
        "2. self-verification: results are checked on the way\n"
        "3. exploratory approach: alternatives and conjectures are tried\n"
        "4. adaptive granularity: hard steps in detail, easy ones in brief, and connected\n\n"
        "Problem:\n{question}\n\nSolution:\n{solution}\n\n"
        "Give the four whole numbers in this order, such as: 7 3 5 8",
        {"integers": [4, 1, 10]},
    ),
    "paraphrase": Ready(
        "Is the second problem the first one in other words? It is the same problem if every "
        "solution of one solves the other: same quantities, same relations, same thing asked for, "
        "whatever the words, names and notation.\n\nFirst problem:\n{item}\n\n"
        "Second problem:\n{question}\n\nReply same or different.",
        {"one_of": ["same", "different"]},
    ),
    "final_answer": Ready(
        "This task asks for a proof. Does what is to be proved name one definite final answer (a "
        "number, an expression, a set), so that the task could ask to find it? If so, write that "
        "task, with all its conditions and without the answer, and after it => and the answer, all "
        "on one line. If not, reply none.\n\nTask:\n{question}",
        {"one_of": ["none"], "parts": "=>"},
    ),
}

_FIELD = re.compile(r"\{(question|answer|solution|item)\}")


def fields(template: str) -> list[str]:
    """What a template needs."""
    return list(dict.fromkeys(_FIELD.findall(template)))


def prompt(template: str, values: Mapping[str, str], replies: Sequence[str] = ()) -> str:
    """The question as it is asked; braces in the values stay as they are.

    Args:
        replies: those that are allowed, where the template does not name them.
    """
    text = _FIELD.sub(lambda field: values[field[1]], template)
    form = f"<one of: {', '.join(replies)}>" if replies else "<your reply>"
    return f"{text}\n\nEnd your reply with one line of this form:\nAnswer: {form}"
