"""Attempts of others: which data set has them, and which of its columns hold what."""

from dataclasses import dataclass, field, fields


@dataclass(kw_only=True, slots=True)
class PublishedColumns:
    """Columns of a data set of generations: names, paths and templates as those of a source
    (limo_ray/problems/mappings.py)."""

    question: str = ""
    """The problem's text. It must make the same question as the pool's source does, white space and
    case aside: attempts belong to the problem of the same id."""
    completions: list[str] = field(default_factory=list)
    """The attempts: each column holds one text, or a list of them."""
    correct: list[str] = field(default_factory=list)
    """The data set's own labels, one column for each of `completions`: true or false, or a list.
    They decide nothing: the report counts where the verifier disagrees."""
    where: list[str] = field(default_factory=list)
    """Conditions that a row must meet, as those of a source."""


@dataclass(kw_only=True, slots=True)
class PublishedConfig(PublishedColumns):
    """A data set of generations: one of `path` and `hub`, and what its columns mean."""

    path: str = ""
    """File, folder or glob, local or s3:// or gs://."""
    format: str = ""
    """parquet, jsonl, json or csv; from the ending when empty."""
    hub: str = ""
    """Id of a data set on the Hugging Face hub."""
    subset: str = ""
    """Its configuration."""
    split: str = "train"
    """Its split."""
    revision: str = ""
    """Its branch, tag or commit; the newest when empty."""
    mapping: str = ""
    """Ready columns (limo_ray.engines.published_config.READY); what is given goes before it."""
    folder: str = ""
    """Where the attempts at the pool's problems were collected; a curation fills it in."""

    def columns(self) -> PublishedColumns:
        """The ready columns with what is given here laid over them."""
        ready = READY[self.mapping] if self.mapping else PublishedColumns()
        names = [column.name for column in fields(PublishedColumns)]
        return PublishedColumns(
            **{name: getattr(self, name) or getattr(ready, name) for name in names}
        )

    def label(self) -> str:
        """Where the attempts are from."""
        return self.hub or self.path

    def check_given(self) -> None:
        """ValueError, beginning with the field's name, when this names no data set."""
        if bool(self.path) == bool(self.hub):
            got = f"{self.path!r} and {self.hub!r}" if self.path else "none"
            raise ValueError(f"path: give one of path and hub, got {got}")
        if self.mapping and self.mapping not in READY:
            raise ValueError(f"mapping: {self.mapping!r} is none of {', '.join(READY)}")
        columns = self.columns()
        for name in ("question", "completions"):
            if not getattr(columns, name):
                raise ValueError(f"{name}: which column? Give it, or a ready mapping")
        if columns.correct and len(columns.correct) != len(columns.completions):
            raise ValueError(
                f"correct: {len(columns.correct)} columns for {len(columns.completions)} of "
                "completions"
            )


# The column names were taken from the data sets' cards where they list them, else, as marked, from
# public code that reads the data set.
READY: dict[str, PublishedColumns] = {
    # open-r1/OpenR1-Math-220k: two to four chains of DeepSeek-R1 for each problem
    "openr1_math": PublishedColumns(
        question="problem", completions=["generations"], correct=["correctness_math_verify"]
    ),
    # nvidia/OpenMathReasoning, split cot: one chain of DeepSeek-R1 or QwQ-32B (generation_model)
    "open_math_reasoning": PublishedColumns(question="problem", completions=["generated_solution"]),
    # open-thoughts/OpenThoughts-114k, subset metadata: one chain of DeepSeek-R1
    "open_thoughts": PublishedColumns(
        question="problem",
        completions=["<think>\n{deepseek_reasoning}\n</think>\n\n{deepseek_solution}"],
    ),
    # zwhe99/DeepMath-103K: three chains of DeepSeek-R1 (names from public code)
    "deepmath": PublishedColumns(
        question="question", completions=["r1_solution_1", "r1_solution_2", "r1_solution_3"]
    ),
    # GAIR/LIMO and GAIR/LIMO-v2: the chain that the paper selected (names from public code)
    "limo": PublishedColumns(question="question", completions=["solution"]),
    # simplescaling/s1K-1.1: one chain of DeepSeek-R1
    "s1k": PublishedColumns(
        question="question",
        completions=["<think>\n{deepseek_thinking_trajectory}\n</think>\n\n{deepseek_attempt}"],
    ),
}
