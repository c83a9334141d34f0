"""A pool of made-up problems, for tests and benchmarks with the scripted engine."""

import pyarrow as pa

from limo_ray.core.records import SAMPLED, order, problem_id


def pool(count: int) -> pa.Table:
    """So many sums, as `limo_ray.sampling.ray_stage.sample` takes problems."""
    rows = []
    for number in range(count):
        question = f"What is {number} + {number}?"
        name = problem_id(question)
        rows.append(
            {
                "id": name, "question": question, "answer": str(2 * number), "source": "sums",
                "domain": "math", "metadata": "{}", "file": "", "line": number,
                "order": order(0, name), "alive": True, "outcomes": "[]",
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SAMPLED)
