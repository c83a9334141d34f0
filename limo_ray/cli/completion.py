"""Shell completion: the scripts for bash and zsh, and the candidates that they ask for."""

import sys
from typing import TYPE_CHECKING

from limo_ray.core.console import say

if TYPE_CHECKING:
    from limo_ray.cli.commands import Command

# Where nothing is offered the shell completes file names.
SCRIPTS = {
    "bash": """_limo_ray() {
  mapfile -t COMPREPLY < <(limo-ray complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _limo_ray limo-ray""",
    "zsh": """_limo_ray() {
  local -a found keys
  found=("${(@f)$(limo-ray complete "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
  keys=(${(M)found:#*=}) found=(${found:#*=})
  compadd -S '' -- $keys; compadd -- $found || _files
}
compdef _limo_ray limo-ray""",
}


def main(argv: list[str]) -> int:
    """Prints the script of a shell; returns the exit code."""
    if len(argv) != 1 or argv[0] not in SCRIPTS:
        sys.stderr.write(f"usage: limo-ray completion {' | '.join(SCRIPTS)}\n")
        return 2
    say(SCRIPTS[argv[0]])
    return 0


def candidates(commands: "dict[str, Command]", words: list[str]) -> list[str]:
    """What the last word can become.

    Args:
        words: of the command line after `limo-ray`, the last one unfinished, perhaps empty.
    """
    from limo_ray.cli.commands import named
    from limo_ray.cli.presets import presets
    from limo_ray.core.schema import keys

    *before, last = words or [""]
    if not before:
        offered = list(commands)
    elif before[0] not in commands or not commands[before[0]].schema:
        offered = []
    else:
        command = commands[before[0]]
        offered = [*presets(command.presets), "--dry-run", "--check", "--help"]
        offered += [f"{key.path}=" for key in keys(named(command.schema)()) if key.section is None]
    return [each for each in offered if each.startswith(last)]
