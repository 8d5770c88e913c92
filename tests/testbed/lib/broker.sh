# What ActiveMQ, Artemis, Pulsar and RocketMQ have in common: their commands, their files and the options of Java.
#
# All files of a broker are in $STATE/KIND/NAME: 'settings' (the options of up), 'ports', 'jars', the configuration and
# the data. Each KIND has the functions KIND_settings (prints the settings for these options), KIND_configure,
# KIND_processes (prints the recorded names, in the order of their start: KIND-NAME, or KIND-NAME.PART for each of
# several), KIND_start, KIND_ready and KIND_variables.
# shellcheck shell=bash

# These passwords protect nothing but tests.
BROKER_USER=queuescaler
BROKER_PASSWORD=queuescaler-password

declare -A BROKER_TITLES=([activemq]=ActiveMQ [artemis]=Artemis [pulsar]=Pulsar [rocketmq]=RocketMQ)

broker_command() {
  local kind=$1 verb=${2:-} name=${3:-}
  [[ -n $name ]] || die "usage: testbed $kind up|down|stop|kill|pause|resume|start|env NAME …"
  shift 3
  check_name "$name"
  case $verb in
    up)
      need "${BASE_NEEDS[@]}"
      claim_shared
      with_lock "$kind-$name" broker_up "$kind" "$name" "$@"
      ;;
    down) claim_shared && with_lock "$kind-$name" broker_down "$kind" "$name" ;;
    stop | kill | pause | resume | start)
      claim_shared
      with_lock "$kind-$name" broker_fault "$verb" "$kind" "$name" "$@"
      ;;
    env) broker_env "$kind" "$name" ;;
    tool)
      [[ $kind == rocketmq ]] || die "$kind has no command 'tool'"
      rocketmq_tool "$name" "$@"
      ;;
    *) die "$kind has no command '$verb'" ;;
  esac
}

# broker_up KIND NAME OPTION...
broker_up() {
  local kind=$1 name=$2 home=$STATE/$1/$2 settings jars processes
  shift 2
  settings=$("${kind}_settings" "$@") || exit 1
  if [[ -e $home/settings ]]; then
    [[ $(<"$home/settings") == "$settings" ]] ||
      die "${BROKER_TITLES[$kind]} '$name' is up with other settings ($(<"$home/settings")): run 'testbed $kind down $name' first"
  else
    jars=$(maven_jars "$kind") || exit 1
    broker_down "$kind" "$name"
    say "starting ${BROKER_TITLES[$kind]} '$name'"
    mkdir -p "$home/data"
    ln -sfn "$jars" "$home/jars"
    "${kind}_configure" "$name" "$settings"
    printf '%s\n' "$settings" >"$home/settings"
  fi
  mapfile -t processes < <("${kind}_processes" "$name")
  broker_start "$kind" "$name" "${processes[@]}"
}

# broker_start KIND NAME PROCESS...
broker_start() {
  local kind=$1 name=$2 process
  shift 2
  for process in "$@"; do
    if process_alive "$process"; then process_signal CONT "$process"; else "${kind}_start" "$name" "$process"; fi
    wait_for 120 "$process" "$process" "${kind}_ready" "$name" "$process"
  done
}

# broker_java PROCESS ARGUMENT...
broker_java() {
  local process=$1
  shift
  process_start "$process" java -Xms32m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
    -XX:+ExitOnOutOfMemoryError "$@"
}

broker_check() {
  [[ -e $STATE/$1/$2/settings ]] || die "there is no ${BROKER_TITLES[$1]} '$2': run 'testbed $1 up $2' first"
}

# broker_fault VERB KIND NAME [PART]: for one process, or for all.
broker_fault() {
  local verb=$1 kind=$2 name=$3 process processes
  broker_check "$kind" "$name"
  mapfile -t processes < <("${kind}_processes" "$name")
  if (($# > 3)); then
    [[ " ${processes[*]} " == *" $kind-$name.$4 "* ]] ||
      die "${BROKER_TITLES[$kind]} '$name' has no part '$4': its processes are ${processes[*]}"
    processes=("$kind-$name.$4")
  fi
  case $verb in
    start) broker_start "$kind" "$name" "${processes[@]}" ;;
    # The last one that started is the first to stop.
    stop) for process in $(printf '%s\n' "${processes[@]}" | tac); do process_stop "$process" TERM 30; done ;;
    kill) for process in "${processes[@]}"; do process_stop "$process" KILL 10; done ;;
    pause) for process in "${processes[@]}"; do process_signal STOP "$process"; done ;;
    resume) for process in "${processes[@]}"; do process_signal CONT "$process"; done ;;
  esac
}

# broker_down KIND NAME
broker_down() {
  local process
  for process in $(processes_matching "$1-$2") $(processes_matching "$1-$2.*"); do process_stop "$process" KILL 10; done
  release_ports "$1-$2"
  rm -rf "${STATE:?}/$1/$2"
}

broker_env() {
  broker_check "$1" "$2"
  "$1_variables" "$2"
}

# broker_count KIND NAME: prints the number of brokers in the settings.
broker_count() { broker_count_of "$(<"$STATE/$1/$2/settings")"; }

# broker_count_of SETTINGS
broker_count_of() { sed -n 's/^BROKERS=\([1-9]\) .*/\1/p' <<<"$1"; }

# broker_reserve_ports KIND NAME PORT...
broker_reserve_ports() {
  local kind=$1 name=$2 port
  shift 2
  for port in "$@"; do
    echo "$port=$(reserve_port "$kind-$name")"
  done >"$STATE/$kind/$name/ports"
}

# broker_port KIND NAME PORT
broker_port() { sed -n "s/^$3=//p" "$STATE/$1/$2/ports"; }

# jolokia_agent KIND NAME PATH: prints the option of Java that adds the HTTP access to the MBeans. The distributions
# have the same at the same path of their web consoles.
jolokia_agent() {
  local home=$STATE/$1/$2 agents
  agents=("$(readlink -f "$home/jars")"/jolokia-agent-jvm-*-javaagent.jar)
  printf -- '-javaagent:%s=host=%s,port=%s,agentContext=%s,user=%s,password=%s,policyLocation=%s,discoveryEnabled=false\n' \
    "${agents[0]}" "$HOST_ADDRESS" "$(broker_port "$1" "$2" JOLOKIA)" "$3" "$BROKER_USER" "$BROKER_PASSWORD" \
    "file:$home/jolokia-access.xml"
}

# jolokia_policy KIND NAME CORS: reading only, for requests with an Origin header. Without this file each user of
# Jolokia can call each operation of each MBean.
jolokia_policy() {
  cat >"$STATE/$1/$2/jolokia-access.xml" <<CONFIG
<restrict>
  <cors>$3<strict-checking/></cors>
  <commands><command>read</command><command>version</command></commands>
</restrict>
CONFIG
}

# jolokia_variables KIND NAME PREFIX PATH
jolokia_variables() {
  export_variable "$3_JOLOKIA_URL" "http://$HOST_ADDRESS:$(broker_port "$1" "$2" JOLOKIA)$4"
  export_variable "$3_USER" "$BROKER_USER"
  export_variable "$3_PASSWORD" "$BROKER_PASSWORD"
  export_variable "$3_BROKER" "$2"
  export_variable "$3_STOMP" "$HOST_ADDRESS:$(broker_port "$1" "$2" STOMP)"
}

# no_options KIND OPTION...: fails if there is an option.
no_options() { (($# == 1)) || die "$1 up has no option '$2'"; }
