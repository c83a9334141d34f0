"""The schema of conf/curate: every setting of a curation."""

from dataclasses import dataclass, field

from limo_ray.core.checks import check_at_least, check_between, check_folder_name, check_one_of
from limo_ray.core.prompts import SYSTEM
from limo_ray.curate.annotation_config import AnnotationConfig
from limo_ray.curate.filters import FiltersConfig
from limo_ray.curate.hub import PublishDataConfig
from limo_ray.curate.quality import QualityConfig
from limo_ray.curate.select import SelectionConfig
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.problems import inputs
from limo_ray.problems.decontaminate import DecontaminateConfig
from limo_ray.problems.near_duplicates import NearConfig
from limo_ray.problems.sources import SourceConfig
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.stop_rule import StopRule


@dataclass(kw_only=True, slots=True)
class StageConfig:
    engine: str = "???"
    """Which of `engines` makes the attempts."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How they are sampled."""
    rule: StopRule = field(default_factory=StopRule)
    """How many, and which problems are kept."""
    fallback: str = ""
    """Which of `engines` makes the attempts that a published data set lacks; without one such
    problems are undecided, and dropped."""


@dataclass(kw_only=True, slots=True)
class MajorityConfig:
    """When the strong attempts give a problem without an answer (sources[].unanswered) one: all of
    its budget is sampled, and the answer that most of them give is taken."""

    share: float = 0.5
    """Least share of the attempts that must agree."""
    count: int = 3
    """Fewest attempts that must agree."""

    def check(self) -> None:
        check_between("share", self.share, 0, 1)
        check_at_least("count", self.count, 1)


@dataclass(kw_only=True, slots=True)
class DifficultyConfig:
    weak: StageConfig | None = None
    """Stage 1: problems that a weak model solves are dropped. null leaves it out."""
    strong: StageConfig = field(default_factory=StageConfig)
    """Stage 2: problems that a strong model solves seldom, but does solve, are kept."""
    stop_after_kept: int = 0
    """Sample the pool in a seeded random order until this many are kept; 0 samples all of it."""
    per: str = "all"
    """What stop_after_kept counts: all, or each source, or each domain."""
    majority: MajorityConfig = field(default_factory=MajorityConfig)
    """Answers for problems that have none."""
    order: str = "random"
    """random, or promising: with stop_after_kept, those that are likely to be kept come first."""
    random_share: float = 0.1
    """promising: the share of problems that come in the random order, to compare with it."""
    rates: list[str] = field(default_factory=list)
    """promising: keys of the problems' metadata with pass rates of 0 to 1 that others published."""
    suspicious: str = "list"
    """Gold answers that no strong attempt gives while at least half agree on another: list them in
    report and ledger, drop these problems as well where the rule keeps them, or keep (no look)."""
    overlap: bool = True
    """Engines of all stages run at once; false: one after the other (small clusters)."""

    @property
    def group_by(self) -> str:
        """Column of the groups that stop_after_kept counts; empty when it counts all."""
        return "" if self.per == "all" else self.per

    def check(self) -> None:
        check_at_least("stop_after_kept", self.stop_after_kept, 0)
        check_one_of("per", self.per, ("all", "source", "domain"))
        check_one_of("suspicious", self.suspicious, ("list", "drop", "keep"))
        check_one_of("order", self.order, ("random", "promising"))
        if not 0 < self.random_share <= 1:
            raise ValueError(f"random_share: {self.random_share} must be in (0, 1]")
        if self.order == "promising":
            if not self.stop_after_kept:
                raise ValueError("order: promising needs a target in stop_after_kept")
            if self.per != "all" or not self.overlap:
                raise ValueError("order: promising needs per=all and overlap=true")


@dataclass(kw_only=True, slots=True)
class TeacherConfig:
    name: str = "???"
    """Named in each example."""
    engine: str = "???"
    """Which of `engines` writes the chains."""
    attempts: int = 4
    """Chains sampled for each kept problem."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How they are sampled."""
    fallback: str = ""
    """Which of `engines` writes the chains that a published data set lacks."""

    def check(self) -> None:
        check_between("attempts", self.attempts, 1, 4096)
        if self.name in ("weak", "strong"):
            raise ValueError(f"name: {self.name!r} is the name of a difficulty stage")


@dataclass(kw_only=True, slots=True)
class ChainsConfig:
    teachers: list[TeacherConfig] = field(default_factory=list)
    """Models that write chains for the kept problems."""
    reuse_strong: bool = True
    """Attempts of the strong stage are chains as well."""
    only_correct: bool = True
    """Only chains that the verifier calls correct. The paper names no such gate."""
    think: str = "keep"
    """keep or strip the <think> part of a chain."""

    def check(self) -> None:
        check_one_of("think", self.think, ("keep", "strip"))
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) < len(names):
            raise ValueError(f"teachers: names must differ, got {', '.join(names)}")
        if not self.teachers and not self.reuse_strong:
            raise ValueError("teachers: none, and reuse_strong is off: there would be no chains")


@dataclass(kw_only=True, slots=True)
class CurateConfig:
    name: str = "curate"
    """Of the run directory: <store>/runs/<name>."""
    store: str = "store"
    """Folder or URI (s3://, gs://) of runs and attempt log."""
    seed: int = 0
    """Of the order in which the pool is sampled."""
    system: str = SYSTEM
    """System prompt of every attempt and every example."""
    licence: str = "other"
    """Written into the dataset card: what the sources allow."""
    sources: list[SourceConfig] = field(default_factory=list)
    """The pool. Of duplicates the one from the earlier source stays."""
    min_readable: float = 0.1
    """Least share of each source's rows that must be readable, or the job stops before sampling;
    0 asks for one row."""
    filters: FiltersConfig = field(default_factory=FiltersConfig)
    """Which problems are dropped at a glance."""
    gold_check: bool = True
    """Drop problems whose answer the verifier does not accept against itself."""
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    """Benchmarks that no problem may come from."""
    near: NearConfig = field(default_factory=NearConfig)
    """Near-duplicates."""
    engines: dict[str, EngineConfig] = field(default_factory=dict)
    """Models by name; stages on one engine share its replicas."""
    difficulty: DifficultyConfig = field(default_factory=DifficultyConfig)
    """Which problems are hard enough: attempts of a weak and a strong model."""
    chains: ChainsConfig = field(default_factory=ChainsConfig)
    """Completions of the kept problems that can become examples."""
    annotate: list[AnnotationConfig] = field(default_factory=list)
    """Questions that a model is asked about the kept problems or their chains."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """The score of a chain: weighted criteria."""
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    """Which chains become examples."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    publish: PublishDataConfig = field(default_factory=PublishDataConfig)

    def check(self) -> None:
        if not self.sources:
            raise ValueError("sources: none given")
        if not 0 <= self.min_readable <= 1:
            raise ValueError(f"min_readable: {self.min_readable} must be between 0 and 1")
        check_folder_name(self.name)
        self._check_annotations()
        for key, name, sampling in self._uses():
            if name not in self.engines:
                known = ", ".join(self.engines) or "none"
                raise ValueError(f"{key}: {name!r} is none of engines ({known})")
            stage, _, use = key.rpartition(".")
            if use == "fallback" and self.engines[name].kind == "published":
                raise ValueError(f"{key}: {name!r} has published attempts only, too")
            longest = self.engines[name].max_model_len
            if sampling.max_tokens > longest:
                raise ValueError(
                    f"{stage}.sampling.max_tokens: {sampling.max_tokens} is more than "
                    f"engines.{name}.max_model_len ({longest})"
                )

    def inputs(self) -> list[inputs.Input]:
        """What it needs from elsewhere."""
        out = self.decontaminate
        engines = [self.engines[name] for _, name, _ in self._uses()]
        return [
            *(inputs.of_source(source) for source in self.sources),
            *(
                inputs.of_benchmark(name, out.folder, self.store, out.mirror)
                for name in out.benchmarks
            ),
            *(inputs.of_source(source, "benchmark") for source in out.files),
            *(inputs.of_model(e.model, e.revision) for e in engines if e.kind == "vllm"),
        ]

    def samplings(self) -> list[tuple[EngineConfig, SamplingConfig]]:
        """Every engine that makes attempts at problems, with their sampling."""
        uses = self._uses()
        return [
            (self.engines[name], sampling) for key, name, sampling in uses if "annotate" not in key
        ]

    def _check_annotations(self) -> None:
        names = [each.name for each in self.annotate]
        if len(set(names)) < len(names):
            raise ValueError(f"annotate: names must differ, got {', '.join(names)}")
        kinds = {each.kind for each in self.annotate}
        if self.quality.rating and "rating" not in kinds:
            raise ValueError("quality.rating: no annotation of kind rating gives one")
        if "paraphrase" in kinds and not (
            self.decontaminate.benchmarks or self.decontaminate.files
        ):
            raise ValueError("annotate: paraphrase needs a benchmark in decontaminate")
        for index, each in enumerate(self.annotate):
            engine = self.engines.get(each.engine)
            if engine and engine.kind == "published":
                raise ValueError(
                    f"annotate[{index}].engine: {each.engine!r} has published attempts only: it "
                    "cannot be asked"
                )

    def _uses(self) -> list[tuple[str, str, SamplingConfig]]:
        """Key in the config, name of an engine, sampling."""
        stages = {"difficulty.strong": self.difficulty.strong}
        if weak := self.difficulty.weak:
            stages["difficulty.weak"] = weak
        teachers = {f"chains.teachers[{i}]": each for i, each in enumerate(self.chains.teachers)}
        asked = {f"annotate[{i}].engine": each for i, each in enumerate(self.annotate)}
        return [
            *(
                (f"{key}.{use}", name, each.sampling)
                for key, each in (stages | teachers).items()
                for use, name in (("engine", each.engine), ("fallback", each.fallback))
                if name or use == "engine"
            ),
            *((key, each.engine, each.sampling) for key, each in asked.items()),
        ]
