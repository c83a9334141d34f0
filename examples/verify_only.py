"""The verifier alone: is this completion's answer the gold one?

python examples/verify_only.py
"""

from limo_ray import Verifier
from limo_ray.verify import verify
from limo_ray.verify.rewards import compute_score, reward_correct

if __name__ == "__main__":
    # one answer, in this process, without a time limit
    print(verify("1/2", r"Half of it, so \boxed{0.5}."))
    print(verify("1/2", r"So the answer is \boxed{\frac{2}{3}}."))

    # many, with a hard limit of time for each
    with Verifier(workers=2) as verifier:
        triples = [("6", r"\boxed{6}", "math"), (r"x^2", r"\boxed{x \cdot x}", "math")]
        print([str(verdict) for verdict in verifier.verify_many(triples)])

    # the reward functions of verl and TRL
    print(compute_score("limo_ray/math", r"\boxed{12}", "12"))
    print(reward_correct(prompts=["2 + 2?"], completions=[r"\boxed{5}"], answer=["4"]))
