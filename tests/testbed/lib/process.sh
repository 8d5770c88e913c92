# Processes that run on after the command: each has a session of its own and a
# record, and is signalled by its record only. A record is the process id and its
# start time, so that a process that reuses the id is never signalled.
# shellcheck shell=bash

record_of() { printf '%s/processes/%s\n' "$STATE" "$1"; }
log_of() { printf '%s/logs/%s.log\n' "$STATE" "$1"; }

# start_time PID: prints the start time of a process that is not a zombie, in the kernel's clock ticks.
start_time() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  local fields
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z && ${fields[0]} != X ]] || return 1
  printf '%s\n' "${fields[19]}"
}

# process_id NAME: prints the id of the recorded process if it is alive.
process_id() {
  local pid started
  { read -r pid started <"$(record_of "$1")"; } 2>/dev/null || return 1
  [[ $(start_time "$pid") == "$started" ]] || return 1
  printf '%s\n' "$pid"
}

process_alive() { process_id "$1" >/dev/null; }

# group_of NAME: prints the id of the recorded process group if a member of it is
# alive, because children can outlive the first process. The kernel does not reuse
# the id while the group has a member.
group_of() {
  local pid started now
  { read -r pid started <"$(record_of "$1")"; } 2>/dev/null || return 1
  if now=$(start_time "$pid"); then
    [[ $now == "$started" ]] || return 1
  elif group_gone "$pid"; then
    return 1
  fi
  printf '%s\n' "$pid"
}

# process_start NAME COMMAND...: in a session of its own, so that its process
# group can be signalled, and without this shell's open files, because a lock or
# a pipe that stayed open would block others. The log is a new file.
process_start() {
  local name=$1 log pid
  shift
  process_stop "$name" KILL 10
  log=$(log_of "$name")
  mkdir -p "${log%/*}" "$STATE/processes"
  if [[ -s $log ]]; then mv -f "$log" "$log.before"; fi
  (
    for open in "/proc/$BASHPID/fd"/*; do
      open=${open##*/}
      ((open <= 2)) || eval "exec $open>&-"
    done
    exec setsid "$@" </dev/null >"$log" 2>&1
  ) &
  pid=$!
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$(record_of "$name")"
}

# process_signal SIGNAL NAME: to the whole group.
process_signal() {
  local pid
  pid=$(process_id "$2") || die "$2 is not running: 'testbed status' lists what is"
  kill -s "$1" -- "-$pid"
}

# group_gone PID: succeeds if the group has no member except zombies.
group_gone() {
  local stat state group
  for stat in /proc/[0-9]*/stat; do
    { read -r stat <"$stat"; } 2>/dev/null || continue
    read -r state _ group _ <<<"${stat##*) }"
    if [[ $group == "$1" && $state != Z && $state != X ]]; then return 1; fi
  done
}

# process_stop NAME SIGNAL SECONDS: sends SIGNAL, and KILL after SECONDS. No error
# if nothing is running.
process_stop() {
  local name=$1 signal=$2 seconds=$3 pid deadline
  if pid=$(group_of "$name"); then
    kill -s "$signal" -- "-$pid" 2>/dev/null || true
    kill -s CONT -- "-$pid" 2>/dev/null || true
    deadline=$((SECONDS + seconds))
    until group_gone "$pid"; do
      if ((SECONDS >= deadline)); then kill -s KILL -- "-$pid" 2>/dev/null || true; fi
      sleep 0.05
    done
  fi
  rm -f "$(record_of "$name")"
}

# processes_matching PATTERN: prints the recorded names, of live and of dead processes.
processes_matching() {
  local record
  for record in "$STATE"/processes/*; do
    # shellcheck disable=SC2053 # the right side is a pattern on purpose
    if [[ -f $record && ${record##*/} == $1 ]]; then printf '%s\n' "${record##*/}"; fi
  done
}

# any_process_alive STATE: succeeds if a process of the test bed in that folder is running.
any_process_alive() {
  local STATE=$1 name
  for name in $(processes_matching '*'); do
    if group_of "$name" >/dev/null; then return 0; fi
  done
  return 1
}
