"""Share of rollouts that carry gradient, by how problems and groups are chosen.

    python bench/rl.py [--steps 20] [--problems 16] [--pool 400]

Pass rates are made up (Beta(0.6, 0.3), as in bench/sampling.py) and do not move; the choice, the
drawing of groups and the counting are those of a training. Needs no model.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.core.records import Problem, problem_id
from limo_ray.engines.base import EngineConfig
from limo_ray.rl.choice import PassRates
from limo_ray.rl.config import ChoiceConfig, RLConfig, RolloutsConfig
from limo_ray.rl.rollouts import Order, RolloutEngine
from limo_ray.storage.store import Store

SIZE = 8
ARMS = {
    "any problem, whole groups": ChoiceConfig(by="uniform", probe=0, most_tried=1),
    "the same, resampled (DAPO)": ChoiceConfig(by="uniform", probe=0, most_tried=8),
    "any problem, given up early": ChoiceConfig(by="uniform", probe=4, most_tried=8),
    "by pass rate, given up early": ChoiceConfig(by="pass_rate", probe=4, most_tried=8),
}


async def share(choice: ChoiceConfig, steps: int, wanted: int, pool: list[Problem]) -> float:
    """Rollouts in mixed groups over all rollouts, of a training of so many steps."""
    config = RLConfig(model="none", choice=choice, rollouts=RolloutsConfig(size=SIZE))
    script = {"alpha": 0.6, "beta": 0.3, "tokens": 1, "wrong": "-1"}
    engine = EngineConfig(kind="scripted", model="none", max_num_seqs=64, script=script)
    rates = PassRates([each.id for each in pool], {}, choice)
    drawn = carried = 0
    with tempfile.TemporaryDirectory() as folder:
        actor = RolloutEngine(config, engine, Store(folder))
        for step in range(steps):
            queue = rates.queue(SIZE, wanted * choice.most_tried, (0, step))
            order = Order(
                fingerprint="0" * 16, part=f"{step:06d}", weights="",
                problems=[pool[place] for place in queue],
                groups=wanted, rollouts=SIZE, probe=choice.probe,
            )  # fmt: skip
            groups = (await actor.draw(order)).groups
            rates.observe(group.outcome() for group in groups)
            drawn += sum(len(group.rollouts) for group in groups)
            carried += sum(len(group.rollouts) for group in groups if group.mixed)
        await actor.stop()
    return carried / drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("steps", 20), ("problems", 16), ("pool", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    pool = [
        Problem(id=problem_id(f"What is {n} + {n}?"), question=f"What is {n} + {n}?",
                answer=str(2 * n), source="sums")
        for n in range(given.pool)
    ]  # fmt: skip
    for name, choice in ARMS.items():
        found = asyncio.run(share(choice, given.steps, given.problems, pool))
        sys.stdout.write(f"{found:6.1%}  {name}\n")


if __name__ == "__main__":
    main()
