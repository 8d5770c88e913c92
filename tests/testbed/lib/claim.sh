# One test bed a machine: who has it, and who may change it now.
#
# The bridge, the packet filter's tables and the control groups exist once on
# a machine, so a second checkout is refused while the first one's processes
# live. What a dead one left is removed before a new one begins.
# shellcheck shell=bash

CLAIM=${QS_TESTBED_CLAIM:-/run/queuescaler-testbed}
CLAIM_FD=

# take_lock FILE VARIABLE MODE: waits for the lock (MODE -x alone or -s
# shared) and leaves its descriptor in the variable. The file may be removed
# by its holder, so what was locked must still be the file of that name.
take_lock() {
  local file=$1 variable=$2 mode=$3 fd
  while true; do
    mkdir -p "${file%/*}"
    exec {fd}>>"$file" || continue
    if ! flock -n "$mode" "$fd"; then
      say "waits for another testbed command"
      flock -w 1800 "$mode" "$fd" || die "another testbed command has held $file for half an hour: see what it does with 'fuser $file'"
    fi
    if [[ /proc/$BASHPID/fd/$fd -ef $file ]]; then break; fi
    exec {fd}>&-
  done
  printf -v "$variable" '%s' "$fd"
}

# claim_exclusively: for up and down, which no other command may run beside.
claim_exclusively() {
  require_root
  check_state_path
  take_lock "$CLAIM/lock" CLAIM_FD -x
  refuse_other_owner
}

# claim_shared: for commands that may run beside each other, each on its own
# broker. They only need that nobody takes the test bed up or down meanwhile.
claim_shared() {
  require_root
  check_state_path
  take_lock "$CLAIM/lock" CLAIM_FD -s
  until [[ $(owner) == "$CHECKOUT:$STATE" ]] && ip link show "$BRIDGE" >/dev/null 2>&1; do
    exec {CLAIM_FD}>&-
    claim_exclusively
    own
    flock -s "$CLAIM_FD"
  done
}

# own: writes the claim down; from here on others are refused.
own() {
  mkdir -p "$STATE"
  printf '%s:%s\n' "$CHECKOUT" "$STATE" >"$CLAIM/owner"
  network_up
}

# owner: prints CHECKOUT:STATE of the test bed of this machine, if there is one.
owner() { cat "$CLAIM/owner" 2>/dev/null || true; }

refuse_other_owner() {
  local owner state
  owner=$(owner)
  [[ -n $owner && $owner != "$CHECKOUT:$STATE" ]] || return 0
  state=${owner##*:}
  if any_process_alive "$state"; then
    die "the test bed of ${owner%:*} is up on this machine, and there can be one only: take it down with QS_TESTBED_STATE=$state ${owner%:*}/tests/testbed/testbed down"
  fi
  say "removes what a dead test bed of ${owner%:*} left"
  QS_TESTBED_STATE=$state "$TESTBED_DIR/testbed" remove-dead
}

disown_claim() { rm -rf "$CLAIM"; }

# with_lock NAME COMMAND...: one at a time for each name.
with_lock() {
  local name=$1 lock
  shift
  take_lock "$STATE/locks/$name" lock -x
  "$@"
  exec {lock}>&-
}
