# The whole test bed: up, down, status, and the variables for other programs.
# shellcheck shell=bash

testbed_up() {
  local part parts=("$@") begun=$SECONDS steps=()
  ((${#parts[@]} > 0)) || parts=(cluster kafka rabbitmq)
  for part in "${parts[@]}"; do
    [[ $part =~ ^(cluster|kafka|rabbitmq|activemq|artemis|pulsar|rocketmq)$ ]] ||
      die "the test bed has no part '$part': choose cluster, kafka, rabbitmq, activemq, artemis, pulsar or rocketmq"
    steps+=("part_$part")
  done
  claim_exclusively
  need "${BASE_NEEDS[@]}"
  own
  pki_up
  together "${steps[@]}"
  say "up after $((SECONDS - begun)) s: ${parts[*]}"
}

# testbed_check: fails early if something is missing that up needs and cannot install.
testbed_check() {
  require_root
  [[ -d $CACHE/kubernetes-$(kubernetes_hash) ]] || check_go
}

part_cluster() {
  # The build of Kubernetes needs no package, so it does not wait for their installation.
  together kubernetes_programs_quietly cluster_prepare
  cluster_up
}

kubernetes_programs_quietly() { kubernetes_programs >/dev/null; }

part_kafka() { kafka_up main --sasl; }

part_rabbitmq() { rabbitmq_up main; }

part_activemq() { broker_up activemq main; }

part_artemis() { broker_up artemis main; }

part_pulsar() { broker_up pulsar main; }

part_rocketmq() { broker_up rocketmq main; }

testbed_down() {
  claim_exclusively
  remove_everything
  disown_claim
  say "down"
}

# remove_everything: also after all processes were killed and only files, mounts
# and interfaces remain.
remove_everything() {
  local name
  cluster_down
  for name in $(processes_matching '*'); do process_stop "$name" KILL 10; done
  network_down
  rm -rf "$STATE"
}

testbed_status() {
  local name pid
  [[ -d $STATE ]] || {
    echo 'nothing is up'
    return
  }
  printf '%-28s %-8s %s\n' PROCESS PID STATE
  for name in $(processes_matching '*'); do
    if ! pid=$(process_id "$name"); then
      printf '%-28s %-8s %s\n' "$name" - dead
    elif [[ $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status") == T ]]; then
      printf '%-28s %-8s %s\n' "$name" "$pid" paused
    else
      printf '%-28s %-8s %s\n' "$name" "$pid" running
    fi
  done
}

testbed_env() {
  local kind
  [[ -d $STATE ]] || die "nothing is up: run 'testbed up' first"
  export_variable QS_TESTBED "$TESTBED_DIR/testbed"
  export_variable QS_PKI "$PKI"
  if [[ -e $CLUSTER/ready ]]; then
    export_variable KUBECONFIG "$CLUSTER/admin.kubeconfig"
    # shellcheck disable=SC2016 # the shell that reads it expands it
    printf 'export PATH=%q:"$PATH"\n' "$STATE/bin"
    export_variable CONTAINERD_ADDRESS "$CONTAINERD_SOCKET"
    export_variable CONTAINERD_NAMESPACE k8s.io
    export_variable QS_AUDIT_LOG "$STATE/logs/audit.log"
  fi
  if [[ -d $STATE/kafka/main ]]; then kafka_env main; fi
  if [[ -d $STATE/rabbitmq/main ]]; then rabbitmq_env main; fi
  for kind in activemq artemis pulsar rocketmq; do
    if [[ -e $STATE/$kind/main/settings ]]; then broker_env "$kind" main; fi
  done
}

export_variable() { printf 'export %s=%q\n' "$1" "$2"; }
