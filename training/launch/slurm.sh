#!/bin/bash
# Slurm: sbatch training/launch/slurm.sh RECIPE --data DIR --runs SHARED
# One task a node starts accelerate, which starts a process a GPU. Ask for other nodes and GPUs behind sbatch:
#   sbatch --nodes 4 --gpus-per-node 8 training/launch/slurm.sh ...
# A job that was cut off by its time limit or by a node's end is put back into the queue and goes on at its last
# checkpoint: what was done is not done again.
#SBATCH --job-name=newsie
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=newsie-%j.log
#SBATCH --signal=B:USR1@120
set -euo pipefail

requeue() { scontrol requeue "$SLURM_JOB_ID"; }
trap requeue USR1 # two minutes before the time limit

GPUS=${SLURM_GPUS_ON_NODE:-${SLURM_GPUS_PER_NODE:-1}}
NODES=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
MAIN=${NODES%%$'\n'*}
export GPUS MAIN

# In the background, so that the trap is heard. $SLURM_NODEID is another one on each node.
srun --kill-on-bad-exit=1 bash -c 'accelerate launch \
  --multi_gpu --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * GPUS))" \
  --machine_rank "$SLURM_NODEID" --main_process_ip "$MAIN" --main_process_port 29500 \
  -m newsie.training "$@"' newsie "$@" &
wait $!
