"""Features: what the hashes of a batch stand for, against the plain computation by tokens."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limo_ray.problems import text_features
from limo_ray.problems.text_features import Features, mix, text_hash
from limo_ray.problems.text_tokens import LEAD_IN, content, folded, tokens

WORDS = ["find", "the", "value", "of", "x", "apples", "3", "three", "3.0", "4", "+", "-", "=", "!"]
WORDS += ["%", "largest", "maximum", "男", "½"]
QUESTIONS = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=6)


def said(question):
    return tuple(folded(token) for token in tokens(question))


def assert_one_to_one(keys, hashes):
    """Equal keys have equal hashes, and other keys others."""
    hashes = [int(one) for one in hashes]
    assert len(keys) == len(hashes)
    assert len(set(zip(keys, hashes, strict=True))) == len(set(keys)) == len(set(hashes))


def chosen(question, keep):
    return tuple(token for token in said(question) if keep(token))


@given(QUESTIONS)
@example([])
@example(["", "?", "x"])
def test_tokens_lie_flat_with_the_offsets_of_their_questions(questions):
    found = Features.of(questions)
    words = [said(question) for question in questions]
    assert len(found) == len(questions)
    assert found.lengths.tolist() == [len(each) for each in words]
    assert found.rows.tolist() == [row for row, each in enumerate(words) for _ in each]
    flat = [token for each in words for token in each]
    assert found.token.tolist() == [text_hash(token) for token in flat]
    assert (found.content != 0).tolist() == [bool(content(token)) for token in flat]
    assert found.lead_in.tolist() == [token in LEAD_IN for token in flat]
    assert_one_to_one([content(t) for t in flat if content(t)], found.content[found.content != 0])


@given(QUESTIONS)
@example(["", "", "3", "x"])
def test_hashes_of_questions_are_equal_where_their_tokens_are(questions):
    found = Features.of(questions)
    assert_one_to_one([said(question) for question in questions], found.whole())
    meant = [tuple(c for t in said(q) if (c := content(t))) for q in questions]
    assert_one_to_one(meant, found.contents())
    cores = [chosen(question, lambda token: token not in LEAD_IN) for question in questions]
    assert_one_to_one(cores, found.cores())
    bare = [tuple("#" if content(t) else t for t in said(q)) for q in questions]
    assert_one_to_one(bare, found.skeletons())
    for keys, hashes in ((meant, found.contents()), (cores, found.cores())):
        assert [not key for key in keys] == (hashes == 0).tolist()


def test_the_order_of_tokens_counts():
    found = Features.of(["3 - 4 apples", "4 - 3 apples", "apples 3 - 4"])
    assert len(set(found.whole().tolist())) == 3
    assert found.contents()[0] == found.contents()[2] != found.contents()[1]


def plain_windows(question, length):
    words = said(question)
    return [words[i : i + length] if i + length <= len(words) else None for i in range(len(words))]


@given(QUESTIONS, st.lists(st.integers(1, 14), min_size=1, max_size=4, unique=True).map(sorted))
@example(["", "x", "", "find the x"], [1, 2, 3, 4])
@example([], [3])
def test_windows_are_the_runs_of_tokens(questions, lengths):
    found = Features.of(questions)
    every = list(found.windows_of(lengths))
    assert len(every) == len(lengths)
    for length, hashes in zip(lengths, every, strict=True):
        assert hashes.dtype == np.uint64
        assert np.array_equal(hashes, found.windows(length))
        runs = [run for question in questions for run in plain_windows(question, length)]
        assert_one_to_one(runs, hashes)
        assert (hashes == 0).tolist() == [run is None for run in runs]


def test_windows_of_other_lengths_are_others():
    found = Features.of(["x x x x x x"])
    heads = [hashes[0] for hashes in found.windows_of([1, 2, 3, 4])]
    assert len(set(heads)) == 4


@given(QUESTIONS, st.integers(1, 6))
@example(["", "x", "find x", "find the x"], 3)
def test_shingles_are_all_runs_or_the_short_question_itself(questions, length):
    found = Features.of(questions)
    hashes, offsets = found.shingles(length)
    assert offsets[0] == 0 and offsets[-1] == len(hashes) and len(offsets) == len(questions) + 1
    runs = []
    for question, (begin, end) in zip(questions, pairwise(offsets), strict=True):
        own = [run for run in plain_windows(question, length) if run]
        own = own or ([said(question)] if said(question) else [])
        assert end - begin == len(own)
        runs += own
    assert_one_to_one(runs, hashes)


def test_shingles_of_other_values():
    found = Features.of(["find 3 apples", "find 4 apples", "x 3", "x 4"])
    plain, _ = found.shingles(3)
    bare, _ = found.shingles(3, found.skeleton())
    assert len(set(plain.tolist())) == 4 and len(set(bare.tolist())) == 2


def test_a_question_has_the_same_hashes_in_any_batch():
    questions = ["Find 3 apples.", "", "What is x + 4?", "Find 3 apples."]
    together = Features.of(questions)
    for row, question in enumerate(questions):
        alone = Features.of([question])
        assert alone.whole()[0] == together.whole()[row]
        begin, end = together.starts[row], together.starts[row + 1]
        assert np.array_equal(alone.windows(3), together.windows(3)[begin:end])


def test_forgetting_the_vocabulary_changes_nothing(monkeypatch):
    questions = [f"Find {n} apples" for n in range(50)]
    before = Features.of(questions)
    monkeypatch.setattr(text_features, "VOCABULARY", 10)
    for _ in range(3):
        after = Features.of(questions)
        assert np.array_equal(before.token, after.token)
        assert np.array_equal(before.content, after.content)
    one = Features.of(["Find 3 apples"])
    assert len(text_features._vocabulary) == len(one.token)


def test_numbers_written_otherwise_are_one():
    one, other = Features.of(["three dozen, 3.50 %"]), Features.of(["3 12 3.5 percent"])
    assert np.array_equal(one.token, other.token) and np.array_equal(one.content, other.content)


@pytest.mark.process
def test_hashes_are_the_same_in_every_process():
    code = (
        "from limo_ray.problems.text_features import Features, text_hash;"
        "f = Features.of(['Find 3 apples + 4.', '', 'x']);"
        "print(text_hash('apples'), f.whole().tolist(), f.windows(2).tolist(), f.content.tolist())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = Features.of(["Find 3 apples + 4.", "", "x"])
    here = [text_hash("apples"), found.whole().tolist(), found.windows(2).tolist()]
    assert run.stdout.strip() == " ".join(map(str, [*here, found.content.tolist()]))
    assert here[0] == 13583854720404059997  # 8 bytes of BLAKE2b, on any machine


def test_lone_surrogates_have_a_hash():
    assert text_hash("\ud800") != text_hash("\ud801")


def test_mixing_spreads_bits_and_loses_none():
    near = mix(np.arange(1, 10_001, dtype=np.uint64))
    assert len(np.unique(near)) == 10_000
    for bit in range(64):
        share = np.mean((near >> np.uint64(bit)) & np.uint64(1))
        assert 0.47 < share < 0.53
