# The claim: which checkout owns the test bed of this machine, and which command can change it now.
#
# The bridge, the tables of the packet filter and the control groups exist once
# per machine. While processes of one checkout's test bed run, other checkouts
# are refused. When they have ended, the next checkout removes the remains.
# shellcheck shell=bash

CLAIM=${QS_TESTBED_CLAIM:-/run/queuescaler-testbed}
CLAIM_FD=

# take_lock FILE VARIABLE MODE: waits for the lock (MODE -x exclusive or -s
# shared) and stores its descriptor in the variable. The holder can remove the
# file, so the loop checks that the locked file still has that name.
take_lock() {
  local file=$1 variable=$2 mode=$3 fd
  while true; do
    mkdir -p "${file%/*}"
    exec {fd}>>"$file" || continue
    if ! flock -n "$mode" "$fd"; then
      say "waiting for another testbed command"
      flock -w 1800 "$mode" "$fd" || die "another testbed command has held $file for half an hour: find it with 'fuser $file'"
    fi
    if [[ /proc/$BASHPID/fd/$fd -ef $file ]]; then break; fi
    exec {fd}>&-
  done
  printf -v "$variable" '%s' "$fd"
}

# claim_exclusively: for up and down. No other command can run at the same time.
claim_exclusively() {
  require_root
  check_state_path
  take_lock "$CLAIM/lock" CLAIM_FD -x
  refuse_other_owner
}

# claim_shared: for commands that can run at the same time, each on its own
# broker. Only up and down are kept out.
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

# own: records the claim. From then on other checkouts are refused.
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
    die "the test bed of ${owner%:*} is up on this machine, and a machine can have one only: take it down with QS_TESTBED_STATE=$state ${owner%:*}/tests/testbed/testbed down"
  fi
  say "removing the remains of a test bed of ${owner%:*} whose processes have ended"
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
