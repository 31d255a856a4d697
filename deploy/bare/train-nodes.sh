#!/usr/bin/env bash
# train-nodes.sh NODES NODE MASTER PER_NODE VERB [ARGUMENTS]    to be started on each node by hand: no scheduler, no ssh, no systemd
#   NODES     how many nodes take part          NODE      which one this is, from 0
#   MASTER    host name or address of node 0    PER_NODE  ranks (GPUs) of this node, the same number on each
#   e.g. on the second of two nodes:  deploy/bare/train-nodes.sh 2 1 node0 8 train recipe.yaml --out /shared/run --device cuda --resume
# Rank 0 listens on MASTER_PORT (29400). Each rank's output goes to rank-R.log in LOGS (.), rank 0's to the terminal too. SIGTERM and Ctrl-C go
# to every rank of this node, and through them to all: they save the same step and exit 0. Z1 names the program (z1).
set -euo pipefail
if [ $# -lt 5 ]; then sed -n '2,8p' "$0" | cut -c3- >&2; exit 2; fi
nodes=$1 node=$2 master=$3 per_node=$4; shift 4
for number in "$nodes" "$node" "$per_node"; do
  case $number in ''|*[!0-9]*) echo "train-nodes.sh: '$number' is no number" >&2; exit 2 ;; esac
done
if [ "$node" -ge "$nodes" ]; then echo "train-nodes.sh: node $node of $nodes: nodes go from 0 to $((nodes - 1))" >&2; exit 2; fi
logs=${LOGS:-.}
mkdir -p "$logs"

pids=()
forward() { for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done; }
trap forward TERM INT HUP

set -m                               # process groups of their own: a terminal's Ctrl-C comes here alone and is forwarded once
for ((local_rank = 0; local_rank < per_node; local_rank++)); do
  rank=$((node * per_node + local_rank))
  : >"$logs/rank-$rank.log"          # there before the rank is: rank 0's is shown from its start
  RANK=$rank WORLD_SIZE=$((nodes * per_node)) LOCAL_RANK=$local_rank LOCAL_WORLD_SIZE=$per_node MASTER_ADDR=$master \
    MASTER_PORT=${MASTER_PORT:-29400} "${Z1:-z1}" "$@" </dev/null >"$logs/rank-$rank.log" 2>&1 &
  pids+=($!)
done
set +m
if [ "$node" = 0 ]; then tail -n +1 --pid="${pids[0]}" -f "$logs/rank-0.log" & shown=$!; fi

code=0
for pid in "${pids[@]}"; do
  while true; do
    if wait "$pid"; then one=0; else one=$?; fi
    if ! kill -0 "$pid" 2>/dev/null; then break; fi         # else the wait was ended by a signal, which has been forwarded
  done
  if [ "$code" = 0 ]; then code=$one; fi
done
if [ -n "${shown:-}" ]; then wait "$shown" || true; fi
if [ "$code" != 0 ]; then echo "train-nodes.sh: a rank of node $node failed (exit code $code); see $logs/rank-*.log" >&2; fi
exit "$code"
