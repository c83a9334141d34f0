r"""Units after a number: "81 days" is not "81 km/h", and "4 (cents)" is not "4 (plums)".

Both paths of the verifier drop units. Where both answers have one, they are compared first, if one
of them is a rate or stands in brackets, or if both are units of measure. Other words after a number
("5 people", "5 students") say what is counted, in the words of whoever writes, and are dropped.
"""

import re
from typing import NamedTuple

_UNIT = re.compile(
    r"[\d}][\s~]*(?:\\(?:text|mathrm|mbox) ?\{ ?(\()?([a-zA-Z /.-]+?)\)? ?\}(?:\^\d)?|([a-zA-Z]+))$"
)
_RATES = {"mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour", "kmph": "km/hour"}
_NAMES = {  # of units of measure
    name: names.split()[0]
    for names in """mm millimeter millimetre|cm centimeter centimetre|m meter metre
    |km kilometer kilometre|in inch|ft foot feet|yd yard|mi mile|mg milligram|g gram gm
    |kg kilogram kilo|lb pound|oz ounce|ml milliliter millilitre|l liter litre|s sec second
    |min minute|h hr hour|d day|wk week|mo month|yr year y|c cent|dollar buck""".split("|")  # noqa: SIM905
    for name in names.split()
}
_PLURALS = {"people": "person", "men": "man", "women": "woman", "children": "child"}
_BESIDE = {"square", "sq", "cubic", "of"}  # of areas and volumes, which may have a power instead


class Unit(NamedTuple):
    """A unit's parts, two for a rate; each has all forms of each of its words."""

    parts: list[list[set[str]]]
    explicit: bool
    measure: bool


def differ(gold: str, said: str) -> bool:
    """Whether two answers in standard spelling have units, and different ones."""
    a = _unit(gold)
    b = _unit(said) if a else None
    if not a or not b or not (a.explicit or b.explicit or (a.measure and b.measure)):
        return False
    if len(a.parts) != len(b.parts):
        return True
    return not all(map(_same, a.parts, b.parts))


def _same(a: list[set[str]], b: list[set[str]]) -> bool:
    """Whether the longer has all words of the shorter: "apples" and "red apples"."""
    short, long = sorted((a, b), key=len)
    return all(any(forms & others for others in long) for forms in short)


def _unit(text: str) -> Unit | None:
    if text[-1].isdecimal() and "^" not in text:
        return None
    found = _UNIT.search(text)
    if found is None:
        return None
    name = (found[2] or found[3]).lower().strip(" .")
    parts = re.split("/| per ", _RATES.get(name, name))
    words = [[word for word in re.findall("[a-z]+", part) if word not in _BESIDE] for part in parts]
    if not all(words):
        return None
    forms = [[_forms(word) for word in part] for part in words]
    measure = all(word & _NAMES.keys() for part in forms for word in part)
    return Unit(forms, bool(found[1]) or len(parts) > 1, measure)


def _forms(word: str) -> set[str]:
    """A word, what it may be the plural of, and its abbreviation."""
    forms = {word, word.removesuffix("s"), word.removesuffix("es"), _PLURALS.get(word, word)}
    forms |= {word.removesuffix("ies") + "y"} if word.endswith("ies") else set()
    return forms | {_NAMES[form] for form in forms if form in _NAMES}
