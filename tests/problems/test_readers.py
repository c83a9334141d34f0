"""Readers: damaged files, odd lines, and spans that give the same lines as the whole."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.problems import discovery, readers
from limo_ray.problems.columns import InvalidRow
from limo_ray.problems.readers import lines


def read(path, columns=("q",), target=lines.CHUNK, format=""):
    file = readers.describe(str(path), str(path), format)
    spans = readers.spans(file, target)
    found = [result for span in spans for result in readers.read(file, set(columns), span)]
    assert all(isinstance(each, readers.Record | readers.Unreadable) for each in found)
    return [tuple(result) for result in found]


def error_of(record):
    assert isinstance(record, InvalidRow), record
    return record.field, record.error


def numbered(n):
    return b"".join(json.dumps({"q": f"What is {i}\u2029?"}).encode() + b"\n" for i in range(n))


@given(
    rows=st.lists(st.sampled_from([b'{"q": 1}', b"", b" ", b"x" * 40, b'{"q": "\xe2\x80\xa8"}'])),
    end=st.sampled_from([b"", b"\n"]),
    target=st.integers(1, 60),
)
def test_spans_give_the_lines_of_the_whole(tmp_path_factory, rows, end, target):
    path = tmp_path_factory.getbasetemp() / "spans.jsonl"
    path.write_bytes(b"\n".join(rows) + end)
    expected = [i for i, line in enumerate(rows, 1) if line.strip()]
    found = read(path, target=target)
    assert [line for line, _ in found] == expected
    whole = read(path, target=10**6)
    assert [(i, str(record)) for i, record in found] == [(i, str(record)) for i, record in whole]


def test_a_line_that_is_too_long_costs_that_line_only(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 50)
    monkeypatch.setattr(lines, "CHUNK", 16)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"q": 1}\n' + b"y" * 500 + b'\n{"q": 2}\n' + b"z" * 51)
    found = read(path)
    assert [line for line, _ in found] == [1, 2, 3, 4]
    assert [found[0][1], found[2][1]] == [{"q": 1}, {"q": 2}]
    assert error_of(found[1][1]) == error_of(found[3][1]) == ("line", "longer than 50 bytes")


@pytest.mark.parametrize(("ending", "codec"), [(".gz", "gzip"), (".zst", "zstd")])
def test_packed_files_whole_and_cut_off(tmp_path, ending, codec):
    path = tmp_path / f"a.jsonl{ending}"
    with pa.output_stream(str(path), compression=codec) as out:
        out.write(numbered(200_000))
    assert read(path)[-1] == (200_000, {"q": "What is 199999\u2029?"})
    path.write_bytes(path.read_bytes()[:-1000])
    found = read(path)
    *before, (line, last) = found
    assert len(before) == line - 1 > 1000
    assert before[-1] == (line - 1, {"q": f"What is {line - 2}\u2029?"})
    assert error_of(last)[0] == "file" and "damaged: Truncated" in error_of(last)[1]
    assert last.value == str(path)


def test_a_gz_file_of_several_members_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(numbered(3)) + gzip.compress(numbered(2)))
    assert [line for line, _ in read(path)] == [1, 2, 3, 4, 5]


def parquet(path, rows=300, **options):
    table = pa.table({"q": [f"What is {i}?" for i in range(rows)], "unused": range(rows)})
    pq.write_table(table, path, row_group_size=100, **options)


def test_parquet_cut_off_is_one_row_for_the_file(tmp_path):
    parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    (tmp_path / "c.parquet").write_bytes(b"")
    for name in ("b", "c"):
        ((line, record),) = read(tmp_path / f"{name}.parquet")
        assert line == 0
        assert error_of(record)[0] == "file" and error_of(record)[1].startswith("damaged: ")


def test_a_broken_row_group_costs_that_row_group_only(tmp_path):
    path = tmp_path / "a.parquet"
    parquet(path, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = data.find(b"What is 150?")
    data[at : at + 4] = b"Wxyz"
    path.write_bytes(bytes(data))
    found = read(path)
    assert [line for line, _ in found] == [*range(1, 101), 101, *range(201, 301)]
    assert error_of(found[100][1])[1].startswith("damaged in row group 1: ")
    assert found[101] == (201, {"q": "What is 200?"})


def test_parquet_without_the_columns_still_has_its_rows(tmp_path):
    parquet(tmp_path / "a.parquet", rows=3)
    assert read(tmp_path / "a.parquet", columns=["nope"]) == [(1, {}), (2, {}), (3, {})]
    parquet(tmp_path / "none.parquet", rows=0)
    assert read(tmp_path / "none.parquet") == []


def test_what_is_wrong_with_the_way_to_a_file_is_raised(tmp_path):
    for name in ("gone.jsonl", "gone.parquet", "gone.csv", "gone.jsonl.gz"):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / name)


def test_csv_lines_and_errors(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfq,a\r\n"one\ntwo",1\r\n\r\nx\n"y" z,2\nlast,3')
    found = read(path)
    assert [line for line, _ in found] == [2, 5, 6, 7]
    assert [found[0][1], found[3][1]] == [{"q": "one\ntwo", "a": "1"}, {"q": "last", "a": "3"}]
    assert error_of(found[1][1]) == ("line", "1 fields, 2 in the header")
    assert "not CSV" in error_of(found[2][1])[1]
    path.write_bytes(b"")
    assert [(line, error_of(record)) for line, record in read(path)] == [
        (0, ("file", "no header line"))
    ]
    path.write_bytes(b"q,q\n1,2\n")
    assert "two columns of one name" in error_of(read(path)[0][1])[1]


def test_a_csv_line_that_is_too_long_costs_its_record_only(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 50)
    path = tmp_path / "a.csv"
    path.write_bytes(b"q,a\n1,2\n" + b"y" * 51 + b'\n"one\n' + b"z" * 60 + b'\ntwo",3\n4,5\n')
    found = read(path)
    assert [line for line, _ in found] == [2, 3, 4, 7]
    assert [found[0][1], found[3][1]] == [{"q": "1", "a": "2"}, {"q": "4", "a": "5"}]
    assert error_of(found[1][1]) == error_of(found[2][1]) == ("line", "longer than 50 bytes")
    path.write_bytes(b"q" * 51 + b"\n1,2\n")
    assert [(line, error_of(record)[0]) for line, record in read(path)] == [(0, "file")]


def test_json_files_are_arrays_or_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\n[{"q": 1},\n [{"q": 2}]]')
    assert read(path) == [(1, {"q": 1}), (2, [{"q": 2}])]
    path.write_text('{"q": 1}\n{"q": 2}\n')
    assert read(path, target=5) == [(1, {"q": 1}), (2, {"q": 2})]
    path.write_text('[{"q": 1},')
    assert [(line, error_of(record)[0]) for line, record in read(path)] == [(0, "line")]
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(b'{"q": 1}\n\n{"q": 2}\n'))
    assert read(packed) == [(1, {"q": 1}), (3, {"q": 2})]


def test_files_are_found_by_path_folder_and_glob(tmp_path, monkeypatch):
    for name in (
        "b.jsonl",
        "a.csv",
        "deep/c.jsonl.gz",
        "deep/er/d.parquet",
        "x[1].jsonl",
        "no.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)

    def names(path, **options):
        return [file.name for file in discovery.on_disk(path, **options)]

    assert names("b.jsonl") == ["b.jsonl"]
    assert names("*.jsonl") == ["b.jsonl", "x[1].jsonl"]
    assert names("x[1].jsonl") == ["x[1].jsonl"]
    assert names("[ab].*") == ["a.csv", "b.jsonl"]
    assert names("**/*.parquet") == ["deep/er/d.parquet"]
    assert names("de*/*.gz") == ["deep/c.jsonl.gz"]
    assert names("deep") == ["deep/c.jsonl.gz", "deep/er/d.parquet"]
    assert names(f"{tmp_path}/?.csv") == [f"{tmp_path}/a.csv"]
    assert names(f"file://{tmp_path}/*.csv") == [f"file://{tmp_path}/a.csv"]
    assert names("no.txt", format="jsonl") == ["no.txt"]
    assert len(names(".")) == 5
    for path in ("none*", "deep/*.csv", "gone/a.csv"):
        with pytest.raises(ValueError, match="path: no file matches"):
            names(path)


def test_a_data_set_of_the_hub_is_read_from_its_data_files(tmp_path, monkeypatch):
    # The datasets library takes a folder for a data set: the same resolution without the hub.
    folder = tmp_path / "data"
    folder.mkdir()
    parquet(folder / "train-00000-of-00001.parquet")
    parquet(folder / "test-00000-of-00001.parquet", rows=2)
    (file,) = discovery.on_hub(str(tmp_path), "", "test", "")
    assert file.format == "parquet" and file.uri.endswith("test-00000-of-00001.parquet")
    assert len(read(file.uri)) == 2
    assert discovery.on_hub(str(tmp_path), "*", "test", "") == [file]
    with pytest.raises(ValueError, match="split: 'dev' is none of train, test in"):
        discovery.on_hub(str(tmp_path), "", "dev", "")

    def unknown(name, *_, **__):
        raise FileNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")

    monkeypatch.setattr("datasets.load_dataset_builder", unknown)
    with pytest.raises(ValueError, match="hub: cannot open 'no/such': Dataset 'no/such' doesn't"):
        discovery.on_hub("no/such", "", "train", "")
