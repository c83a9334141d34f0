"""The verdicts on programs, and the walls, are the same for root and for nobody."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
# In a mount namespace of its own: Python is made visible where it lies in a closed folder.
SCRIPT = """
set -e
if [ "$CLOSED" ]; then
    mount --bind "$PREFIX" "$WORK/python"
    mount -t tmpfs -o mode=755 none "$CLOSED"
    mkdir -p "$PREFIX"
    mount --bind "$WORK/python" "$PREFIX"
fi
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all "$@"
"""


def closed(path: Path) -> Path | None:
    """The outermost folder of a path that others may not enter."""
    folders = [f for f in reversed(path.parents) if not f.stat().st_mode & 0o001]
    return folders[0] if folders else None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's walls are Linux's")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("what", ["test_code.py", "test_sandbox_attacks.py"])
def test_as_nobody(what: str, tmp_path: Path) -> None:
    if not shutil.which("setpriv") or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("mount namespaces are not allowed")
    prefix = Path(sys.base_prefix)
    own, venv = closed(ROOT / "x"), closed(Path(sys.prefix).resolve() / "x")
    if own or (venv and sys.prefix != sys.base_prefix):
        pytest.skip(f"nobody cannot read {own or venv}")
    work = Path("/var/tmp") / f"nobody-{os.getpid()}"
    temporary = work / "tmp"
    (work / "python").mkdir(parents=True)
    temporary.mkdir()
    os.chown(temporary, 65534, 65534)
    environment = os.environ | {
        "TMPDIR": str(temporary), "HOME": str(temporary), "PREFIX": str(prefix),
        "CLOSED": str(closed(prefix / "x") or ""), "PYTHONDONTWRITEBYTECODE": "1",
        "WORK": str(work),
    }  # fmt: skip
    try:
        done = subprocess.run(
            ["unshare", "-m", "bash", "-c", SCRIPT, "bash", sys.executable, "-m", "pytest", "-q",
             "-p", "no:cacheprovider", str(ROOT / "tests/verify" / what)],
            env=environment, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        assert not list(temporary.glob("verify-*"))
    finally:
        shutil.rmtree(work)
