"""How well a tool cleaned a pool of `bench/pool/data.py`: recall and precision from the truth."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NEAR = ("near_case_spacing_punctuation", "near_latex", "near_words")
CONTAMINATIONS = ("contam_verbatim", "contam_embedded", "contam_reformatted")
SHORT = ("contam_short_verbatim", "contam_short_embedded", "contam_short_reformatted")
LIKE = ("clean_like", "clean_like_short")
DUPLICATE = ("exact", "near")  # reasons of a removal as a duplicate


def peer(out: Path) -> tuple[pa.Array, dict[str, str]]:
    """What `bench/pool/peer.py` left in OUT, as the last two arguments of `score`."""
    removed = (line.split("\t") for line in (out / "removed.tsv").read_text().splitlines())
    kept = pa.array((out / "kept.txt").read_text().splitlines(), pa.string())
    return kept, dict(removed)


def score(
    folder: Path, kept: "pa.Array | list[str]", reasons: dict[str, str] | None = None
) -> dict[str, Any]:
    """How a tool's choice of rows compares with the truth of FOLDER.

    Args:
        folder: what `make` wrote.
        kept: uids of the rows that stayed.
        reasons: why a removed row was removed: "exact", "near", "contamination" or anything else;
            rows of other reasons are left out of the precision. Without it every removal counts
            for both precisions.

    Returns:
        kinds: rows, removed and share for each kind of row, "clean" among them; near_recall: of
        planted near-duplicates of Jaccard 0.8 or more, the share whose group of copies was cut;
        near_precision: of the rows removed as duplicates that are neither contaminations nor exact
        copies, the share that is right (a near copy, or an original whose copy stays);
        contamination_recall; false_contaminations: the share of the rows free of contamination
        that was removed as contaminated (None without reasons).
    """
    total = json.loads((folder / "made.json").read_text())["rows"]
    truth = pq.read_table(folder / "truth.parquet")
    kept = pa.array(kept, pa.string()) if isinstance(kept, list) else kept
    truth = truth.append_column("removed", pc.invert(pc.is_in(truth["uid"], value_set=kept)))
    kinds: dict[str, dict[str, Any]] = {}
    for row in (
        truth.group_by("kind").aggregate([("removed", "count"), ("removed", "sum")]).to_pylist()
    ):
        kinds[row["kind"]] = {"rows": row["removed_count"], "removed": int(row["removed_sum"] or 0)}
    planted = sum(found["rows"] for found in kinds.values())
    removed = sum(found["removed"] for found in kinds.values())
    kinds["clean"] = {"rows": total - planted, "removed": total - len(kept) - removed}
    for found in kinds.values():
        found["share"] = found["removed"] / found["rows"] if found["rows"] else 0.0
    return {
        "kinds": dict(sorted(kinds.items())),
        **_near(truth, kinds, kept, reasons),
        **_contaminations(truth, kinds, total, reasons),
    }


def _near(
    truth: pa.Table, kinds: dict[str, Any], kept: pa.Array, reasons: dict[str, str] | None
) -> dict[str, Any]:
    def duplicate(uid: str) -> bool:
        return reasons is None or reasons.get(uid) in DUPLICATE

    groups = truth.filter(pc.is_in(truth["kind"], value_set=pa.array(["exact", *NEAR])))
    groups = groups.append_column("kept_of", pc.is_in(groups["of"], value_set=kept))
    stayed: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    near_removed = 0
    originals: dict[str, bool] = {}
    for row in groups.to_pylist():
        sizes[row["of"]] += 1
        stayed[row["of"]] += not row["removed"]
        originals[row["of"]] = row["kept_of"]
        near_removed += row["removed"] and row["kind"] != "exact" and duplicate(row["uid"])
    for of, stays in originals.items():
        stayed[of] += stays
    # Two rows of one group that both stay were not found; which one goes is the tool's choice.
    hit = all_near = 0
    for row in groups.to_pylist():
        if row["kind"] != "exact" and row["jaccard"] >= 0.8:
            all_near += 1
            hit += row["removed"] or stayed[row["of"]] == 1
    gone = [of for of, stays in originals.items() if not stays and duplicate(of)]
    emptied = sum(not stayed[of] for of in gone)
    wrong_clean = kinds["clean"]["removed"] - len(gone)
    wrong = {kind: kinds.get(kind, {"removed": 0})["removed"] for kind in ("sibling", *LIKE)}
    if reasons is not None:
        wrong_clean, wrong = _by_reason(truth, originals, reasons)
    right = near_removed + len(gone) - emptied
    bad = wrong_clean + sum(wrong.values()) + emptied
    return {
        "near_recall": hit / all_near if all_near else None,
        "near_precision": right / (right + bad) if right + bad else None,
        "near_wrong": {"clean": wrong_clean, **wrong, "whole_group": emptied},
    }


def _by_reason(
    truth: pa.Table, originals: dict[str, bool], reasons: dict[str, str]
) -> tuple[int, dict[str, int]]:
    """Wrong removals as duplicates only: of clean rows, and of the kinds that must stay."""
    kind_of = dict(zip(truth["uid"].to_pylist(), truth["kind"].to_pylist(), strict=True))
    wrong = dict.fromkeys(("sibling", *LIKE), 0)
    clean = 0
    for uid, reason in reasons.items():
        if reason not in DUPLICATE:
            continue
        kind = kind_of.get(uid)
        if kind in wrong:
            wrong[kind] += 1
        clean += kind is None and uid not in originals
    return clean, wrong


def _contaminations(
    truth: pa.Table, kinds: dict[str, Any], total: int, reasons: dict[str, str] | None
) -> dict[str, Any]:
    of = [kinds[kind] for kind in CONTAMINATIONS + SHORT if kind in kinds]
    rows = sum(found["rows"] for found in of)
    found: dict[str, Any] = {
        "contamination_recall": sum(found["removed"] for found in of) / rows if rows else None,
        "false_contaminations": None,
    }
    if reasons is not None:
        planted = pc.is_in(truth["kind"], value_set=pa.array(CONTAMINATIONS + SHORT))
        true = set(truth.filter(planted)["uid"].to_pylist())
        named = [uid for uid, reason in reasons.items() if reason == "contamination"]
        found["false_contaminations"] = sum(uid not in true for uid in named) / (total - rows)
    return found
