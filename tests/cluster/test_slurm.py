"""cluster/slurm.sbatch on a Slurm of one node, and what is checked of cluster/skypilot.yaml.

`ray symmetric-run` ends with `ray stop`, which stops every Ray that it sees: the node has process
numbers of its own, in which there is no other. That needs root, and Debian's packages slurmctld,
slurmd and slurm-client.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.heads import ROOT, free_port

SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={port}
SlurmdPort={other}
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""
START = """
slurmctld -D > {folder}/slurmctld.log 2>&1 &
slurmd -D > {folder}/slurmd.log 2>&1 &
until sinfo 2> /dev/null | grep -q idle; do sleep 0.2; done
sbatch --wait --gpus-per-node=0 --output={folder}/job.log cluster/slurm.sbatch "$@"
"""
JOB = """
import os, ray
ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
answer = ray.get(ray.remote(num_cpus=1)(lambda: 6 * 7).remote())
print("CPUs", ray.cluster_resources()["CPU"], "answer", answer)
raise SystemExit(3)
"""


def isolated() -> bool:
    """Whether a process here can have process numbers of its own."""
    tools = all(map(shutil.which, ("unshare", "slurmctld", "slurmd", "sbatch")))
    return os.geteuid() == 0 and tools


@pytest.mark.ray
def test_a_batch_job_has_a_ray_of_its_own_and_ends_with_its_commands_code(tmp_path: Path) -> None:
    if not isolated():
        pytest.skip("needs root and Debian's packages slurmctld, slurmd, slurm-client")
    for name in ("state", "spool"):
        (tmp_path / name).mkdir()
    settings = SETTINGS.format(
        folder=tmp_path, host=os.uname().nodename, port=free_port(), other=free_port()
    )
    (tmp_path / "slurm.conf").write_text(settings)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"SLURM_CONF": str(tmp_path / "slurm.conf"), "RAY_PORT": str(free_port())}
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c",
         START.format(folder=tmp_path), "start", "python", "-c", JOB],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    log = (tmp_path / "job.log").read_text()
    assert "CPUs 2.0 answer 42" in log
    assert done.returncode == 3, log


@pytest.mark.process
def test_a_batch_job_without_a_command_says_so() -> None:
    done = subprocess.run(
        ["bash", "cluster/slurm.sbatch"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no command" in done.stderr


@pytest.mark.process
def test_skypilots_file_names_our_image_and_a_job() -> None:
    found = yaml.safe_load((ROOT / "cluster/skypilot.yaml").read_text())
    assert set(found) <= {"name", "workdir", "num_nodes", "resources", "envs", "run"}
    image = yaml.safe_load((ROOT / "cluster.yaml").read_text())["docker"]["image"]
    assert found["resources"]["image_id"] == f"docker:{image}"
    assert (ROOT / f"conf/{found['envs']['JOB']}/{found['envs']['PRESET']}.yaml").is_file()
    script = subprocess.run(["bash", "-n"], input=found["run"], text=True, check=False)
    assert script.returncode == 0
