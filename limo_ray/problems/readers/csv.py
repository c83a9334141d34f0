"""CSV with a header line, to dicts of text."""

import csv
import re
from collections.abc import Iterator

from limo_ray.problems.columns import InvalidRow
from limo_ray.problems.readers import lines
from limo_ray.problems.readers.base import File, Record, Result, Unreadable

_ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that were no UTF-8


class _Text:
    """Lines as csv.reader takes them, which is text only; it remembers one that is too long."""

    def __init__(self, file: File) -> None:
        self._lines = lines.lines(lines.chunks(file))
        self.too_long: InvalidRow | None = None

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, lines.Line):
            return line.raw.decode(errors="surrogateescape") + "\n"
        if line.error.field == "file":
            raise line.error
        self.too_long = line.error
        return "\n"


def read(file: File) -> Iterator[Result]:
    """The records of a file, in any number of lines each."""
    csv.field_size_limit(max(csv.field_size_limit(), lines.LONGEST_LINE))
    text = _Text(file)
    reader = csv.reader(text, strict=True)
    header: list[str] = []
    while True:
        line, text.too_long = reader.line_num + 1, None
        try:
            fields = next(reader)
        except StopIteration:
            break
        except InvalidRow as error:
            yield Unreadable(line, error)
            return
        except csv.Error as error:
            yield Unreadable(line, InvalidRow("line", f"not CSV: {error}"))
            continue
        if text.too_long and header:
            yield Unreadable(line, text.too_long)
        elif text.too_long or (not header and len(set(fields)) < len(fields)):
            why = text.too_long or "two columns of one name in the header"
            yield Unreadable(0, InvalidRow("file", str(why), fields))
            return
        elif fields and header:
            yield _record(line, header, fields)
        elif fields:
            header = fields
            if _ESCAPED.search("".join(fields)):
                yield Unreadable(0, InvalidRow("file", "not UTF-8 in the header", file.name))
                return
    if not header:
        yield Unreadable(0, InvalidRow("file", "no header line", file.name))


def _record(line: int, header: list[str], fields: list[str]) -> Result:
    for name, value in zip(header, fields, strict=False):
        if bad := _ESCAPED.search(value):
            byte = ord(bad[0]) - 0xDC00
            why = f"not UTF-8: byte 0x{byte:02x} at {bad.start()}"
            return Unreadable(line, InvalidRow(name, why, value))
    if len(fields) != len(header):
        why = f"{len(fields)} fields, {len(header)} in the header"
        return Unreadable(line, InvalidRow("line", why, fields))
    return Record(line, dict(zip(header, fields, strict=True)))
