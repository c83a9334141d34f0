"""Which cells a study has: its grid, the random arms and the untrained models. Pure.

An arm is a cell's settings but for the seed; cells of one arm differ only in their seeds.
"""

import itertools
from dataclasses import dataclass, field

from limo_ray.core.records import fingerprint
from limo_ray.study.config import ARMS, UNTRAINED, ComparisonConfig, Settings, StudyConfig, show

ORDER = [*ARMS]


@dataclass(kw_only=True, slots=True)
class Arm:
    """Settings (of named arms and dotted keys), and the seeds of its trainings."""

    settings: Settings
    seeds: list[int] = field(default_factory=list)
    label: str = ""
    """Short and its own among the arms of a study."""

    @property
    def trained(self) -> bool:
        return UNTRAINED not in self.settings

    @property
    def key(self) -> str:
        return fingerprint(self.settings)


@dataclass(kw_only=True, slots=True)
class Comparison:
    """A named question, with the pairs of arms that answer it."""

    name: str
    pairs: list[tuple[Arm, Arm]]
    benchmark: str = ""

    def weights(self) -> list[tuple[float, Arm]]:
        """Of each arm in the mean difference."""
        found: dict[str, tuple[float, Arm]] = {}
        for a, b in self.pairs:
            for sign, arm in ((1, a), (-1, b)):
                before = found.get(arm.key, (0.0, arm))[0]
                found[arm.key] = (before + sign / len(self.pairs), arm)
        return list(found.values())


def arms_of(config: StudyConfig) -> list[Arm]:
    """All arms, the untrained models first, with labels.

    Raises ValueError for a grid without cells to train.
    """
    base = {"selection": config.base("curate", {}).selection.method,
            "examples": config.base("curate", {}).selection.k,
            "model": config.base("train", {}).model}  # fmt: skip
    arms: dict[str, Arm] = {}
    for cell in config.cells or [{}]:
        free = {key: values for key, values in config.axes.items() if key not in cell}
        for values in itertools.product(*free.values()):
            settings = base | dict(zip(free, values, strict=True)) | cell
            seed = settings.pop("seed", 0)
            _add(arms, settings, seed)
            if config.random_arm and settings["selection"] != "random":
                chosen = {k: v for k, v in settings.items() if k not in ("quality", "difficulty")}
                _add(arms, chosen | {"selection": "random"}, seed)
            elif config.random_arm and {"quality", "difficulty"} & settings.keys():
                chosen = {k: v for k, v in settings.items() if k not in ("quality", "difficulty")}
                _add(arms, chosen, seed)
    untrained: dict[str, Arm] = {}
    if config.untrained:
        for arm in arms.values():
            same = {k: v for k, v in arm.settings.items()
                    if k == "model" or k.startswith("evaluate.")}  # fmt: skip
            _add(untrained, {UNTRAINED: True} | same, 0)
    found = [*untrained.values(), *arms.values()]
    _label(found)
    return found


def _add(arms: dict[str, Arm], settings: Settings, seed: int) -> None:
    places = {key: place for place, key in enumerate(ORDER)}
    settings = dict(sorted(settings.items(), key=lambda item: (places.get(item[0], 99), item[0])))
    arm = arms.setdefault(fingerprint(settings), Arm(settings=settings))
    if seed not in arm.seeds:
        arm.seeds.append(seed)


def varying(arms: list[Arm]) -> list[str]:
    """Keys whose values differ between trained arms, in the order of the first arms."""
    values: dict[str, set[str]] = {}
    trained = [arm for arm in arms if arm.trained]
    for arm in trained:
        for key in arm.settings:
            values.setdefault(key, set())
    for key, seen in values.items():
        seen |= {repr(arm.settings.get(key)) for arm in trained}
    return [key for key, seen in values.items() if len(seen) > 1]


def _label(arms: list[Arm]) -> None:
    differ = varying(arms)
    for arm in arms:
        shown = {k: v for k, v in arm.settings.items() if k in differ or k == UNTRAINED}
        free = [f"any {key}" for key in differ if arm.trained and key not in arm.settings]
        arm.label = ", ".join([*([show(shown)] if shown else []), *free]) or "trained"


def comparisons_of(config: StudyConfig, arms: list[Arm]) -> list[Comparison]:
    """The named questions with their arms.

    Raises ValueError for one that no pair of arms answers.
    """
    asked = config.comparisons
    names = config.comparison_names()
    required = bool(asked)
    if not asked:
        methods = dict.fromkeys(arm.settings["selection"] for arm in arms if arm.trained)
        asked = [ComparisonConfig(a={"selection": method}, b={"selection": "random"})
                 for method in methods if method != "random"]  # fmt: skip
        names = [f"{one.a['selection']} against random" for one in asked]
    found = []
    for name, one in zip(names, asked, strict=True):
        pairs = [pair for arm in arms if (pair := _pair(arm, one, arms))]
        if not pairs and required:
            raise ValueError(
                f"comparisons: {name!r}: no arm has the settings of `a` and one beside it with "
                f"those of `b`; the arms are {'; '.join(arm.label for arm in arms)}"
            )
        if pairs:
            found.append(Comparison(name=name, pairs=pairs, benchmark=one.benchmark))
    return found


def _pair(arm: Arm, asked: ComparisonConfig, arms: list[Arm]) -> tuple[Arm, Arm] | None:
    matches = all(arm.settings.get(key) == value for key, value in asked.a.items())
    if not arm.trained or not matches:
        return None
    if UNTRAINED in asked.b:
        same = {k: v for k, v in arm.settings.items()
                if k == "model" or k.startswith("evaluate.")}  # fmt: skip
        wanted = {UNTRAINED: True} | same | asked.b
    else:
        # bands narrow a choice: the other side has them only where it says so
        bands = {k for k in ("quality", "difficulty") if k in asked.a and k not in asked.b}
        wanted = {k: v for k, v in arm.settings.items() if k not in bands} | asked.b
    other = next((one for one in arms if one.settings == wanted), None)
    return (arm, other) if other is not None and other is not arm else None
