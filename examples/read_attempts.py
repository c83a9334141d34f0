"""A run's attempts with DuckDB: which problems are hardest, and how long right answers are.

python examples/read_attempts.py [store/runs/own]
"""

import sys

import duckdb

from limo_ray import open_run

if __name__ == "__main__":
    run = open_run(sys.argv[1] if len(sys.argv) > 1 else "store/runs/own")
    attempts, ledger = run.table("attempts"), run.table("ledger")  # DuckDB reads Arrow by name
    assert len(attempts) and len(ledger)
    print(
        duckdb.sql(
            """
            select stage, verdict, count(*) as attempts, avg(completion_tokens) as tokens
            from attempts group by stage, verdict order by stage, attempts desc
            """
        )
    )
    print(
        duckdb.sql(
            """
            select problem_id, ledger.stage, reason, avg((verdict = 'correct')::int) as pass_rate
            from attempts join ledger using (problem_id)
            where attempts.stage like '%strong%'
            group by all order by pass_rate, problem_id limit 5
            """
        )
    )
