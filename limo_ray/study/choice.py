"""What an arm trains on: a last step of its own over candidates that all arms share. Pure."""

from dataclasses import dataclass, replace

import numpy as np

from limo_ray.curate.candidates import Candidates, pass_rate
from limo_ray.curate.records import Chain
from limo_ray.curate.select import SelectionConfig, select
from limo_ray.study.cells import Arm
from limo_ray.study.config import BANDS, StudyConfig, band

WIDE = ("set", "difficulty")  # arms that may choose problems that the difficulty rule dropped


@dataclass(kw_only=True, slots=True)
class Sources:
    """The candidates of one curation, for all arms of a study."""

    found: Candidates
    teachers: set[str]
    """Whose chains arms choose from, unless they name a teacher."""
    notes: list[str]

    def of(self, arm: Arm) -> list[Chain]:
        """The chains that an arm may choose from."""
        settings = arm.settings
        teacher = settings.get("teacher")
        chains = [c for c in self.found.chains
                  if (c.teacher == teacher if teacher else c.teacher in self.teachers)]  # fmt: skip
        difficulty = settings.get("difficulty")
        if difficulty:
            low, high = band(difficulty)
            rates = {id_: pass_rate(one) for id_, one in self.found.problems.items()}
            chains = [c for c in chains if (rate := rates[c.problem_id]) is not None
                      and low < rate <= high]  # fmt: skip
        elif settings.get("set") != "pool":
            chains = [c for c in chains if c.problem_id in self.found.kept]
        if quality := settings.get("quality"):
            chains = _fifth(chains, BANDS.index(quality))
        return chains


def is_wide(arms: list[Arm]) -> bool:
    """Whether any arm needs candidates that the difficulty rule dropped."""
    return any(arm.settings.get("set") == "pool" or "difficulty" in arm.settings for arm in arms)


def sources(found: Candidates, arms: list[Arm]) -> Sources:
    """The candidates with what is said of them.

    Where arms choose from dropped problems too, all arms have chains of those teachers alone that
    wrote some for dropped problems: else teachers and problems would differ at once.
    """
    teachers = {chain.teacher for chain in found.chains}
    outside = [chain for chain in found.chains if chain.problem_id not in found.kept]
    kept = {chain.problem_id for chain in found.chains} & found.kept
    notes = [f"{len(found.kept):,} problems kept, {len(kept):,} of them with a chain"]
    if is_wide(arms):
        teachers = {chain.teacher for chain in outside}
        notes.append(
            f"{len({chain.problem_id for chain in outside}):,} dropped problems have a chain, by "
            f"{', '.join(sorted(teachers)) or 'nobody'}; all arms choose among chains of these"
        )
        if not outside:
            raise ValueError(
                "axes: set pool and difficulty need chains of problems that the rule dropped, and "
                "the log has none: chains.reuse_strong=true takes the strong stage's correct ones"
            )
    return Sources(found=found, teachers=teachers, notes=notes)


def choose(arm: Arm, seed: int, given: Sources, selection: SelectionConfig,
           config: StudyConfig) -> list[Chain]:  # fmt: skip
    """The chains that one cell trains on, best first.

    Raises ValueError where there are too few problems to choose from.
    """
    chains = given.of(arm)
    wanted = arm.settings["examples"]
    problems = {chain.problem_id for chain in chains}
    banded = "quality" in arm.settings or "difficulty" in arm.settings
    least = wanted if banded else config.kept_per_example * wanted
    if len(problems) < least:
        times = f", fewer than {config.kept_per_example:g} times as many" * (not banded)
        raise ValueError(
            f"{arm.label}: {wanted:,} examples of {len(problems):,} problems with a chain{times}: "
            "a larger pool or difficulty.stop_after_kept gives more, kept_per_example=1 chooses "
            "all the same"
        )
    method = arm.settings["selection"]
    return select(chains, replace(selection, method=method, k=wanted, seed=seed))


def _fifth(chains: list[Chain], place: int) -> list[Chain]:
    """One of five equal parts of the chains sorted by score, the lowest first."""
    ranked = sorted(chains, key=lambda c: (c.score, c.problem_id, c.teacher, c.index))
    edges = np.linspace(0, len(ranked), len(BANDS) + 1).round().astype(int)
    return ranked[edges[place] : edges[place + 1]]
