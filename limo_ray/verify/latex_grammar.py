"""The grammar of the answers that are read exactly: tokens in, a value out.

Recursive descent. TooHard is raised at whatever is not in the grammar, and at whatever math-verify,
or a reader, could take in another way.
"""

from fractions import Fraction

from limo_ray.verify.exact import Equation, Group, Number, Value, approximate
from limo_ray.verify.polynomials import FUNCTIONS, Ratio, TooHard, apply
from limo_ray.verify.radicals import factorial, power

_GROUPS = {("(", ")"): "()", ("[", "]"): "[]", ("(", "]"): "(]", ("[", ")"): "[)"}
PRODUCTS = {"cdot", "times"}
FRACS = {"frac", "dfrac", "tfrac", "cfrac"}
CLOSING = {")", "]", "}", "\\}"}
_ENDS = {"+", "-", ")", "]", "}", "\\}", "|", ",", "\\cup", ""}
_GREEK = {"alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega", "rho"}
_GREEK |= {"epsilon", "varepsilon", "eta", "kappa", "nu", "sigma", "tau", "varphi", "xi", "psi"}
_LETTERS = set("abcdfghjklmnopqrstuvwxyz")  # e and i are numbers
# What may follow a function's name besides a bracket, a letter, a number.
_ARGUMENTS = {"\\pi", "\\sqrt", *(f"\\{name}" for name in FRACS), *(f"\\{name}" for name in _GREEK)}
DEPTH = 12  # nested braces and brackets


class Parser:
    """Recursive descent over the tokens of one answer; every method raises TooHard."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [*tokens, ""]
        self.at = 0
        self.depth = 0
        self.decimal = 0
        self.bars = False

    def answer(self) -> Value:
        """A whole answer, read to its end."""
        tokens = self.tokens
        if "=" in tokens:
            letter = tokens[0].lower()
            if letter not in _LETTERS or tokens[1] != "=":
                raise TooHard
            self.at = 2
            return self.ended(Equation(letter, self.number()))
        if tokens[0] == "\\{":
            self.at = 1
            items = self.items()
            self.expect("\\}")
            return self.ended(Group("{}", items))
        items = self.items()
        if tokens[self.at] != "\\cup":
            return self.ended(items[0] if len(items) == 1 else Group("{}", items))
        parts = [items[0]]
        while tokens[self.at] == "\\cup":
            self.at += 1
            parts.append(self.item())
        if len(items) > 1 or not all(isinstance(part, Group) for part in parts):
            raise TooHard
        return self.ended(Group("U", tuple(parts)))

    def ended(self, value: Value) -> Value:
        if self.at != len(self.tokens) - 1:
            raise TooHard
        return value

    def expect(self, token: str) -> None:
        if self.tokens[self.at] != token:
            raise TooHard
        self.at += 1

    def items(self) -> tuple[Number | Group, ...]:
        """Numbers and groups with commas between them."""
        found = [self.item()]
        while self.tokens[self.at] == ",":
            self.at += 1
            found.append(self.item())
        return tuple(found)

    def item(self) -> Number | Group:
        """A point, an interval, or a number."""
        opening = self.tokens[self.at]
        if mixed := self.mixed():
            return mixed
        if opening not in ("(", "[") or (opening == "(" and not self.holds_comma()):
            return self.number()
        self.depth += 1
        if self.depth > DEPTH:
            raise TooHard
        self.at += 1
        items = self.items()
        self.depth -= 1
        kind = _GROUPS.get((opening, self.tokens[self.at]))
        self.at += 1
        if kind is None:
            raise TooHard
        if kind != "()":
            # math-verify takes [2, 1) for the empty set, the same as any other.
            ends = [approximate(item) if isinstance(item, Number) else None for item in items]
            if len(ends) != 2 or ends[0] is None or ends[1] is None or ends[0] >= ends[1]:
                raise TooHard
        return Group(kind, items)

    def mixed(self) -> Number | None:
        """A mixed number that is a whole item: 9 \\frac{6}{7}."""
        negative = self.tokens[self.at] == "-"
        tokens = self.tokens[self.at + negative : self.at + negative + 9]
        if len(tokens) < 9 or tokens[1][1:] not in FRACS or tokens[8] not in _ENDS - {"+", "-"}:
            return None
        whole, _, open_over, over, close_over, open_under, under, close_under, _ = tokens
        if (open_over, close_over, open_under, close_under) != ("{", "}", "{", "}"):
            return None
        if not (whole.isdigit() and over.isdigit() and under.isdigit() and int(under)):
            return None
        self.at += 8 + negative
        value = int(whole) + Fraction(int(over), int(under))
        return Number(-value if negative else value)

    def holds_comma(self) -> bool:
        """Whether a comma stands right inside the bracket that opens here."""
        depth = 0
        for token in self.tokens[self.at :]:
            if token in ("(", "[", "{", "\\{"):
                depth += 1
            elif token in CLOSING:
                depth -= 1
                if not depth:
                    return False
            elif token == "," and depth == 1:
                return True
        return False

    def number(self) -> Number:
        """One sum, as a Fraction when it is rational; or an infinity, alone."""
        signed = self.tokens[self.at] in ("+", "-")
        if self.tokens[self.at + signed : self.at + signed + 1] == ["\\infty"]:
            infinite = Ratio.infinite(-1 if self.tokens[self.at] == "-" else 1)
            self.at += 1 + signed
            if self.tokens[self.at] not in _ENDS - {"+", "-"}:
                raise TooHard
            return Number(infinite)
        self.decimal = 0
        value = self.sum()
        if value.degree("i") > 1:
            raise TooHard
        number = value.rational()
        return Number(value if number is None else number, self.decimal)

    def sum(self) -> Ratio:
        self.depth += 1
        if self.depth > DEPTH:
            raise TooHard
        total = Ratio.number(Fraction(0))
        signed = False
        while True:
            token = self.tokens[self.at]
            if token in ("+", "-"):
                self.at += 1
            elif signed:
                break
            total = total.plus(self.product(), -1 if token == "-" else 1)
            signed = True
        self.depth -= 1
        return total

    def product(self) -> Ratio:
        """Factors with or without a sign between them, the last perhaps after a slash."""
        total = self.factor()
        while True:
            token, before = self.tokens[self.at], self.tokens[self.at - 1]
            if token == "*" or token[1:] in PRODUCTS:
                self.at += 1
            elif token == "/":
                # "1/2x" and "1/2/3" are read in two ways: nothing may follow the factor.
                self.at += 1
                total = total.divided(self.factor())
                if self.tokens[self.at] not in _ENDS:
                    raise TooHard
                return total
            elif token == "|" and not self.bars:
                pass
            elif token in _ENDS or not (token in "({" or token[0] == "\\" or token.isalpha()):
                return total
            elif token[1:] in FRACS and before[-1].isdigit():
                raise TooHard  # a mixed number, or a product
            elif token == "(" and before[-1].isalpha():
                raise TooHard  # a function's argument, or a product
            factor = self.factor()
            if token == "(" and before[-1].isdigit() and factor.rational() is not None:
                raise TooHard  # math-verify may read 2(1/2) as a mixed number
            total = total.times(factor)

    def factor(self) -> Ratio:
        base = self.atom()
        if self.tokens[self.at] == "!":
            self.at += 1
            base = factorial(base)
            if self.tokens[self.at] in ("!", "^"):
                raise TooHard
        if self.tokens[self.at] != "^":
            return base
        self.at += 1
        exponent = self.exponent()
        if self.tokens[self.at] in ("^", "!"):
            raise TooHard
        return power(base, exponent)

    def exponent(self) -> Ratio:
        """Braces, or a single digit or letter."""
        token = self.tokens[self.at]
        if token == "{":
            self.at += 1
            exponent = self.sum()
            self.expect("}")
            return exponent
        if len(token) == 1 and token.isalnum():
            return self.atom()
        raise TooHard

    def atom(self) -> Ratio:
        token = self.tokens[self.at]
        self.at += 1
        if token[:1].isdigit() or token[:1] == ".":
            if "." in token:
                self.decimal = max(self.decimal, len(token) - 1)
            return Ratio.number(Fraction(token))
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
        if token[1:] in FRACS:
            over = self.argument()
            return over.divided(self.argument())
        if token == "\\sqrt":
            return self.root()
        if token[1:] in FUNCTIONS and token[0] == "\\" and token != "\\abs":
            return self.function(token[1:])
        if token == "\\pi" or token in ("e", "i"):
            return Ratio.letter(token.removeprefix("\\"))
        if token == "E":
            return Ratio.letter("E_" + self.subscript())  # not Euler's number
        if token[1:] in _GREEK or token.lower() in _LETTERS:
            return Ratio.letter(token.removeprefix("\\").lower() + self.subscript())
        raise TooHard

    def subscript(self) -> str:
        """What stands below a letter: one sign, or several in braces."""
        if self.tokens[self.at] != "_":
            return ""
        below = self.tokens[self.at + 1]
        self.at += 2
        if below == "{":
            closing = self.tokens.index("}", self.at) if "}" in self.tokens[self.at :] else self.at
            below = "".join(self.tokens[self.at : closing])
            self.at = closing + 1
        elif len(below) != 1:
            raise TooHard
        if not below.isalnum():
            raise TooHard
        return f"_{below.lower()}"

    def root(self) -> Ratio:
        """A root, exact when it is the square root of a rational number."""
        degree = Fraction(2)
        if self.tokens[self.at] == "[":
            index = self.tokens[self.at + 1]
            if not index.isdigit() or not 2 < int(index) < 20:
                raise TooHard
            degree = Fraction(int(index))
            self.at += 2
            self.expect("]")
        return power(self.argument(), Ratio.number(1 / degree))

    def function(self, name: str) -> Ratio:
        """A function of one thing that is clearly its argument."""
        times = Fraction(1)
        arguments: list[Ratio] = []
        if self.tokens[self.at] == "^":
            self.at += 1
            times = self.exponent().rational() or Fraction(0)
        if self.tokens[self.at] == "_" and name == "log":
            self.at += 1
            arguments.append(self.exponent())
            name = "logarithm"
        token = self.tokens[self.at]
        argued = token in ("(", "{") or token in _ARGUMENTS or token.isalnum()
        if not argued or times not in (1, 2, 3, 4) or (times > 1 and name in ("ln", "log", "exp")):
            raise TooHard  # among others, "\\sin^{-1}", which is no power
        arguments.insert(0, self.atom())
        after = self.tokens[self.at]
        if not (after in _ENDS or after[1:] in PRODUCTS or after[1:] in FUNCTIONS):
            raise TooHard  # "\\ln 2x": of 2, or of 2x
        if name == "exp":
            return power(Ratio.letter("e"), arguments[0])
        return apply(name, *arguments).power(times.numerator)

    def argument(self) -> Ratio:
        """What a command applies to: braces, or single digits ("\\frac12")."""
        token = self.tokens[self.at]
        if token == "{":
            return self.atom()
        if not token.isdigit():
            raise TooHard
        if len(token) == 1:
            self.at += 1
        elif len(token) == 2 and self.tokens[self.at - 1][1:] in FRACS:
            self.tokens[self.at] = token[1:]
        else:
            raise TooHard
        return Ratio.number(Fraction(int(token[0])))
