"""Reading a rendered page back, for the report's tests."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from typing import Any

VOID = frozenset({"meta", "input", "br", "hr", "img", "link"})
# In SVG the parser reports <line .../> as start and end, so only HTML's void elements are listed.


class Page(HTMLParser):
    """The elements of a page; AssertionError where a tag is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({k for k, _ in attrs}) == len(attrs), f"repeated attribute: {tag} {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def unpacked(page: str) -> list[dict[str, Any]]:
    """The rows of examples that the page's script would unpack."""
    found = re.search(r'id="packed">([A-Za-z0-9+/=]*)</script>', page)
    assert found
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


def assert_harmless(page: Page) -> None:
    """Nothing in the page runs, loads or leads anywhere, other than the report's own parts."""
    for tag, attrs in page.elements:
        assert tag not in {"img", "iframe", "object", "embed", "link", "base", "a:href"}, tag
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, attrs)
            assert name != "src", (tag, attrs)
            if name in ("href", "xlink:href", "action", "formaction"):
                assert value and value.startswith("#"), (tag, attrs)
