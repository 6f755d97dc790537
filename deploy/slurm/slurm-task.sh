#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One task of a Slurm step: names the step's hosts as workers, then runs the command:
#   slurm-task.sh STATUS COMMAND…
# srun starts it once on each node (see train.slurm). A command that ends with 2 or 42
# leaves that in the file STATUS. 42, saved and stopped, is then no failure to Slurm,
# which would end the workers that leave a moment later.
set -euo pipefail

: "${SLURM_PROCID:?wanted to run under srun, found no SLURM_PROCID}"
: "${SLURM_STEP_NODELIST:?wanted to run under srun, found no SLURM_STEP_NODELIST}"
record=$1
shift
# Jobs that share a node must not share a port.
port=$((20000 + SLURM_JOB_ID % 10000))
mapfile -t hosts < <(scontrol show hostnames "$SLURM_STEP_NODELIST")
# Slurm signals this shell too, which has to outlive the command; its default action is
# restored in the command.
trap : TERM USR1
status=0
"$(dirname "$0")/with-tf-config.sh" \
  "$SLURM_PROCID" "${hosts[@]/%/:$port}" -- "$@" || status=$?
# Appended: a worker that is killed here must not empty what another one wrote.
case $status in 2 | 42) echo "$status" >>"$record" ;; esac
((status != 42)) || exit 0
exit "$status"
