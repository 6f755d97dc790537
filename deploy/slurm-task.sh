#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One task of a Slurm step: names the step's hosts as workers, then runs the command.
# srun starts it once on each node (see train.slurm).
set -euo pipefail

: "${SLURM_PROCID:?wanted to run under srun, found no SLURM_PROCID}"
: "${SLURM_STEP_NODELIST:?wanted to run under srun, found no SLURM_STEP_NODELIST}"
# Jobs that share a node must not share a port.
port=$((20000 + SLURM_JOB_ID % 10000))
mapfile -t hosts < <(scontrol show hostnames "$SLURM_STEP_NODELIST")
exec "$(dirname "$0")/with-tf-config.sh" \
  "$SLURM_PROCID" "${hosts[@]/%/:$port}" -- "$@"
