# Shared functions: paths, messages, waiting, ports. They start no process and
# write to the state folder only.
# shellcheck shell=bash

STATE=${QS_TESTBED_STATE:-/var/tmp/queuescaler-testbed}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/queuescaler-testbed
CHECKOUT=$(cd "$TESTBED_DIR/../.." && pwd -P)

say() { printf 'testbed: %s\n' "$*" >&2; }

die() {
  printf 'testbed: error: %s\n' "$*" >&2
  exit 1
}

# The state folder contains sockets, whose paths are limited to 107 bytes. The
# node mounts its own /run, /var/lib and /var/log over those of the machine.
check_state_path() {
  [[ $STATE == /* ]] || die "QS_TESTBED_STATE must be an absolute path, not '$STATE'"
  [[ $STATE =~ ^[A-Za-z0-9/._-]+$ ]] ||
    die "QS_TESTBED_STATE can contain only letters, digits and /._-, not '$STATE'"
  ((${#STATE} <= 60)) || die "QS_TESTBED_STATE is longer than 60 bytes: choose a shorter path"
  case $STATE/ in
    /run/* | /var/run/* | /var/lib/* | /var/log/*)
      die "QS_TESTBED_STATE cannot be below /run, /var/lib or /var/log: choose another folder" ;;
  esac
}

require_root() {
  [[ $EUID == 0 ]] ||
    die "the test bed creates network interfaces and containers: run it as root, or set KUBECONFIG to use a cluster of your own"
}

# hash_of TEXT-OR-FILES...: a short name for exactly these inputs.
hash_of() {
  local input
  for input in "$@"; do
    if [[ -f $input ]]; then cat "$input"; else printf '%s\n' "$input"; fi
  done | sha256sum | cut -c1-16
}

# wait_for SECONDS WHAT PROCESS COMMAND...: waits until the command succeeds.
# Fails when the time is over or the process (a recorded name, or -) has ended.
wait_for() {
  local seconds=$1 what=$2 process=$3 deadline
  shift 3
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if [[ $process != - ]] && ! process_alive "$process"; then
      show_log "$process"
      die "$what did not come up: its process ended"
    fi
    if ((SECONDS >= deadline)); then
      [[ $process == - ]] || show_log "$process"
      die "$what did not come up within $seconds s"
    fi
    sleep 0.1
  done
}

show_log() {
  local file
  file=$(log_of "$1")
  [[ -s $file ]] || return 0
  printf 'testbed: last lines of %s:\n' "$file" >&2
  tail -n 15 "$file" | cut -c1-400 | sed 's/^/  | /' >&2
}

# together NAME...: runs the functions at the same time. Fails if one of them fails.
together() {
  local name pid failed=0 pids=()
  for name in "$@"; do
    "$name" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || failed=1
  done
  ((failed == 0)) || exit 1
}

# port_open ADDRESS PORT
port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# reserve_port OWNER [BELOW]: prints a port that is free and not reserved by another part of this test bed. With BELOW,
# the port that is so much lower is reserved as well. Ports are below the range of the kernel's ephemeral ports.
reserve_port() {
  local owner=$1 below=${2:-0} attempt port
  mkdir -p "$STATE/ports"
  for attempt in {1..500}; do
    port=$((20000 + below + (RANDOM + attempt) % (10000 - below)))
    take_port "$owner" "$port" || continue
    if ((below == 0)) || take_port "$owner" $((port - below)); then
      printf '%s\n' "$port"
      return
    fi
    rm -f "$STATE/ports/$port"
  done
  die "no free port between 20000 and 29999: stop programs that listen there"
}

# take_port OWNER PORT: fails if the port is in use or reserved.
take_port() {
  [[ -z $(ss -Hltn "sport = :$2") ]] && (set -o noclobber && printf '%s\n' "$1" >"$STATE/ports/$2") 2>/dev/null
}

# release_ports OWNER
release_ports() {
  local file
  for file in "$STATE"/ports/*; do
    if [[ -f $file && $(<"$file") == "$1" ]]; then rm -f "$file"; fi
  done
}
