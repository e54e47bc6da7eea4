#!/bin/sh
# Several processes on the CPUs of one machine, with a share of the cores each:
#   PROCESSES=2 training/launch/cpus.sh RECIPE --data DIR
# torchrun, because `accelerate launch` starts one CPU process only, unless it is given MPI.
set -eu
: "${PROCESSES:=2}"
: "${OMP_NUM_THREADS:=$(($(nproc) / PROCESSES > 0 ? $(nproc) / PROCESSES : 1))}"
export OMP_NUM_THREADS
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc-per-node "$PROCESSES" \
  -m newsie.training "$@"
