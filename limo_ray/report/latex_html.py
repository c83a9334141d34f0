"""Text with LaTeX in it as HTML with native MathML. Safe on hostile text; raw where it cannot.

    render("Half of $x$ is \\(\\frac{x}{2}\\).")   ->   Markup

Problems and completions are written by strangers and by models. latex2mathml lets HTML through
(`\\text{<img/onerror=...>}`, `\\href{javascript:...}`), so its tree is written out here: known
tags, known attributes with tame values, and every text escaped. What does not convert is shown as
it stands.
"""

import html
import re
from functools import lru_cache
from xml.etree.ElementTree import Element

from latex2mathml import exceptions
from latex2mathml.converter import convert_to_element
from markupsafe import Markup, escape

LONGEST = 4000  # characters; a longer "formula" is a run-away delimiter, not a formula

TAG = re.compile(
    "mrow|mi|mn|mo|mtext|mspace|mfrac|msqrt|mroot|msub|msup|msubsup|munder|mover|munderover|"
    "mmultiscripts|mprescripts|none|mtable|mtr|mtd|menclose|mpadded|mphantom|mstyle"
)
ATTRIBUTE = re.compile(
    "stretchy|fence|form|notation|width|linethickness|accent|minsize|maxsize|columnalign|"
    "mathvariant|movablelimits|displaystyle|scriptlevel|lspace|rspace"
)
VALUE = re.compile(r"-?\d?(?:\.\d+)?(?:em|ex|pt)?|[a-z -]{1,40}")

REFUSED = re.compile(  # macros could expand without end
    r"\\(?:def|edef|gdef|let|(?:new|renew|provide)command|newenvironment)"
)

# latex2mathml has no common exception, and lets Python's own out on malformed input.
UNCONVERTIBLE: tuple[type[Exception], ...] = (
    *(e for e in vars(exceptions).values() if isinstance(e, type) and issubclass(e, Exception)),
    AttributeError,
    IndexError,
    KeyError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
)

ALIGNED = "aligned|align|alignedat|alignat|split|eqnarray|multline"
GATHERED = "gathered|gather"
DISPLAY = rf"(?:{ALIGNED}|{GATHERED}|equation|cases|[pbBvV]?matrix|array)\*?"

# Every alternative stops at the next opener of its own kind, so a model that repeats an opener
# for ever costs linear time.
FORMULA = re.compile(
    rf"""
      \\\[ (?P<bracket> (?:(?!\\\[)[\s\S]){{1,{LONGEST}}}? ) \\\]
    | \\\( (?P<paren>   (?:(?!\\\()[\s\S]){{1,{LONGEST}}}? ) \\\)
    | \$\$ (?P<dollars> [^$]{{1,{LONGEST}}}? ) \$\$
    | (?<![\\$\w]) \$ (?!\s) (?P<dollar> (?:\\\$|[^$\n]){{1,600}}? ) (?<![\s\\]) \$ (?!\d)
    | (?P<block> \\begin\{{(?P<env>{DISPLAY})\}}
        (?:(?!\\begin\{{(?P=env)\}})[\s\S]){{1,{LONGEST}}}? \\end\{{(?P=env)\}} )
    | (?P<boxed> \\(?:boxed|fbox) \{{
        (?:[^{{}}\n]|\{{(?:[^{{}}\n]|\{{(?:[^{{}}\n]|\{{[^{{}}\n]*+\}})*+\}})*+\}})*+ \}} )
    """,
    re.VERBOSE,
)
# Markdown's **bold**, which models write; 2**3**2 is a power
BOLD = re.compile(r"(?<![\w*)])\*\*(?=[^\s*])([^*\n]{1,200})(?<=\S)\*\*(?![\w*(])")
INLINE = frozenset({"paren", "dollar", "boxed"})


def render(text: str) -> Markup:
    """HTML for `text`: formulas between TeX delimiters as MathML, everything else escaped."""
    parts: list[Markup] = []
    end = 0
    after_block = False
    for match in FORMULA.finditer(text):
        name = next(n for n, g in match.groupdict().items() if g is not None and n != "env")
        block = name not in INLINE
        mathml = formula(match[name], display=block)
        block = block and mathml is not None
        parts.append(_plain(text[end : match.start()], after_block, block))
        parts.append(raw(match[0]) if mathml is None else mathml)
        end, after_block = match.end(), block
    parts.append(_plain(text[end:], after_block, False))
    return Markup("").join(parts)


def render_answer(answer: str) -> Markup:
    """HTML for a gold answer: LaTeX without delimiters where it looks like LaTeX, else as text."""
    if "$" in answer or "\\(" in answer or "\\[" in answer:
        return render(answer)
    if re.search(r"\\[a-zA-Z]|\^|_\{", answer):
        mathml = formula(answer, display=False)
        if mathml is not None:
            return mathml
    return escape(answer)


def _plain(text: str, after_block: bool, before_block: bool) -> Markup:
    """Text between formulas. A block formula breaks the line itself, so no further break there."""
    if after_block:
        text = text.lstrip()
    if before_block:
        text = text.rstrip()
    shown = str(escape(text.replace("\\$", "$")))  # \$ is money
    return Markup(BOLD.sub(r"<b>\1</b>", shown))  # of escaped text: the tags are ours


def raw(latex: str) -> Markup:
    """A formula that could not be converted, as code."""
    return Markup('<code class="tex">{}</code>').format(latex)


@lru_cache(maxsize=20_000)
def formula(latex: str, *, display: bool) -> Markup | None:
    """MathML for one formula without its delimiters; None where it cannot be converted."""
    if len(latex) > LONGEST or REFUSED.search(latex):
        return None
    try:
        tree = convert_to_element(_prepare(latex))
        body = "".join(_write(child) for child in tree)
    except UNCONVERTIBLE:
        return None
    return Markup('<math display="{}">{}</math>').format(
        "block" if display else "inline", Markup(body)
    )


def _prepare(latex: str) -> str:
    """The environments that latex2mathml does not know, in terms of those that it does."""
    latex = re.sub(r"\\(begin|end)\{equation\*?\}|\\(?:label|tag)\*?\{[^{}]*\}", "", latex)
    latex = re.sub(r"\\begin\{(?:alignedat|alignat)\*?\}\{\d*\}", r"\\begin{split}", latex)
    latex = re.sub(rf"\\(begin|end)\{{(?:{ALIGNED})\*?\}}", r"\\\1{split}", latex)
    latex = re.sub(rf"\\(begin|end)\{{(?:{GATHERED})\*?\}}", r"\\\1{matrix}", latex)
    if "\\\\" in latex and "\\begin" not in latex:
        latex = rf"\begin{{split}}{latex}\end{{split}}"
    return latex.strip()


def _write(node: Element) -> str:
    """One element as MathML text. ValueError for a tag or a command that is not known."""
    if not TAG.fullmatch(node.tag):
        raise ValueError(f"tag: {node.tag}")
    text = html.unescape(node.text or "")
    if re.match(r"\\[a-zA-Z]", text) and node.tag != "mtext":
        raise ValueError(f"command: {text}")
    attributes = "".join(
        f' {name}="{value}"'
        for name, value in node.attrib.items()
        if ATTRIBUTE.fullmatch(name) and VALUE.fullmatch(value)
    )
    inner = str(escape(text)) + "".join(_write(child) for child in node)
    return f"<{node.tag}{attributes}>{inner}</{node.tag}>"
