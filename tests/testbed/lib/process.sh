# Processes that outlive the command: started apart, recorded, and only ever
# signalled by their record. A record is the process id and its start time, so
# that an id which the kernel has given to someone else is never hit.
# shellcheck shell=bash

record_of() { printf '%s/processes/%s\n' "$STATE" "$1"; }
log_of() { printf '%s/logs/%s.log\n' "$STATE" "$1"; }

# start_time PID: prints the kernel's start time of a process that is no zombie.
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

# group_of NAME: prints the id of the recorded process group if any member is
# alive: children may outlive the first process. The kernel gives that id to
# no other process while the group has a member.
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

# process_start NAME COMMAND...: in a session of its own (so that its process
# group can be signalled as one), with none of our open files: a lock or a
# pipe that it kept would keep others waiting. The log starts anew.
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
  pid=$(process_id "$2") || die "$2 does not run: 'testbed status' shows what does"
  kill -s "$1" -- "-$pid"
}

# group_gone PID: no member of the group is left, zombies aside.
group_gone() {
  local stat state group
  for stat in /proc/[0-9]*/stat; do
    { read -r stat <"$stat"; } 2>/dev/null || continue
    read -r state _ group _ <<<"${stat##*) }"
    if [[ $group == "$1" && $state != Z && $state != X ]]; then return 1; fi
  done
}

# process_stop NAME SIGNAL SECONDS: asks by SIGNAL, then kills. No error when
# nothing of it runs.
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

# processes_matching PATTERN: the recorded names, alive or not.
processes_matching() {
  local record
  for record in "$STATE"/processes/*; do
    # shellcheck disable=SC2053 # a pattern is what is wanted
    if [[ -f $record && ${record##*/} == $1 ]]; then printf '%s\n' "${record##*/}"; fi
  done
}

# any_process_alive STATE: whether anything of the test bed in that folder runs.
any_process_alive() {
  local STATE=$1 name
  for name in $(processes_matching '*'); do
    if group_of "$name" >/dev/null; then return 0; fi
  done
  return 1
}
