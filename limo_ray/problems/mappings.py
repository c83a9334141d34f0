r"""Which columns hold what: the mapping of a pool, and ready ones for the public pools.

A column is named by its name, by a path into nested values (`prompt[0].content`,
`reward_model.ground_truth`, `0.value` for the first turn of a list of turns), or put together by a
template: "{Body} {Question}". In a template `{{` and `}}` are braces, lists and numbers are
written as JSON, and two values with only white space between them get a comma when the first one
ends without punctuation ("If he has 14 tickets left" + "How many tickets did he win?").

The column names of the hub's data sets were taken from their cards and from public code that reads
them; each entry says which data set it is for.
"""

from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Mapping:
    """Which columns of a row hold the question and the answer, and which rows belong at all."""

    question: str = ""
    """Column, path or template of the problem's text."""
    answer: str = ""
    """Column, path or template of the final answer. Give this or `solution`."""
    solution: str = ""
    """Column of a worked solution that the answer is taken from, as `answer_from` says."""
    answer_from: str = ""
    r"""How the answer is taken from its column: "" as it stands; "boxed" the last \boxed{...}
    (several that stand together are one answer, as the verifier reads them in completions);
    "boxed_or_text" the last \boxed{...}, else all of it; "hashes" what follows the last ####;
    "units" without a bracket at the end, as in "9 (apples)"; "json" a JSON value, or a JSON list
    of answers that are all right."""
    unanswered: bool = False
    """A row without an answer is a problem too: it takes the majority of the strong attempts
    (difficulty.majority). `answer` and `solution` may then both be empty. For "math" only."""
    domain: str = ""
    """How answers are verified: "math" (when empty), "choice", "countdown", "gym" or "code"."""
    options: str = ""
    """Column of the options of a multiple-choice problem (domain "choice"): a list ("A)5" or plain
    texts), a dict from letter to text, or lists `label` and `text`."""
    where: list[str] = field(default_factory=list)
    """Conditions that a row must meet to belong to the source: `Year < 2024`, `kind == "open"`,
    `level not in ["1", "2"]`. The value is JSON or a bare word. Text is compared as a number where
    the value is one; text that is no number, and null, are unequal to everything and meet neither
    `<`, `<=`, `>` nor `>=`."""
    metadata: list[str] = field(default_factory=list)
    """Columns (or paths) kept in the problem's metadata, where a row has them."""


READY: dict[str, Mapping] = {
    # AI-MO/NuminaMath-CoT, 859,494 rows
    "numina_math_cot": Mapping(
        question="problem", solution="solution", answer_from="boxed", metadata=["source"]
    ),
    # AI-MO/NuminaMath-1.5, 896,215 rows; proofs have the answer "proof"
    "numina_math_1.5": Mapping(
        question="problem",
        answer="answer",
        where=[
            'problem_is_valid == "Yes"',
            'solution_is_valid == "Yes"',
            'question_type != "proof"',
            'answer not in ["proof", "notfound"]',
        ],
        metadata=["source", "problem_type", "question_type", "synthetic"],
    ),
    # agentica-org/DeepScaleR-Preview-Dataset, 40.3k rows
    "deepscaler": Mapping(question="problem", answer="answer"),
    # SynthLabsAI/Big-Math-RL-Verified, 251,122 rows
    "big_math": Mapping(
        question="problem", answer="answer", metadata=["source", "domain", "llama8b_solve_rate"]
    ),
    # zwhe99/DeepMath-103K
    "deepmath": Mapping(
        question="question", answer="final_answer", metadata=["difficulty", "topic"]
    ),
    # nvidia/OpenMathReasoning, split cot: 3.2M chains over 306k problems (exact dedup folds them)
    "open_math_reasoning": Mapping(
        question="problem",
        answer="expected_answer",
        where=['problem_type == "has_answer_extracted"'],
        metadata=["problem_source", "pass_rate_72b_tir"],
    ),
    # di-zhang-fdu/AIME_1983_2024, about 930 rows; 2024 is a benchmark
    "aime_1983_2023": Mapping(
        question="Question",
        answer="Answer",
        where=["Year < 2024"],
        metadata=["ID", "Year", "Problem Number", "Part"],
    ),
    # EleutherAI/hendrycks_math, 12.5k rows in seven subsets (subset: "*"); MATH-500 is part of its
    # test split and leaves with the decontamination
    "hendrycks_math": Mapping(
        question="problem", solution="solution", answer_from="boxed", metadata=["level", "type"]
    ),
    # Open-Reasoner-Zero/orz_math_57k_collection: a list of turns for each problem
    "orz_math": Mapping(question="0.value", answer="1.ground_truth.value"),
    # open-r1/DAPO-Math-17k-Processed, subset en; "solution" is the final answer
    "dapo_math": Mapping(question="prompt", answer="solution", metadata=["data_source"]),
    # Skywork/Skywork-OR1-RL-Data, split math; the answer is a JSON list, mostly of one
    "skywork_or1": Mapping(
        question="prompt[0].content",
        answer="reward_model.ground_truth",
        answer_from="json",
        metadata=["data_source", "extra_info.model_difficulty"],
    ),
    # open-r1/OpenR1-Math-220k
    "openr1_math": Mapping(
        question="problem", answer="answer", metadata=["problem_type", "question_type", "source"]
    ),
    # GAIR/LIMO (817 rows) and GAIR/LIMO-v2 (800 rows); the chain is in "solution"
    "limo": Mapping(question="question", answer="answer"),
    # simplescaling/s1K-1.1, 1,000 rows; "solution" is an answer or a worked solution
    "s1k": Mapping(
        question="question",
        solution="solution",
        answer_from="boxed_or_text",
        where=['cot_type == "math"'],
        metadata=["source_type", "cot_type"],
    ),
    # Jiayi-Pan/Countdown-Tasks-3to4; the question is TinyZero's
    "countdown": Mapping(
        question="Using the numbers {nums}, create an equation that equals {target}. You can use "
        "basic arithmetic operations (+, -, *, /) and each number can only be used once.",
        answer='{{"numbers": {nums}, "target": {target}, "use_all": true}}',
        domain="countdown",
    ),
    # openai/gsm8k and its JSONL files
    "gsm8k": Mapping(question="question", solution="answer", answer_from="hashes"),
    # EleutherAI/asdiv
    "asdiv": Mapping(
        question="{body} {question}",
        answer="answer",
        answer_from="units",
        metadata=["solution_type"],
    ),
    # MAWPS as input and target
    "mawps": Mapping(question="input", answer="target", metadata=["type"]),
    # ChilleD/SVAMP
    "svamp": Mapping(question="{Body} {Question}", answer="Answer", metadata=["Type"]),
    # deepmind/aqua_rat, and AGIEval's AQuA
    "aqua": Mapping(question="question", answer="correct", options="options", domain="choice"),
}
