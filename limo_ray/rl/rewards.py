"""What a verdict is worth. Pure.

TinyZero's rule (github.com/Jiayi-Pan/TinyZero, verl/utils/reward_score/countdown.py): 1 for a right
answer, `format_reward` for one that can be read but is wrong, 0 for none.
"""

from limo_ray.core.records import Verdict
from limo_ray.rl.config import RewardConfig


def reward(verdict: Verdict, config: RewardConfig) -> float | None:
    """The reward of a rollout; None where there is no judgement, because the checker failed."""
    match verdict:
        case Verdict.CORRECT:
            return 1.0
        case Verdict.WRONG:
            return config.format_reward
        case Verdict.LOOPED:
            return config.loop_reward
        case Verdict.TIMEOUT | Verdict.ERROR:
            return None
    return 0.0
