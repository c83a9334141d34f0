"""The plan of `python -m tests.chaos.cycle`; its parts run small in the tests of each package."""

from collections import Counter

from tests.chaos.cycle import PHASES, schedule


def test_the_seed_fixes_the_faults_and_each_phase_has_its_share() -> None:
    planned = schedule(3, 24)
    assert planned == schedule(3, 24) != schedule(4, 24)
    assert set(Counter(phase for phase, _, _ in planned).values()) == {6}
    for phase, (_, kinds, _) in PHASES.items():
        assert {kind for name, kind, _ in planned if name == phase} == set(kinds)
