"""A batch script of Slurm: one server over the nodes of a job, one process a device.

`torchrun` starts the processes of a node and lets the nodes find each other at the first of them.
Slurm warns the script before its time is over, and the script lets the server drain.
Sources: sbatch(1); torchrun's elastic launch.
"""

import shlex

from puna.plan.deploy.service import KEYS, PORT, Service

_SCRIPT = """\
#!/bin/bash
# {name} on Slurm: sbatch {name}.sbatch
# {keys} must be set in the environment of sbatch. The address is in the first lines of the log.
# Numbers: {numbers}
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{gpus}#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@{warning_s}
#SBATCH --output={name}-%j.log
#SBATCH --exclusive
set -euo pipefail

: "${{{keys}:?one or more keys, with commas between, are expected}}"
head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
echo "serving at http://$head_node:{port}"
export OMP_NUM_THREADS={threads} HF_HUB_OFFLINE=1

# In the background, so that the signal reaches this script at once; then it is handed on.
{command} &
server=$!
trap 'scancel --signal=TERM "$SLURM_JOB_ID.0"' TERM INT
# The first wait ends with the signal, the second with the server.
wait "$server" || wait "$server"
"""


def slurm(service: Service) -> dict[str, str]:
    """Return the script.

    Raises:
        RequestError: several servers of several devices were asked for.
    """
    service.one_if_spread(where="a job")
    needs = service.needs
    words = service.serve(service.model, replicas=service.replicas)
    start = "srun --kill-on-bad-exit=1 puna"
    if service.is_spread:
        # Rank 0 is on the first node, where the address is: each node must know its number.
        start = (
            "export head_node\n# shellcheck disable=SC2016  # each node has its own number\n"
            f"srun --kill-on-bad-exit=1 bash -c 'exec torchrun --nnodes={needs.nodes} \\\n"
            f"  --nproc-per-node={needs.gpus_a_node} \\\n"
            '  --node-rank="$SLURM_NODEID" --master-addr="$head_node" --master-port=29500 \\\n'
            '  -m puna "$@"\' puna'
        )
    share = needs.gpus * service.replicas if not service.is_spread else needs.gpus_a_node
    gpus = f"#SBATCH --gpus-per-node={share}\n" if needs.gpu else ""
    processes = max(1, needs.gpus_a_node) * service.replicas
    script = _SCRIPT.format(
        name=service.name, keys=KEYS, nodes=needs.nodes, gpus=gpus, port=PORT,
        cpus=service.cpus * service.replicas, threads=max(1, service.cpus // processes),
        memory=service.memory_gib * (1 if needs.gpu else service.replicas),
        warning_s=service.stop_s + 30,  # Slurm looks at the clock twice a minute
        command=f"{start} {_wrapped(words)}",
        numbers=service.numbers,
    )  # fmt: skip
    return {f"{service.name}.sbatch": script}


def _wrapped(words: tuple[str, ...]) -> str:
    """Return words for a shell, an option a line."""
    text = ""
    for word in words:
        text += (" \\\n  " if word.startswith("--") else " ") + shlex.quote(word)
    return text.strip()
