#!/usr/bin/env bash
# A cluster of this one machine with Slurm, for tests on Debian or Ubuntu, as root: tools/slurm.sh start | stop
# It has two partitions: `main`, the default, and `urgent`, whose jobs preempt those of `main`, which are requeued.
# While it runs, the contracts of the launcher `slurm` are tested too: pytest tests/testing -k slurm
set -euo pipefail

conf=/etc/slurm/slurm.conf
state=/var/lib/sertk-slurm
mark="# written by tools/slurm.sh of sertk"

die() {
    echo "slurm: $*" >&2
    exit 1
}

start() {
    [ ! -e "$conf" ] || grep -qF "$mark" "$conf" || die "$conf is not ours: this machine has a Slurm of its own."
    if ! command -v slurmctld munged >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y slurm-wlm munge
    fi
    mkdir -p /etc/slurm "$state/ctld" "$state/d" /run/munge
    chown munge: /run/munge
    cat >"$conf" <<EOF
$mark
ClusterName=sertk
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPidFile=$state/ctld.pid
SlurmdPidFile=$state/d.pid
SlurmctldLogFile=$state/ctld.log
SlurmdLogFile=$state/d.log
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,requeue_delay=1
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
EOF
    pgrep -x munged >/dev/null || runuser -u munge -- munged
    [ -e "$state/ctld.pid" ] && kill -0 "$(cat "$state/ctld.pid")" 2>/dev/null || slurmctld
    [ -e "$state/d.pid" ] && kill -0 "$(cat "$state/d.pid")" 2>/dev/null || slurmd
    for _ in $(seq 60); do
        ! sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed|allocated' || break
        sleep 0.5
    done
    sinfo
}

stop() {
    grep -qF "$mark" "$conf" 2>/dev/null || die "$conf is not ours."
    for name in d ctld; do
        [ ! -e "$state/$name.pid" ] || kill "$(cat "$state/$name.pid")" || true
    done
    sleep 2
    rm -rf "$state" "$conf"
}

case "${1:-}" in
start | stop) "$1" ;;
*) die "start or stop?" ;;
esac
