"""What a question asks for: several things under labels, a proof, or one value.

    several_parts("(a) Find x. (b) Find y.", "3")     -> "(a) ... (b)"
    proof("Show that 2^n > n for all n.")             -> "Show that"

Pure, and linear in the length of the question. Both are careful: a list of conditions, steps or
options is not several questions, and a proof beside a value stays, since the value is checked.
"""

import re
from collections.abc import Sequence

# For Arrow (RE2): only rows that match can ask several things, or for a proof.
PARTS = (
    r"(?i)(?:^|[^\w\\)}\]^'])\(\s?(?:b|ii|2)\s?\)|(?:^|[\n.:;?!]|\$\s)\s{0,3}(?:b|ii|2)\)[\s$\\]|"
    r"(?:^|\n)[ \t*]{0,5}(?:b|ii|2)\.[ \t*$]|\bpart\s\(?(?:b|ii|2)\b"
)
PROOFS = r"(?i)\b(?:prove|disprove|proof|show|demonstrate|verify)\b"

_KINDS = (tuple("abcdefgh"), ("i", "ii", "iii", "iv", "v", "vi"), tuple("123456789"))
_LABEL = r"([a-h]|i{1,3}|iv|vi?|[1-9])"
_MARKS = (
    # "(a)", "**(a)**", "\textbf{(a)}", "$(1)$", but not "f(a)", "f^{-1}(2)", "x'(1)"
    re.compile(rf"(?<![\w\\)}}\]^'!|])\(\s?{_LABEL}\s?\)", re.IGNORECASE),
    # "a) ..." where a sentence or a line begins
    re.compile(rf"(?:^|[\n.:;?!]|\$\s)\s{{0,3}}{_LABEL}\)(?=\s|\$|\\)", re.IGNORECASE),
    # "1. ..." where a line begins
    re.compile(rf"(?:^|\n)[ \t*]{{0,5}}{_LABEL}\.(?=[ \t*$])", re.IGNORECASE),
    re.compile(rf"\bpart\s\(?{_LABEL}\)?\s?[:.\-\u2013\u2014)]", re.IGNORECASE),
)
_VALUE = (
    r"find|determine|compute|calculate|evaluate|solve|simplify|factor|factori[sz]e|express|"
    r"estimate|how\s(?:many|much|long|far|old|often)|what"
)
_OTHER = r"prove|show\sthat|explain|describe|draw|sketch|graph|plot|verify|write|state|give|list"
_CLAUSE = r"(?:^|[.;:!?,*)$\]}]\s{0,3}|\n\s{0,3}|\b(?:and|then|hence|thus|now|also|please|to)\s)"
_ASKS = re.compile(rf"\?|{_CLAUSE}(?:{_VALUE}|{_OTHER})\b", re.IGNORECASE)
_ASKS_VALUE = re.compile(rf"\?|{_CLAUSE}(?:{_VALUE})\b", re.IGNORECASE)
# "Calculate:", "Find the", "Solve each of the following equations:" right before the first label;
# not "Find all functions such that:", and not "Solve the system:", whose labels are conditions.
_SHARED = re.compile(
    r"\b(?:(?:find|determine|compute|calculate|evaluate|simplify|factor|factori[sz]e|expand)"
    r"(?:\s{1,3}(?:the|each|all|both|of|following|values?|sums?|products?|quotients?|differences?|"
    r"expressions?|integrals?|limits?|derivatives?|problems?|these|below|results?|in)){0,8}"
    r"|solve\s(?:each\sof\s)?(?:the\sfollowing|each)\s(?:equations?|inequalit(?:y|ies)|problems?))"
    r"[\s:*.$\\{]{0,6}$",
    re.IGNORECASE,
)
_STEPS = re.compile(
    r"\b(?:steps?|operations?|procedures?|rules?|moves?|instructions?|process|algorithm|way)\b"
    r"[^.?]{0,80}$",
    re.IGNORECASE,
)
_TAIL = 160  # characters before the first label: they say what the labels are
_ANSWERS = re.compile(
    r"\W{0,4}(?:a|1|i|part\s(?:a|1))\s?[).:].*[\s;,.$](?:\(?(?:b|2|ii)\)|part\s(?:b|2))",
    re.IGNORECASE | re.DOTALL,
)
_PROOF = re.compile(
    rf"{_CLAUSE}(?:prove|disprove|show\s(?:that|the\sfollowing|why|how)|"
    r"(?:demonstrate|verify)\sthat)\b"
    r"|(?<!\bcan\s)(?<!\bwe\s)(?<!\bnot\s)(?<!\bwill\s)(?<!\bcould\s)\bprove\sthat\b"
    r"|\b(?:give|write|provide|present)\s(?:a|the|your)\s(?:\w{1,20}\s)?proof\b",
    re.IGNORECASE,
)


def several_parts(question: str, answer: str) -> str | None:
    """The labels under which a question asks for several things, or None.

    At least two labelled texts ask something, or one task stands before all of them
    ("Calculate: (1) ... (2) ..."), or the gold answer has labels too. One question after labelled
    conditions is one question; labelled steps of a procedure are none.
    """
    for pattern in _MARKS:
        marks = list(pattern.finditer(question))
        for kind in _KINDS:
            run = labels_in_order(marks, kind)
            if len(run) >= 2 and _separate(question, answer, run):
                return " ... ".join(mark[0].strip() for mark in run)
    return None


def labels_in_order(
    marks: list[re.Match[str]], kind: Sequence[str], *, last: bool = False
) -> list[re.Match[str]]:
    """The longest run of labels in their order, from the first one on; the first one of several.

    Args:
        marks: with the label as group 1.
        kind: labels in their order, in lower case; others are passed over.
        last: the last one of several runs as long.
    """
    best: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for mark in marks:
        label = mark[1].lower()
        if label not in kind:
            continue
        if len(run) < len(kind) and label == kind[len(run)]:
            run.append(mark)
        else:
            run = [mark] if label == kind[0] else []
        if len(run) > len(best) or (last and len(run) == len(best)):
            best = list(run)
    return best


def _separate(question: str, answer: str, run: list[re.Match[str]]) -> bool:
    # A mark may begin with the full stop of the text before it.
    ends = [mark.start(1) for mark in run[1:]] + [len(question)]
    texts = [question[mark.end() : end] for mark, end in zip(run, ends, strict=True)]
    texts = [text.strip(" \t\r\n$*}:.") for text in texts]
    before = question[max(0, run[0].start() - _TAIL) : run[0].start()]
    if sum("?" in text for text in texts) >= 2 or _SHARED.search(before):
        return True
    if sum(asks(text) for text in texts) >= 2 and not _STEPS.search(before):
        return True
    return _ANSWERS.match(answer) is not None


def asks(text: str) -> bool:
    """Whether a text asks for something: "?", or "find", "prove", ... where a clause begins."""
    return _ASKS.search(text) is not None


def proof(question: str) -> str | None:
    """The words by which a question asks for a proof and for no value, or None.

    "Show that the limit exists and find it" stays: its value is checked. So does every text with a
    question mark: "Surveys show that ..., how many ...?".
    """
    command = _PROOF.search(question)
    return None if command is None or _ASKS_VALUE.search(question) else command[0].strip()
