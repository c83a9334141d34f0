r"""The grammar of expressions that are read with certainty: tokens in, a value out.

Recursive descent. Unsure is raised at whatever is not in the grammar, and at whatever math-verify,
or a reader, could take in another way: `1/2x`, `2 3`, `x(x+1)`, `\sin 2x`, `5!!`.
"""

import re

from flint import fmpq

from limo_ray.verify.values import (
    CONSTANTS,
    FUNCTIONS,
    Unsure,
    Value,
    apply,
    factorial,
    known,
    letter,
    power,
    sqrt,
)

DEPTH = 12  # of nested braces and brackets
FRACS = {"\\frac", "\\dfrac", "\\tfrac", "\\cfrac"}
_NAMED = {f"\\{name}" for name in FUNCTIONS if name != "abs"}
_TIMES = {"*", "\\cdot", "\\times"}
_GREEK = {
    *("\\alpha", "\\beta", "\\gamma", "\\delta", "\\theta", "\\lambda", "\\mu", "\\phi", "\\omega"),
    *("\\rho", "\\epsilon", "\\varepsilon", "\\eta", "\\kappa", "\\nu", "\\sigma", "\\tau"),
    *("\\varphi", "\\xi", "\\psi"),
}
LETTERS = set("abcdfghjklmnopqrstuvwxyz")  # e and i are numbers
_OPENING, _CLOSING = {"(", "[", "{"}, {")", "]", "}"}
_ENDS = {"+", "-", "|", "", *_CLOSING}
# What may follow the name of a function besides a bracket, a letter or a number.
_ARGUMENTS = {"\\pi", "\\sqrt", *FRACS, *_GREEK}
_SPACES = {"\\left", "\\right", "\\displaystyle", "\\quad", "\\bigl", "\\bigr", "\\big", "\\Big"}
_SPACES |= {"\\,", "\\;", "\\:", "\\!", "\\ "}

_TOKEN = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)|(\\(?:[a-zA-Z]+|.)|[a-zA-Z\-+*/^(){}\[\]=_!|])|\S", re.A
)


def tokens(text: str) -> list[str]:
    r"""Numbers, letters, signs and "\name" of an expression."""
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        number, other = match.groups()
        if number:
            last = found[-1] if found else ""
            # "2 3", "2x 3" and "\sqrt{2}3" are read in more than one way.
            if (last[:1] != "\\" and last[-1:].isalnum()) or last in _CLOSING or last == "!":
                raise Unsure
            found.append(number)
        elif not other:
            raise Unsure
        elif other not in _SPACES:
            found.append(other)
    return found


class Parser:
    """Reads one expression at one point; every method raises Unsure.

    Afterwards `letters` holds the variables, and `decimal` the digits of the longest decimal.
    """

    def __init__(self, text: str, point: int) -> None:
        self.tokens = [*tokens(text), ""]
        self.at = 0
        self.point = point
        self.depth = 0
        self.bars = False
        self.letters: set[str] = set()
        self.decimal = 0

    def value(self) -> Value:
        """The value of the whole text."""
        try:
            value = self.sum()
        except ZeroDivisionError as e:
            raise Unsure from e
        if self.tokens[self.at] or not (isinstance(value, fmpq) or known(value)):
            raise Unsure
        return value

    def take(self) -> str:
        """The next token; the empty one at the end is never passed."""
        token = self.tokens[self.at]
        self.at += bool(token)
        return token

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise Unsure

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > DEPTH:
            raise Unsure
        sign = self.take() if self.tokens[self.at] in ("+", "-") else "+"
        total = self.product() if sign == "+" else -self.product()
        while self.tokens[self.at] in ("+", "-"):
            total = total + self.product() if self.take() == "+" else total - self.product()
        self.depth -= 1
        return total

    def product(self) -> Value:
        """Factors with or without a sign between them, the last perhaps after a slash."""
        total = self.factor()
        while True:
            token, before = self.tokens[self.at], self.tokens[self.at - 1]
            if token in _TIMES:
                self.at += 1
            elif token == "/":
                # "1/2x" and "1/2/3" are read in two ways: nothing may follow the factor.
                self.at += 1
                total = total / self.factor()
                if self.tokens[self.at] not in _ENDS:
                    raise Unsure
                return total
            elif token == "|" and not self.bars:
                pass
            elif token in _ENDS or not (token in "({" or token[0] == "\\" or token.isalpha()):
                return total
            elif token in FRACS and before[-1].isdigit():
                raise Unsure  # a mixed number, or a product
            elif token == "(" and before[-1].isalpha():
                raise Unsure  # a function's argument, or a product
            elif token == "(" and before[-1].isdigit() and not self.letter_ahead():
                raise Unsure  # math-verify may read 2(1/2) as a mixed number
            total = total * self.factor()

    def letter_ahead(self) -> bool:
        """Whether a letter, pi or a root stands in the bracket that opens here."""
        closing = self.tokens.index(")", self.at) if ")" in self.tokens[self.at :] else self.at
        inside = self.tokens[self.at : closing]
        return any(token.isalpha() or token in ("\\pi", "\\sqrt") for token in inside)

    def factor(self) -> Value:
        base = self.atom()
        if self.tokens[self.at] == "!":
            self.at += 1
            base = factorial(base)
            if self.tokens[self.at] in ("!", "^"):
                raise Unsure
        if self.tokens[self.at] != "^":
            return base
        self.at += 1
        value = power(base, self.exponent())
        if self.tokens[self.at] in ("^", "!"):
            raise Unsure
        return value

    def exponent(self) -> Value:
        """Braces, or a single digit or letter."""
        token = self.tokens[self.at]
        if token == "{" or (len(token) == 1 and token.isalnum()):
            return self.atom()
        raise Unsure

    def atom(self) -> Value:
        token = self.take()
        if token[:1].isdigit() or token[:1] == ".":
            whole, _, places = token.partition(".")
            if places:
                self.decimal = max(self.decimal, len(token) - 1)
            return fmpq(int(whole + places), 10 ** len(places))
        if token == "(" or token == "{":
            value = self.sum()
            self.expect(")" if token == "(" else "}")
            return value
        if token == "|" and not self.bars:
            self.bars = True
            value = self.sum()
            self.expect("|")
            self.bars = False
            return apply("abs", value)
        if token in FRACS:
            over = self.argument()
            return over / self.argument()
        if token == "\\sqrt":
            return sqrt(self.argument())
        if token in _NAMED:
            return self.function(token[1:])
        if token in CONSTANTS:
            return CONSTANTS[token]
        if token in _GREEK or token.lower() in LETTERS:
            name = token.lower() + self.subscript()
            self.letters.add(name)
            return letter(name, self.point)
        raise Unsure

    def subscript(self) -> str:
        """What stands below a letter: one sign, or several in braces."""
        if self.tokens[self.at] != "_":
            return ""
        self.at += 1
        below = self.take()
        if below == "{":
            closing = self.tokens.index("}", self.at) if "}" in self.tokens[self.at :] else self.at
            below = "".join(self.tokens[self.at : closing])
            self.at = closing + 1
        if not below.isalnum():
            raise Unsure
        return f"_{below.lower()}"

    def function(self, name: str) -> Value:
        """A function of one thing that is clearly its argument."""
        token = self.tokens[self.at]
        if not (token in ("(", "{") or token in _ARGUMENTS or token.isalnum()):
            raise Unsure  # among others, "\\sin^{-1}", which is no power
        value = apply(name, self.atom())
        after = self.tokens[self.at]
        if not (after in _ENDS or after in _TIMES or after in _NAMED):
            raise Unsure  # "\\ln 2x": of 2, or of 2x
        return value

    def argument(self) -> Value:
        """What a command applies to: braces, or single digits ("\\frac12")."""
        token = self.tokens[self.at]
        if token == "{":
            return self.atom()
        if not token.isdigit():
            raise Unsure
        if len(token) == 1:
            self.at += 1
        elif len(token) == 2 and self.tokens[self.at - 1] in FRACS:
            self.tokens[self.at] = token[1:]
        else:
            raise Unsure
        return fmpq(int(token[0]))
