# What ActiveMQ, Artemis, Pulsar and RocketMQ have in common: their commands, their files and the options of Java.
#
# All files of a broker are in $STATE/KIND/NAME: 'settings' (the options of up), 'ports', 'jars', the configuration and
# the data. Each KIND has the functions KIND_settings (prints the settings for these options), KIND_configure,
# KIND_start, KIND_ready, KIND_processes (prints the recorded names) and KIND_variables.
# shellcheck shell=bash

# These passwords protect nothing but tests.
BROKER_USER=queuescaler
BROKER_PASSWORD=queuescaler-password

declare -A BROKER_TITLES=([activemq]=ActiveMQ [artemis]=Artemis [pulsar]=Pulsar)

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
      with_lock "$kind-$name" broker_fault "$verb" "$kind" "$name"
      ;;
    env) broker_env "$kind" "$name" ;;
    *) die "$kind has no command '$verb'" ;;
  esac
}

# broker_up KIND NAME OPTION...
broker_up() {
  local kind=$1 name=$2 home=$STATE/$1/$2 settings jars
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
  broker_start "$kind" "$name"
}

# broker_start KIND NAME
broker_start() {
  local process
  for process in $("$1_processes" "$2"); do
    if process_alive "$process"; then process_signal CONT "$process"; fi
  done
  "$1_start" "$2"
  wait_for 90 "${BROKER_TITLES[$1]} '$2'" "$1-$2" "$1_ready" "$2"
}

# broker_start_java PROCESS ARGUMENT...: unless it is running.
broker_start_java() {
  local process=$1
  shift
  process_alive "$process" ||
    process_start "$process" java -Xms32m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
      -XX:+ExitOnOutOfMemoryError "$@"
}

broker_check() {
  [[ -e $STATE/$1/$2/settings ]] || die "there is no ${BROKER_TITLES[$1]} '$2': run 'testbed $1 up $2' first"
}

# broker_fault VERB KIND NAME
broker_fault() {
  local verb=$1 kind=$2 name=$3 process
  broker_check "$kind" "$name"
  if [[ $verb == start ]]; then
    broker_start "$kind" "$name"
    return
  fi
  for process in $("${kind}_processes" "$name"); do
    case $verb in
      stop) process_stop "$process" TERM 20 ;;
      kill) process_stop "$process" KILL 10 ;;
      pause) process_signal STOP "$process" ;;
      resume) process_signal CONT "$process" ;;
    esac
  done
}

# broker_down KIND NAME
broker_down() {
  local process
  for process in $("$1_processes" "$2"); do process_stop "$process" KILL 10; done
  release_ports "$1-$2"
  rm -rf "${STATE:?}/$1/$2"
}

broker_env() {
  broker_check "$1" "$2"
  "$1_variables" "$2"
}

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
