# RabbitMQ brokers for tests, each independent of the others: version 3 of
# Debian 12, or version 4 in a root file system of Debian trixie. All files of a
# broker are in $STATE/rabbitmq/NAME.
# shellcheck shell=bash

# These passwords protect nothing but tests.
RABBITMQ_USER=queuescaler
RABBITMQ_PASSWORD=queuescaler-password

rabbitmq_command() {
  local verb=${1:-} name=${2:-}
  [[ -n $name ]] || die "usage: testbed rabbitmq up|down|stop|kill|pause|resume|start|management-stop|management-start|ctl|env NAME …"
  shift 2
  check_name "$name"
  case $verb in
    up) need "${BASE_NEEDS[@]}" && claim_shared && with_lock pki pki_up && with_lock "rabbitmq-$name" rabbitmq_up "$name" "$@" ;;
    down) claim_shared && with_lock "rabbitmq-$name" rabbitmq_down "$name" ;;
    stop | kill | pause | resume | start | management-stop | management-start)
      claim_shared
      with_lock "rabbitmq-$name" rabbitmq_fault "$verb" "$name"
      ;;
    ctl) rabbitmq_check "$name" && rabbitmq_run "$name" rabbitmqctl --quiet "$@" ;;
    env) rabbitmq_env "$name" ;;
    *) die "rabbitmq has no command '$verb'" ;;
  esac
}

rabbitmq_up() {
  local name=$1 home=$STATE/rabbitmq/$1
  shift
  local image=3 certificate=server interval=5000 port setting
  local -a further=() plugins=(rabbitmq_management)
  while (($# > 0)); do
    case $1 in
      --image | --certificate | --statistics-interval | --setting | --plugin) (($# > 1)) || die "$1 needs a value" ;;&
      --image) image=$2 && shift ;;
      --certificate) certificate=$2 && shift ;;
      --statistics-interval) interval=$2 && shift ;;
      --setting) further+=("$2") && shift ;;
      --plugin) plugins+=("$2") && shift ;;
      *) die "rabbitmq up has no option '$1'" ;;
    esac
    shift
  done
  [[ $image =~ ^[34]$ ]] || die "--image takes 3 or 4, not '$image'"
  [[ $interval =~ ^[1-9][0-9]*$ ]] || die "--statistics-interval takes milliseconds, not '$interval'"
  check_certificate "$certificate"
  for setting in "${further[@]}"; do
    [[ $setting =~ ^[a-z_.]+=[A-Za-z0-9_.]+$ ]] || die "--setting takes a line of rabbitmq.conf as KEY=VALUE, not '$setting'"
  done
  for setting in "${plugins[@]}"; do
    [[ $setting =~ ^rabbitmq_[a-z0-9_]+$ ]] || die "--plugin takes the name of a plugin of RabbitMQ, not '$setting'"
  done
  local settings="IMAGE=$image CERTIFICATE=$certificate INTERVAL=$interval PLUGINS=${plugins[*]}${further[*]:+ ${further[*]}}"
  if [[ -e $home/settings ]]; then
    [[ $(<"$home/settings") == "$settings" ]] ||
      die "the RabbitMQ '$name' is up with other settings ($(<"$home/settings")): run 'testbed rabbitmq down $name' first"
  else
    rabbitmq_down "$name"
    local root=/
    case $image in
      3) need "${RABBITMQ_NEEDS[@]}" ;;
      4) root=$(rabbitmq4_files) ;;
    esac
    say "starting RabbitMQ $image '$name'"
    mkdir -p "$home"
    ln -sfn "$root" "$home/root"
    for port in AMQP AMQPS HTTP HTTPS DISTRIBUTION NAMES; do
      echo "$port=$(reserve_port "rabbitmq-$name")"
    done >"$home/ports"
    cp "$PKI/ca.crt" "$PKI/$certificate.crt" "$PKI/$certificate.key" "$home/"
    rabbitmq_configure "$name" "$certificate" "$interval" "${further[@]}"
    (IFS=, && echo "[${plugins[*]}].") >"$home/plugins"
    printf '%s\n' "$settings" >"$home/settings"
  fi
  rabbitmq_start "$name"
}

rabbitmq_port() { sed -n "s/^$2=//p" "$STATE/rabbitmq/$1/ports"; }

# rabbitmq_inside NAME: prints the path of the broker's folder as the broker sees it. Version 4 has a root of its own.
rabbitmq_inside() {
  if [[ $(readlink "$STATE/rabbitmq/$1/root") == / ]]; then
    printf '%s\n' "$STATE/rabbitmq/$1"
  else
    printf '/mnt\n'
  fi
}

# rabbitmq_configure NAME CERTIFICATE INTERVAL SETTING...
rabbitmq_configure() {
  local name=$1 home=$STATE/rabbitmq/$1 inside option
  inside=$(rabbitmq_inside "$name")
  {
    cat <<CONFIG
listeners.tcp.1 = $HOST_ADDRESS:$(rabbitmq_port "$name" AMQP)
listeners.ssl.1 = $HOST_ADDRESS:$(rabbitmq_port "$name" AMQPS)
management.tcp.ip = $HOST_ADDRESS
management.tcp.port = $(rabbitmq_port "$name" HTTP)
management.ssl.ip = $HOST_ADDRESS
management.ssl.port = $(rabbitmq_port "$name" HTTPS)
default_user = $RABBITMQ_USER
default_pass = $RABBITMQ_PASSWORD
loopback_users = none
collect_statistics_interval = $3
disk_free_limit.absolute = 50MB
CONFIG
    for option in ssl_options management.ssl; do
      echo "$option.cacertfile = $inside/ca.crt"
      echo "$option.certfile = $inside/$2.crt"
      echo "$option.keyfile = $inside/$2.key"
      # A client can present a certificate, and it is checked then.
      echo "$option.verify = verify_peer"
      echo "$option.fail_if_no_peer_cert = false"
    done
    if (($# > 3)); then printf '%s\n' "${@:4}"; fi
  } >"$home/rabbitmq.conf"
  touch "$home/environment"
}

# rabbitmq_words NAME PROGRAM ARGUMENT...: sets COMMAND to the command that runs a
# program of the broker's version. The node and its tools use loopback only.
rabbitmq_words() {
  local name=$1 program=$2 home=$STATE/rabbitmq/$1 inside root
  shift 2
  inside=$(rabbitmq_inside "$name")
  root=$(readlink "$home/root")
  COMMAND=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME="$inside"
    RABBITMQ_NODENAME="$name@localhost" RABBITMQ_BASE="$inside"
    RABBITMQ_CONF_ENV_FILE="$inside/environment" RABBITMQ_CONFIG_FILE="$inside/rabbitmq.conf"
    RABBITMQ_GENERATED_CONFIG_DIR="$inside/generated" RABBITMQ_ENABLED_PLUGINS_FILE="$inside/plugins"
    RABBITMQ_MNESIA_BASE="$inside/data" RABBITMQ_LOG_BASE="$inside/log" RABBITMQ_LOGS=-
    RABBITMQ_DIST_PORT="$(rabbitmq_port "$name" DISTRIBUTION)"
    ERL_EPMD_PORT="$(rabbitmq_port "$name" NAMES)" ERL_EPMD_ADDRESS=127.0.0.1
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
    "/usr/lib/rabbitmq/bin/$program" "$@")
  if [[ $root != / ]]; then
    # shellcheck disable=SC2016 # the inner shell expands them
    COMMAND=(unshare --mount --propagation private bash -c 'root=$1 home=$2
      shift 2
      mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" &&
      mount --rbind /dev "$root/dev" && mount --bind /proc "$root/proc" &&
      mount -t tmpfs testbed "$root/tmp" && mount --bind "$home" "$root/mnt" &&
      exec chroot "$root" "$@"' - "$root" "$home" "${COMMAND[@]}")
  fi
}

rabbitmq_run() {
  local COMMAND
  rabbitmq_words "$@"
  "${COMMAND[@]}"
}

rabbitmq_start() {
  local name=$1 COMMAND
  # Otherwise the broker would start the name server, unrecorded and on all addresses.
  if ! process_alive "rabbitmq-$name-names"; then
    process_start "rabbitmq-$name-names" epmd -address 127.0.0.1 -port "$(rabbitmq_port "$name" NAMES)"
    wait_for 10 "the name server of RabbitMQ '$name'" "rabbitmq-$name-names" \
      port_open 127.0.0.1 "$(rabbitmq_port "$name" NAMES)"
  fi
  if process_alive "rabbitmq-$name"; then
    process_signal CONT "rabbitmq-$name"
  else
    rabbitmq_words "$name" rabbitmq-server
    process_start "rabbitmq-$name" "${COMMAND[@]}"
  fi
  wait_for 90 "RabbitMQ '$name'" "rabbitmq-$name" rabbitmq_ready "$name"
}

rabbitmq_ready() {
  grep -q 'Server startup complete' "$(log_of "rabbitmq-$1")" &&
    { ! grep -q rabbitmq_management "$STATE/rabbitmq/$1/plugins" || rabbitmq_management_answers "$1"; }
}

rabbitmq_management_answers() {
  curl -fsS -m 3 -u "$RABBITMQ_USER:$RABBITMQ_PASSWORD" \
    "http://$HOST_ADDRESS:$(rabbitmq_port "$1" HTTP)/api/overview"
}

rabbitmq_check() {
  [[ -e $STATE/rabbitmq/$1/settings ]] || die "there is no RabbitMQ '$1': run 'testbed rabbitmq up $1' first"
}

# rabbitmq_fault VERB NAME
rabbitmq_fault() {
  local name=$2
  rabbitmq_check "$name"
  case $1 in
    stop) process_stop "rabbitmq-$name" TERM 20 ;;
    kill) process_stop "rabbitmq-$name" KILL 10 ;;
    pause) process_signal STOP "rabbitmq-$name" ;;
    resume) process_signal CONT "rabbitmq-$name" ;;
    start) rabbitmq_start "$name" ;;
    management-stop) rabbitmq_run "$name" rabbitmq-plugins --quiet disable --online rabbitmq_management >/dev/null ;;
    management-start)
      rabbitmq_run "$name" rabbitmq-plugins --quiet enable --online rabbitmq_management >/dev/null
      wait_for 30 "the management API of RabbitMQ '$name'" "rabbitmq-$name" rabbitmq_management_answers "$name"
      ;;
  esac
}

rabbitmq_down() {
  process_stop "rabbitmq-$1" KILL 10
  process_stop "rabbitmq-$1-names" KILL 10
  release_ports "rabbitmq-$1"
  rm -rf "$STATE/rabbitmq/$1"
}

rabbitmq_env() {
  local name=$1 user=$RABBITMQ_USER:$RABBITMQ_PASSWORD
  rabbitmq_check "$name"
  export_variable QS_RABBITMQ_MANAGEMENT_URL "http://$HOST_ADDRESS:$(rabbitmq_port "$name" HTTP)"
  export_variable QS_RABBITMQ_MANAGEMENT_TLS_URL "https://$HOST_ADDRESS:$(rabbitmq_port "$name" HTTPS)"
  export_variable QS_RABBITMQ_AMQP_URL "amqp://$user@$HOST_ADDRESS:$(rabbitmq_port "$name" AMQP)"
  export_variable QS_RABBITMQ_AMQP_TLS_URL "amqps://$user@$HOST_ADDRESS:$(rabbitmq_port "$name" AMQPS)"
  export_variable QS_RABBITMQ_USER "$RABBITMQ_USER"
  export_variable QS_RABBITMQ_PASSWORD "$RABBITMQ_PASSWORD"
}
