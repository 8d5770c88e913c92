# RocketMQ clusters for tests: a name server and brokers, all of them masters. lib/broker.sh describes their commands
# and files.
# shellcheck shell=bash

rocketmq_settings() {
  local brokers=1 auth=no
  while (($# > 0)); do
    case $1 in
      --auth) auth=yes ;;
      --brokers)
        (($# > 1)) || die "$1 needs a value"
        brokers=$2
        shift
        ;;
      *) die "rocketmq up has no option '$1'" ;;
    esac
    shift
  done
  [[ $brokers =~ ^[1-9]$ ]] || die "--brokers takes a number from 1 to 9, not '$brokers'"
  echo "BROKERS=$brokers AUTH=$auth"
}

rocketmq_processes() {
  local id
  echo "rocketmq-$1.names"
  for ((id = 1; id <= $(broker_count rocketmq "$1"); id++)); do echo "rocketmq-$1.$id"; done
}

# rocketmq_configure NAME SETTINGS
rocketmq_configure() {
  local name=$1 settings=$2 home=$STATE/rocketmq/$1 brokers id
  brokers=$(broker_count_of "$settings")
  {
    echo "NAMES=$(reserve_port "rocketmq-$name")"
    for ((id = 1; id <= brokers; id++)); do
      # A broker listens on the port two below as well: the "fast" one.
      echo "BROKER$id=$(reserve_port "rocketmq-$name" 2)"
      echo "REPLICATION$id=$(reserve_port "rocketmq-$name")"
    done
  } >"$home/ports"
  mkdir -p "$home/tmp" "$home/conf" "$home/data/names"
  # Without it, each process reports each step of its own logging, and then logs to some 20 files.
  cat >"$home/logback.xml" <<'CONFIG'
<configuration>
  <statusListener class="org.apache.rocketmq.logging.ch.qos.logback.core.status.NopStatusListener"/>
  <appender name="log" class="org.apache.rocketmq.logging.ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><pattern>%d %level %logger - %m%n</pattern></encoder>
  </appender>
  <logger name="RocketmqConsole" level="INFO"/>
  <root level="WARN"><appender-ref ref="log"/></root>
</configuration>
CONFIG
  printf '%s\n' "listenPort=$(broker_port rocketmq "$name" NAMES)" "bindAddress=$HOST_ADDRESS" >"$home/names.properties"
  for ((id = 1; id <= brokers; id++)); do
    mkdir -p "$home/data/$id"
    rocketmq_broker_file "$name" "$id" >"$home/$id.properties"
    if [[ $settings == *AUTH=yes ]]; then rocketmq_security >>"$home/$id.properties"; fi
  done
  if [[ $settings == *AUTH=yes ]]; then
    # For the administration commands.
    printf 'accessKey: %s\nsecretKey: %s\n' "$BROKER_USER" "$BROKER_PASSWORD" >"$home/conf/tools.yml"
  fi
}

# rocketmq_broker_file NAME ID
rocketmq_broker_file() {
  cat <<CONFIG
brokerClusterName=$1
brokerName=broker-$2
brokerId=0
brokerRole=ASYNC_MASTER
flushDiskType=ASYNC_FLUSH
brokerIP1=$HOST_ADDRESS
bindAddress=$HOST_ADDRESS
listenPort=$(broker_port rocketmq "$1" "BROKER$2")
haListenPort=$(broker_port rocketmq "$1" "REPLICATION$2")
namesrvAddr=$(rocketmq_names "$1")
storePathRootDir=$STATE/rocketmq/$1/data/$2/store
# As in RocketMQ's defaults: tests prove that reading creates no topic and no group.
autoCreateTopicEnable=true
autoCreateSubscriptionGroup=true
defaultTopicQueueNums=4
# The defaults are files of 1 GiB.
mappedFileSizeCommitLog=16777216
mappedFileSizeConsumeQueue=600000
maxIndexNum=20000
maxHashSlotNum=5000
CONFIG
}

# rocketmq_security: the properties of a broker with --auth.
rocketmq_security() {
  local auth=org.apache.rocketmq.auth
  cat <<CONFIG
authenticationEnabled=true
authenticationProvider=$auth.authentication.provider.DefaultAuthenticationProvider
authenticationMetadataProvider=$auth.authentication.provider.LocalAuthenticationMetadataProvider
initAuthenticationUser={"username":"$BROKER_USER","password":"$BROKER_PASSWORD"}
innerClientAuthenticationCredentials={"accessKey":"$BROKER_USER","secretKey":"$BROKER_PASSWORD"}
authorizationEnabled=true
authorizationProvider=$auth.authorization.provider.DefaultAuthorizationProvider
authorizationMetadataProvider=$auth.authorization.provider.LocalAuthorizationMetadataProvider
CONFIG
}

# rocketmq_start NAME PROCESS
rocketmq_start() {
  local name=$1 part=${2##*.} home=$STATE/rocketmq/$1 options=()
  # Logs and some of the data are in the home of the user.
  options=(-Drmq.logback.configurationFile="$home/logback.xml" -Drocketmq.home.dir="$home" -Duser.home="$home/data/$part" -Djava.io.tmpdir="$home/tmp"
    -cp "$(readlink -f "$home/jars")/*")
  if [[ $part == names ]]; then
    broker_java "$2" -Xmx96m "${options[@]}" org.apache.rocketmq.namesrv.NamesrvStartup -c "$home/names.properties"
    return
  fi
  # It would refuse messages when 90 % of the disk are in use.
  broker_java "$2" -Xmx384m -XX:MaxDirectMemorySize=256m -Drocketmq.broker.diskSpaceWarningLevelRatio=0.99 \
    --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED \
    --add-opens=java.base/sun.nio.ch=ALL-UNNAMED "${options[@]}" \
    org.apache.rocketmq.broker.BrokerStartup -c "$home/$part.properties"
}

# A registration that fails at the start of a broker is repeated 10 s later, and until then no client finds the broker.
rocketmq_ready() {
  local part=${2##*.}
  grep -q 'boot success' "$(log_of "$2")" || return 1
  [[ $part == names ]] ||
    rocketmq_ask "$(rocketmq_names "$1")" "$ROCKETMQ_GET_BROKERS" |
    grep -F "\"$HOST_ADDRESS:$(broker_port rocketmq "$1" "BROKER$part")\""
}

# GET_BROKER_CLUSTER_INFO of RocketMQ's RequestCode.
ROCKETMQ_GET_BROKERS=106

# rocketmq_ask ADDRESS:PORT CODE FIELD=VALUE...: prints the answer to a request.
rocketmq_ask() { python3 "$TESTBED_DIR/lib/rocketmq.py" "$@"; }

rocketmq_names() { printf '%s:%s\n' "$HOST_ADDRESS" "$(broker_port rocketmq "$1" NAMES)"; }

rocketmq_variables() {
  local settings id brokers=''
  for ((id = 1; id <= $(broker_count rocketmq "$1"); id++)); do
    brokers+=${brokers:+,}$HOST_ADDRESS:$(broker_port rocketmq "$1" "BROKER$id")
  done
  settings=$(<"$STATE/rocketmq/$1/settings")
  export_variable QS_ROCKETMQ_NAME_SERVER "$(rocketmq_names "$1")"
  export_variable QS_ROCKETMQ_BROKERS "$brokers"
  export_variable QS_ROCKETMQ_CLUSTER "$1"
  if [[ $settings == *AUTH=yes ]]; then
    export_variable QS_ROCKETMQ_ACCESS_KEY "$BROKER_USER"
    export_variable QS_ROCKETMQ_SECRET_KEY "$BROKER_PASSWORD"
  fi
}

# rocketmq_tool NAME COMMAND ARGUMENT...: RocketMQ's administration commands, in place of this shell.
rocketmq_tool() {
  local name=$1 home=$STATE/rocketmq/$1
  shift
  broker_check rocketmq "$name"
  NAMESRV_ADDR=$(rocketmq_names "$name") exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
    -Drmq.logback.configurationFile="$home/logback.xml" -Drocketmq.home.dir="$home" -Duser.home="$home/tmp" -Djava.io.tmpdir="$home/tmp" \
    -cp "$(readlink -f "$home/jars")/*" org.apache.rocketmq.tools.command.MQAdminStartup "$@"
}
