#!/usr/bin/env bash
# slurm-one-node.sh FOLDER: a Slurm cluster of this machine, as root, without systemd and without cgroups. Everything it writes lies in FOLDER:
# configuration, keys, sockets, logs, process ids. It stays in the foreground until its standard input ends, then takes the daemons down.
# It says "ready" when a job can be submitted with SLURM_CONF=FOLDER/slurm.conf; exit code 3 and one line when it cannot work here.
set -euo pipefail
folder=$(realpath "$1")
cpus=$(nproc)
host=$(hostname -s)

unable() { echo "slurm-one-node: $*" >&2; exit 3; }
[ "$(id -u)" = 0 ] || unable "slurmd needs root"
for program in slurmctld slurmd munged sbatch srun; do
  command -v "$program" >/dev/null || unable "$program is not installed (packages slurm-wlm and munge)"
done

mkdir -p "$folder"/{state,spool,log}
chmod 755 "$folder"
# munge refuses a key or a socket in a folder that others may write; -F would only warn
head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
cat > "$folder/slurm.conf" <<CONF
ClusterName=z1
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
InactiveLimit=0
KillWait=10
MinJobAge=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
export SLURM_CONF=$folder/slurm.conf

pids=()
down() {
  scancel --user=root --quiet 2>/dev/null || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap down EXIT

munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/log/munged.log" --seed-file="$folder/munged.seed" --num-threads=2 >"$folder/log/munged.out" 2>&1 & pids+=($!)
for _ in $(seq 50); do [ -S "$folder/munge.socket" ] && break; sleep 0.1; done
[ -S "$folder/munge.socket" ] || unable "munged did not start: $(tail -n 1 "$folder/log/munged.out")"
slurmctld -D -f "$SLURM_CONF" >"$folder/log/slurmctld.out" 2>&1 & pids+=($!)
slurmd -D -f "$SLURM_CONF" -N "$host" >"$folder/log/slurmd.out" 2>&1 & pids+=($!)
for _ in $(seq 150); do
  if sinfo --noheader --format=%T 2>/dev/null | grep -qx idle; then echo ready; cat >/dev/null; exit 0; fi
  sleep 0.1
done
unable "no node came up in 15 s: $(tail -n 2 "$folder/log/slurmctld.log" "$folder/log/slurmd.log" 2>/dev/null | tr '\n' ' ')"
