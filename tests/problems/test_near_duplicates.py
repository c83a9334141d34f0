"""Near-duplicates: which questions meet, which of them are alike, and which one stays."""

import json
import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limo_ray.core.records import problem_id
from limo_ray.problems import gym
from limo_ray.problems.near_duplicates import (
    ALL_PAIRS,
    CROWD,
    PROCEDURAL,
    Candidate,
    NearConfig,
    band_keys,
    bands,
    choose_survivors,
    components,
    jaccard,
    links,
    shingles,
)
from limo_ray.problems.text_features import Features

SYLLABLES = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]


def words(rng, count):
    return ["".join(rng.choice(SYLLABLES) for _ in range(3)) for _ in range(count)]


def row(question, answer="5", **more):
    return {
        "question": question, "answer": answer, "domain": "math", "rank": 0, "solved": False,
        "source": "pool", "file": "a.jsonl", "line": 1, "id": problem_id(question),
    } | more  # fmt: skip


def never(*_):
    raise AssertionError("the verifier was asked about equal texts")


def tell(one, other, domain):
    return float(one) == float(other)


def meet(rows, config):
    """Candidates among rows, as the pool's steps find them."""
    found = Features.of(row["question"] for row in rows)
    made = np.array([row["domain"] in PROCEDURAL for row in rows], bool)
    keys = band_keys(found, made, config)
    ties = np.repeat(found.whole().astype(np.uint32), keys.shape[1])
    numbers = np.repeat(np.arange(len(rows)), keys.shape[1])
    keyed = keys.ravel() != 0
    pairs = links(numbers[keyed], keys.ravel()[keyed], ties[keyed])
    hashes, offsets = shingles(found, config)
    contents = found.contents()
    known = [
        Candidate(
            row=number,
            shingles=frozenset(hashes[offsets[number] : offsets[number + 1]].tolist()),
            contents=int(contents[number]),
            **{name: value for name, value in row.items() if name != "question"},
        )
        for number, row in enumerate(rows)
    ]
    return known, pairs


def gone(rows, equal=never, **config):
    """Row number -> (reason, evidence)."""
    config = NearConfig(**config)
    known, pairs = meet(rows, config)
    dropped = choose_survivors(known, pairs, config, equal)
    return {n: (reason, json.loads(evidence)) for n, (reason, evidence) in dropped.items()}


# bands


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("permutations", [16, 64, 80, 128, 256])
def test_bands_are_the_longest_that_find_a_pair_at_the_threshold(threshold, permutations):
    count, rows = bands(NearConfig(threshold=threshold, permutations=permutations))
    assert 1 <= count * rows <= permutations and count == permutations // rows

    def recall(rows):
        return 1 - (1 - threshold**rows) ** (permutations // rows)

    assert rows == 1 or recall(rows) >= 0.995
    assert rows == permutations or recall(rows + 1) < 0.995


def test_the_default_bands():
    assert bands(NearConfig()) == (16, 5)


def test_questions_alike_meet_as_often_as_the_formula_says():
    """Sets of shingles with a given similarity, at the threshold and far below it."""
    rng, config, pairs = random.Random(1), NearConfig(), 1500
    for similarity, low, high in ((0.8, 0.98, 1.0), (0.9, 0.999, 1.0), (0.2, 0.0, 0.06)):
        # 3-grams of n tokens with one end replaced: k of them shared, of n - 2 + n - 2 - k
        n = 47
        k = round(similarity * 2 * (n - 2) / (1 + similarity))
        texts = []
        for _ in range(pairs):
            one = words(rng, n)
            texts += [" ".join(one), " ".join(one[: k + 2] + words(rng, n - k - 2))]
        found = Features.of(texts)
        keys = band_keys(found, np.zeros(len(texts), bool), config)
        met = (keys[::2] == keys[1::2]).any(axis=1).mean()
        assert low <= met <= high, (similarity, met)


# keys


def test_keys_carry_the_numbers_unless_templates_are_wanted():
    text = " ".join(words(random.Random(0), 60))
    found = Features.of([f"{text} 3", f"{text} 4"])
    plain = np.zeros(2, bool)
    differ = band_keys(found, plain, NearConfig())
    assert not np.isin(differ[0], differ[1]).any()
    template = band_keys(found, plain, NearConfig(numbers="template"))
    assert (template[0] == template[1]).all()


def test_questions_without_tokens_and_none_at_all_have_no_keys():
    keys = band_keys(Features.of(["", "...", "x"]), np.array([False, True, False]), NearConfig())
    assert not keys[:2].any() and keys[2].all()
    assert band_keys(Features.of([]), np.zeros(0, bool), NearConfig()).shape == (0, 16)


def test_no_key_of_one_band_is_one_of_another():
    keys = band_keys(Features.of(["x", "y", "x y z"]), np.zeros(3, bool), NearConfig())
    assert len(np.unique(keys)) == keys.size


def test_made_rows_have_one_key_of_all_their_tokens():
    texts = ["What is 3 + 4?", "what is  3 + 4", "What is 3 + 5?", "Say: what is 3 + 4?"]
    keys = band_keys(Features.of(texts), np.ones(4, bool), NearConfig())
    assert keys[:, 0].all() and not keys[:, 1:].any()
    assert keys[0, 0] == keys[1, 0] and len(set(keys[:, 0].tolist())) == 3
    found = band_keys(Features.of(texts), np.zeros(4, bool), NearConfig())
    assert not np.isin(keys[:, 0], found).any()


# links


def all_links(row, key, tie):
    as_arrays = np.array(row, np.int64), np.array(key, np.uint64), np.array(tie, np.uint32)
    return set(map(tuple, links(*as_arrays).tolist()))


@pytest.mark.parametrize("size", [0, 1, 2, ALL_PAIRS, ALL_PAIRS + 1, 40, CROWD, CROWD + 1])
def test_a_group_of_any_size_hangs_together(size):
    rng = random.Random(size)
    ties = rng.sample(range(10**6), size)
    numbers = rng.sample(range(10_000), size)
    pairs = all_links(numbers, [7] * size, ties)
    assert all(one < other for one, other in pairs)
    if size <= ALL_PAIRS:
        assert pairs == {tuple(sorted(pair)) for pair in combinations(numbers, 2)}
    elif size <= CROWD:
        found, labels = components(np.array(sorted(pairs)))
        assert found.tolist() == sorted(numbers) and len(set(labels.tolist())) == 1
        assert len(pairs) <= size * 17
        hub = numbers[ties.index(min(ties))]  # every one is compared with one and the same
        assert {other for pair in pairs if hub in pair for other in pair} == set(numbers)
    else:
        assert not pairs  # problems of one template, with other tokens each


def test_in_a_crowd_the_same_tokens_still_meet():
    size = CROWD + 200
    ties = [i // 2 for i in range(size)]
    pairs = all_links(range(size), [7] * size, ties)
    assert pairs == {(i, i + 1) for i in range(0, size, 2)}
    assert len(components(np.array(sorted(all_links(range(size), [7] * size, [1] * size))))[0])


def test_groups_do_not_mix_and_each_pair_comes_once():
    numbers, keys = [1, 2, 3, 4, 2, 1, 3], [5, 5, 6, 6, 8, 8, 5]
    pairs = np.array(sorted(all_links(numbers, keys, [0] * 7))).tolist()
    assert pairs == [[1, 2], [1, 3], [2, 3], [3, 4]]
    assert all_links([4, 4], [1, 1], [0, 0]) == set()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=80), st.randoms())
def test_links_do_not_depend_on_the_order_of_keys(given_rows, rng):
    rows = [(number, key, number * 7 % 5) for number, (key, _) in enumerate(given_rows)]
    straight = all_links(*zip(*rows, strict=True)) if rows else set()
    rng.shuffle(rows)
    assert (all_links(*zip(*rows, strict=True)) if rows else set()) == straight


# components


def plain_components(pairs):
    parent = {}

    def root(one):
        parent.setdefault(one, one)
        while parent[one] != one:
            one = parent[one]
        return one

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {one: root(one) for one in sorted(parent)}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40))
@example([(i, i + 1) for i in range(300)])
@example([(i, 299 - i) for i in range(300)] + [(i, i + 2) for i in range(0, 298, 2)])
def test_components_are_those_of_a_union_find(pairs):
    rows, labels = components(np.array(pairs, np.int64))
    found = dict(zip(rows.tolist(), labels.tolist(), strict=True))
    assert found == plain_components(pairs) and list(found) == sorted(found)


def test_no_pairs_have_no_components():
    rows, labels = components(np.zeros((0, 2), np.int64))
    assert len(rows) == len(labels) == 0


@given(st.frozensets(st.integers(0, 9)), st.frozensets(st.integers(0, 9)))
def test_jaccard(one, other):
    expected = len(one & other) / len(one | other) if one | other else 1.0
    assert jaccard(one, other) == expected


# who goes


def changed(rng, text, share):
    """Some words replaced, none of them a number."""
    return " ".join(
        rng.choice(words(rng, 1)) if not w.isdigit() and rng.random() < share else w
        for w in text.split()
    )


def test_near_duplicates_are_found_and_others_are_not():
    """A few thousand texts with copies of all degrees, compared by their true similarity."""
    rng = random.Random(5)
    rows = []
    for number in range(1500):
        text = " ".join(words(rng, rng.randint(8, 60)))
        text += f" {number} + {rng.randint(2, 99)}"
        rows += [row(text), row(changed(rng, text, rng.choice([0.02, 0.05, 0.1, 0.3])))]
    found = gone(rows)
    known, _ = meet(rows, NearConfig())
    alike = missed = 0
    for one in range(0, len(rows), 2):
        sets = [known[number].shingles for number in (one, one + 1)]
        hit = one in found or one + 1 in found
        if jaccard(*sets) >= 0.8:
            alike += 1
            missed += not hit
        else:
            assert not hit
    assert alike > 400 and missed <= 0.02 * alike
    for number, (reason, evidence) in found.items():
        other = number ^ 1
        assert reason == "near_duplicate" and evidence["id"] == rows[other]["id"]
        assert evidence["similarity"] >= 0.8 and other not in found


LONG = (
    "On a sunny morning Natalia sold {a} clips to each of her friends in April, and then she sold "
    "{b} more clips in May than in June, when it rained. What is the {most} value of {c} for the "
    "{what} of her garden in all?"
)


def test_questions_that_differ_in_a_number_or_an_operation_all_stay():
    rows = []
    for a, b, c in ((3, 4, "3 + x"), (3, 5, "3 + x"), (4, 3, "3 + x"), (3, 4, "3 - x")):
        for most, what in (("largest", "area"), ("smallest", "area"), ("largest", "perimeter")):
            rows.append(row(LONG.format(a=a, b=b, c=c, most=most, what=what)))
    rows += [row(LONG.format(a="1,003", b=4, c="3!", most="mean", what="sin")), row("3 + 4")]
    rows += [row("3 - 4"), row("4 + 3"), row("3 + 44"), row("f(2)"), row("f(3)")]
    assert gone(rows) == {} == gone(rows, same_answer=False)


def test_numbers_written_otherwise_are_the_same_numbers():
    one = LONG.format(a="1,003", b="four", c=r"\frac{1}{2}", most="largest", what="area")
    other = LONG.format(a="1003", b="4", c="½", most="greatest", what="area")
    assert list(gone([row(one), row(other)])) in ([0], [1])


def test_the_source_named_first_then_a_solution_then_the_smaller_id_stays():
    text = LONG.format(a=1, b=2, c="x", most="largest", what="area")
    texts = [text, text.replace("sunny", "rainy"), text.replace("friends", "pals")]
    rows = [row(each, rank=1, solved=True, line=n) for n, each in enumerate(texts)]
    smallest = min(rows, key=lambda each: each["id"])["line"]
    assert set(gone(rows)) == {0, 1, 2} - {smallest}
    solved = [each | {"solved": each["line"] == 2} for each in rows]
    assert set(gone(solved)) == {0, 1}
    first = [each | {"rank": 1 - (each["line"] == 1)} for each in solved]
    found = gone(first)
    assert set(found) == {0, 2}
    kept = {"source": "pool", "file": "a.jsonl", "line": 1}
    assert {str(evidence["kept"]) for _, evidence in found.values()} == {str(kept)}


def test_a_chain_is_one_cluster():
    """Each like the next one, the ends not alike: one stays, and all name it."""
    rng = random.Random(2)
    text = words(rng, 60)
    rows = []
    for step in range(6):
        text = text[: 3 * step] + words(rng, 3) + text[3 * step + 3 :]
        rows.append(row(" ".join(text), line=step))
    rows[3]["rank"] = -1
    found = gone(rows)
    assert set(found) == {0, 1, 2, 4, 5}
    assert {evidence["kept"]["line"] for _, evidence in found.values()} == {3}
    shares = [found[n][1]["similarity"] for n in (2, 1, 0)]
    assert shares == sorted(shares, reverse=True) and shares[0] >= 0.8 > shares[-1]


def test_similarity_is_counted_over_distinct_shingles():
    rows = [row("very " * 30 + "many apples"), row("very " * 6 + "many apples")]
    (evidence,) = [found for _, found in gone(rows).values()]
    assert evidence["similarity"] == 1.0


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("count", "numbers"), [(60, 3), (2 * ALL_PAIRS, 1), (200, 2)])
def test_the_same_rows_go_in_any_order(seed, count, numbers):
    rng = random.Random(seed)
    base = words(rng, 30)
    rows = []
    for number in range(count):
        text = list(base)
        for _ in range(rng.randrange(4)):
            text[rng.randrange(30)] = words(rng, 1)[0]
        text.append("?" * (1 + number))
        answer = rng.choice(["5", "5.0", "6"])
        rows.append(row(" ".join([*text, str(number % numbers)]), answer, line=number))

    def reasons(rows):
        return {rows[n]["line"]: (r, e) for n, (r, e) in gone(rows, tell).items()}

    found = reasons(rows)
    rng.shuffle(rows)
    assert count / 4 < len(found) < count and reasons(rows) == found


def test_other_answers_make_other_problems_unless_told_not_to():
    text = LONG.format(a=1, b=2, c="x", most="largest", what="area")
    other = text.replace("clips", "stamps", 1)
    asked = []

    def equal(one, other, domain):
        asked.append((one, other, domain))
        return tell(one, other, domain)

    assert gone([row(text, "0.5"), row(other, "1.5")], equal) == {}
    assert asked == [("0.5", "1.5", "math")]
    assert len(gone([row(text, "0.5"), row(other, "0.50")], equal)) == 1
    assert len(gone([row(text, "0.5"), row(other, "1.5")], never, same_answer=False)) == 1
    assert gone([row(text, "5"), row(other, "5", domain="choice")], never) == {}


def test_templates_are_capped_and_all_name_a_row_that_stays():
    texts = [LONG.format(a=a, b=2, c="x", most="largest", what="area") for a in range(3, 13)]
    rows = [row(text, str(n), rank=n, line=n) for n, text in enumerate(texts)]
    copy = rows[8]["question"].replace("sunny", "rainy")
    rows.append(row(copy, "8", rank=10, line=10))
    assert list(gone(rows, tell)) == [10]
    for cap in (1, 2, 5, 20):
        found = gone(rows, tell, numbers="template", per_template=cap)
        stays = set(range(11)) - set(found)
        assert stays == set(range(min(cap, 10)))
        reasons = Counter(reason for reason, _ in found.values())
        assert reasons == {"near_duplicate": 1} | ({"template": 10 - cap} if cap < 10 else {})
        kept = {number: evidence["kept"]["line"] for number, (_, evidence) in found.items()}
        assert set(kept.values()) <= stays
        assert kept[10] == (8 if cap > 8 else 0)
    assert all(found[number][1]["similarity"] >= 0.8 for number in found)


def test_templates_do_not_touch_questions_of_other_words():
    rows = [row("What is 3 + 4?"), row("Tom has 3 red apples and 4 green ones, how many in all?")]
    assert gone(rows, numbers="template") == {}


def made(kind, size, **settings):
    for entry in gym.problems(kind, settings, 0, 0, size):
        yield row(entry["question"], entry["answer"], domain=entry["domain"])


@pytest.mark.parametrize(
    "kind", ["chain_sum", "countdown", "n_queens", "mini_sudoku", "ab", "figlet_font"]
)
@pytest.mark.parametrize("numbers", ["differ", "template"])
def test_made_problems_are_no_duplicates_of_their_siblings(kind, numbers):
    # Boards and drawings are made of what is no token.
    rows = list({each["id"]: each for each in made(kind, 60)}.values())
    assert len(rows) > 50
    assert gone(rows, numbers=numbers) == {}


def test_a_made_problem_in_another_format_goes():
    (problem,) = made("chain_sum", 1)
    other = row("  " + problem["question"].upper() + " !", problem["answer"], domain="gym")
    assert len(gone([problem, other])) == 1
    longer = row("Now: " + problem["question"], problem["answer"], domain="gym")
    assert gone([problem, longer]) == {}
    assert gone([problem, other | {"domain": "math"}], lambda *_: False) == {}


def test_a_crowd_of_one_template_costs_no_quadratic_time():
    text = LONG.format(a=1, b=2, c="x", most="largest", what="area")
    rows = [row(text + " " + " ".join(words(random.Random(n), 2))) for n in range(CROWD + 300)]
    rows += [row(each["question"] + " .") for each in rows[:50]]
    known, pairs = meet(rows, NearConfig())
    assert len(pairs) < 20 * 17 * len(rows)
    found = choose_survivors(known, pairs, NearConfig(), never)
    # Those with the same tokens go at the least.
    assert all(number in found or number + CROWD + 300 in found for number in range(50))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 0.2), ("threshold", 1.1), ("shingle", 0), ("shingle", 21),
        ("permutations", 15), ("permutations", 1025), ("numbers", "same"), ("per_template", 0),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}: .*{value}"):
        NearConfig(**{field: value}).check()
    NearConfig().check()
