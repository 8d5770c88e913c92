# Kafka clusters for tests, each independent of the others.
#
# Brokers are controllers too: of three, one can stop and the other two keep the
# metadata. A stopped broker keeps its data and its ports. All files of a cluster
# are in $STATE/kafka/NAME: 'settings' (the options of kafka up), and a folder for
# each broker with its configuration and data.
# shellcheck shell=bash

# Without --version. The newest of the versions that tests/real runs the Kafka tests on.
KAFKA_DEFAULT_VERSION=4.3.1

# The users of clusters with --sasl. These passwords protect nothing but tests.
KAFKA_USER=queuescaler
KAFKA_PASSWORD=queuescaler-password
KAFKA_OTHER_USER=other
KAFKA_OTHER_PASSWORD=other-password

kafka_command() {
  local verb=${1:-} name=${2:-}
  [[ -n $name ]] || die "usage: testbed kafka up|down|stop|kill|pause|resume|start|tool|env NAME …"
  shift 2
  check_name "$name"
  case $verb in
    up) need "${BASE_NEEDS[@]}" && claim_shared && with_lock pki pki_up && with_lock "kafka-$name" kafka_up "$name" "$@" ;;
    down) claim_shared && with_lock "kafka-$name" kafka_down "$name" ;;
    stop | kill | pause | resume | start)
      claim_shared
      with_lock "kafka-$name" kafka_fault "$verb" "$name" "$@"
      ;;
    tool) kafka_tool "$name" "$@" ;;
    env) kafka_env "$name" ;;
    *) die "kafka has no command '$verb'" ;;
  esac
}

check_name() {
  [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ ]] ||
    die "'$1' cannot be the name of a broker: use up to 32 lower case letters, digits and hyphens"
}

kafka_up() {
  local name=$1 home=$STATE/kafka/$1
  shift
  local brokers=1 version=$KAFKA_DEFAULT_VERSION sasl=no certificate=server heap=256m id
  while (($# > 0)); do
    case $1 in
      --sasl) sasl=yes ;;
      --brokers | --version | --certificate | --heap) (($# > 1)) || die "$1 needs a value" ;;&
      --brokers) brokers=$2 && shift ;;
      --version) version=$2 && shift ;;
      --certificate) certificate=$2 && shift ;;
      --heap) heap=$2 && shift ;;
      *) die "kafka up has no option '$1'" ;;
    esac
    shift
  done
  [[ $brokers =~ ^[1-9]$ ]] || die "--brokers takes a number from 1 to 9, not '$brokers'"
  check_certificate "$certificate"
  local settings="BROKERS=$brokers VERSION=$version SASL=$sasl CERTIFICATE=$certificate HEAP=$heap"
  if [[ -e $home/settings ]]; then
    [[ $(<"$home/settings") == "$settings" ]] ||
      die "the Kafka cluster $name is up with other settings ($(<"$home/settings")): run 'testbed kafka down $name' first"
  else
    local jars
    jars=$(kafka_jars "$version")
    kafka_down "$name"
    say "starting Kafka $version '$name' with $brokers broker(s)"
    mkdir -p "$home"
    ln -sfn "$jars" "$home/jars"
    kafka_configure "$home" "$name" "$brokers" "$sasl" "$certificate"
    kafka_format "$home" "$sasl" "$version"
    printf '%s\n' "$settings" >"$home/settings"
  fi
  for ((id = 1; id <= brokers; id++)); do kafka_start_broker "$name" "$id"; done
  for ((id = 1; id <= brokers; id++)); do kafka_wait_broker "$name" "$id"; done
}

# kafka_configure HOME NAME BROKERS SASL CERTIFICATE: ports and server.properties of each.
kafka_configure() {
  local home=$1 name=$2 brokers=$3 sasl=$4 certificate=$5 id voters='' copies
  copies=$((brokers < 3 ? brokers : 3))
  for ((id = 1; id <= brokers; id++)); do
    mkdir -p "$home/$id"
    {
      echo "CONTROLLER=$(reserve_port "kafka-$name")"
      echo "PLAINTEXT=$(reserve_port "kafka-$name")"
      echo "SASL_SSL=$(reserve_port "kafka-$name")"
      echo "SSL=$(reserve_port "kafka-$name")"
    } >"$home/$id/ports"
    voters+=${voters:+,}$id@127.0.0.1:$(kafka_port "$home" "$id" CONTROLLER)
  done
  for ((id = 1; id <= brokers; id++)); do
    local listeners="PLAINTEXT://$HOST_ADDRESS:$(kafka_port "$home" "$id" PLAINTEXT)"
    if [[ $sasl == yes ]]; then
      listeners+=",SASL_SSL://$HOST_ADDRESS:$(kafka_port "$home" "$id" SASL_SSL)"
      listeners+=",SSL://$HOST_ADDRESS:$(kafka_port "$home" "$id" SSL)"
    fi
    {
      cat <<CONFIG
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$voters
listeners=$listeners,CONTROLLER://127.0.0.1:$(kafka_port "$home" "$id" CONTROLLER)
advertised.listeners=$listeners
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
log.dirs=$home/$id/data
# As in Kafka's defaults: tests prove that reading creates no topic.
auto.create.topics.enable=true
default.replication.factor=1
num.partitions=1
offsets.topic.num.partitions=5
offsets.topic.replication.factor=$copies
transaction.state.log.num.partitions=5
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.streams.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# The others notice a dead broker after 3 s, not 9.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
offsets.retention.check.interval.ms=1000
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
log.segment.delete.delay.ms=1000
num.io.threads=2
num.network.threads=2
background.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.dedupe.buffer.size=2097152
CONFIG
      if [[ $sasl == yes ]]; then kafka_security "$certificate"; fi
    } >"$home/$id/server.properties"
  done
}

# kafka_security CERTIFICATE: the properties of a cluster with --sasl.
kafka_security() {
  local listener=listener.name.sasl_ssl login=org.apache.kafka.common.security
  cat <<CONFIG
ssl.keystore.type=PEM
ssl.keystore.location=$PKI/$1.pem
ssl.truststore.type=PEM
ssl.truststore.location=$PKI/ca.crt
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER
$listener.scram-sha-256.sasl.jaas.config=$login.scram.ScramLoginModule required;
$listener.scram-sha-512.sasl.jaas.config=$login.scram.ScramLoginModule required;
$listener.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_$KAFKA_USER="$KAFKA_PASSWORD" user_$KAFKA_OTHER_USER="$KAFKA_OTHER_PASSWORD";
$listener.oauthbearer.sasl.jaas.config=$login.oauthbearer.OAuthBearerLoginModule required;
$listener.oauthbearer.sasl.server.callback.handler.class=$login.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url=file://$PKI/token-keys.json
sasl.oauthbearer.expected.audience=kafka
# Anonymous clients are allowed everything; others everything that no rule forbids.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
CONFIG
}

# kafka_format HOME SASL VERSION: writes each broker's first metadata, all at once.
kafka_format() {
  local home=$1 sasl=$2 broker pids=() pid cluster user mechanism options=() KAFKA_JAVA
  # Instead of the signs - and _ of this alphabet: an id that begins with a hyphen
  # would be read as an option.
  cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c1-22)
  if [[ $sasl == yes ]]; then
    for user in "$KAFKA_USER,password=$KAFKA_PASSWORD" "$KAFKA_OTHER_USER,password=$KAFKA_OTHER_PASSWORD"; do
      for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
        options+=(--add-scram "$mechanism=[name=$user]")
      done
    done
  fi
  # From 4.2 on, share groups (KIP-932) and streams groups (KIP-1071) are on by default. In 4.1, share groups are a
  # preview, and streams groups a feature that this format refuses as unstable.
  if [[ $3 == 4.1.* ]]; then options+=(--feature share.version=1); fi
  kafka_java_words "$home"
  for broker in "$home"/[0-9]; do
    "${KAFKA_JAVA[@]}" kafka.tools.StorageTool format --cluster-id "$cluster" \
      --config "$broker/server.properties" "${options[@]}" >"$broker/format.log" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || die "cannot format the storage of Kafka: $(tail -n 3 "$home"/[0-9]/format.log)"
  done
}

# kafka_java_words HOME: sets KAFKA_JAVA to the command that runs a short program of this cluster's version.
kafka_java_words() {
  KAFKA_JAVA=(java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$(readlink -f "$1/jars")/*")
}

kafka_port() { sed -n "s/^$3=//p" "$1/$2/ports"; }

# kafka_setting NAME SETTING
kafka_setting() { tr ' ' '\n' <"$STATE/kafka/$1/settings" | sed -n "s/^$2=//p"; }

kafka_start_broker() {
  local name=$1 id=$2 home=$STATE/kafka/$1 process=kafka-$1-$2
  if process_alive "$process"; then
    process_signal CONT "$process"
    return
  fi
  process_start "$process" java "-Xmx$(kafka_setting "$name" HEAP)" -Xms64m -XX:+UseSerialGC \
    -XX:TieredStopAtLevel=1 -Xshare:auto -XX:+ExitOnOutOfMemoryError \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
    "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://$PKI/token-keys.json" \
    "-Dorg.apache.kafka.sasl.oauthbearer.allowed.files=$PKI/token-keys.json" \
    -cp "$(readlink -f "$home/jars")/*" kafka.Kafka "$home/$id/server.properties"
}

kafka_wait_broker() {
  wait_for 90 "broker $2 of Kafka '$1'" "kafka-$1-$2" kafka_broker_ready "$1" "$2"
}

# The ports open before the broker is registered, so its log is read too.
kafka_broker_ready() {
  grep -q 'Kafka Server started' "$(log_of "kafka-$1-$2")" &&
    port_open "$HOST_ADDRESS" "$(kafka_port "$STATE/kafka/$1" "$2" PLAINTEXT)"
}

# kafka_fault VERB NAME [BROKER]: for one broker, or for all at the same time.
kafka_fault() {
  local verb=$1 name=$2 id ids=()
  [[ -e $STATE/kafka/$name/settings ]] || die "there is no Kafka cluster '$name': run 'testbed kafka up $name' first"
  if (($# > 2)); then
    [[ -d $STATE/kafka/$name/$3 ]] || die "the Kafka cluster '$name' has no broker $3: it has 1 to $(kafka_setting "$name" BROKERS)"
    ids=("$3")
  else
    for ((id = 1; id <= $(kafka_setting "$name" BROKERS); id++)); do ids+=("$id"); done
  fi
  case $verb in
    # At the same time: the last two of three would wait for a majority that is gone.
    stop) for id in "${ids[@]}"; do process_stop "kafka-$name-$id" TERM 10 & done && wait ;;
    kill) for id in "${ids[@]}"; do process_stop "kafka-$name-$id" KILL 10; done ;;
    pause) for id in "${ids[@]}"; do process_signal STOP "kafka-$name-$id"; done ;;
    resume) for id in "${ids[@]}"; do process_signal CONT "kafka-$name-$id"; done ;;
    start)
      for id in "${ids[@]}"; do kafka_start_broker "$name" "$id"; done
      for id in "${ids[@]}"; do kafka_wait_broker "$name" "$id"; done
      ;;
  esac
}

kafka_down() {
  local process
  for process in $(processes_matching "kafka-$1-[0-9]"); do process_stop "$process" KILL 10; done
  release_ports "kafka-$1"
  rm -rf "$STATE/kafka/$1"
}

# kafka_bootstrap NAME LISTENER
kafka_bootstrap() {
  local id list=''
  for ((id = 1; id <= $(kafka_setting "$1" BROKERS); id++)); do
    list+=${list:+,}$HOST_ADDRESS:$(kafka_port "$STATE/kafka/$1" "$id" "$2")
  done
  printf '%s\n' "$list"
}

kafka_env() {
  local name=$1
  [[ -e $STATE/kafka/$name/settings ]] || die "there is no Kafka cluster '$name': run 'testbed kafka up $name' first"
  export_variable QS_KAFKA_BOOTSTRAP "$(kafka_bootstrap "$name" PLAINTEXT)"
  export_variable QS_KAFKA_NAME "$name"
  export_variable QS_KAFKA_VERSION "$(kafka_setting "$name" VERSION)"
  if [[ $(kafka_setting "$name" SASL) == yes ]]; then
    export_variable QS_KAFKA_SASL_BOOTSTRAP "$(kafka_bootstrap "$name" SASL_SSL)"
    export_variable QS_KAFKA_SSL_BOOTSTRAP "$(kafka_bootstrap "$name" SSL)"
    export_variable QS_KAFKA_USER "$KAFKA_USER"
    export_variable QS_KAFKA_PASSWORD "$KAFKA_PASSWORD"
    export_variable QS_KAFKA_OTHER_USER "$KAFKA_OTHER_USER"
    export_variable QS_KAFKA_OTHER_PASSWORD "$KAFKA_OTHER_PASSWORD"
  fi
}

# kafka_tool NAME TOOL ARGUMENT...: Kafka's own command-line tools, in place of this shell, so that a signal reaches them.
kafka_tool() {
  local name=$1 tool=${2:-} class server KAFKA_JAVA
  [[ -e $STATE/kafka/$name/settings ]] || die "there is no Kafka cluster '$name': run 'testbed kafka up $name' first"
  server=(--bootstrap-server "$(kafka_bootstrap "$name" PLAINTEXT)")
  case $tool in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    acls)
      class=org.apache.kafka.tools.AclCommand
      # Up to 4.0 the class is in another package.
      if [[ $(kafka_setting "$name" VERSION) =~ ^(3|4\.0)\. ]]; then class=kafka.admin.AclCommand; fi
      ;;
    groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    share-groups) class=org.apache.kafka.tools.consumer.group.ShareGroupCommand ;;
    streams-groups) class=org.apache.kafka.tools.streams.StreamsGroupCommand ;;
    features) class=org.apache.kafka.tools.FeatureCommand ;;
    offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    producer-perf)
      class=org.apache.kafka.tools.ProducerPerformance
      # --bootstrap-server is an option of this tool from 4.2 on only.
      server=(--producer-props "bootstrap.servers=${server[1]}")
      ;;
    console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    console-share-consumer) class=org.apache.kafka.tools.consumer.ConsoleShareConsumer ;;
    streams-word-count) kafka_streams "$name" "${@:3}" ;;
    *) die "kafka has no tool '$tool': 'testbed help' lists them" ;;
  esac
  shift 2
  kafka_java_words "$STATE/kafka/$name"
  exec "${KAFKA_JAVA[@]}" "$class" "${server[@]}" "$@"
}

# kafka_streams NAME GROUP: Kafka's example application, which counts the words of the topic streams-plaintext-input
# as a member of a streams group (KIP-1071). It creates no input topic.
kafka_streams() {
  local name=$1 group=${2:-} jars work
  [[ -n $group ]] || die "usage: testbed kafka tool $name streams-word-count GROUP"
  jars=$(kafka_streams_jars "$(kafka_setting "$name" VERSION)")
  work=$(mktemp -d "$STATE/kafka/$name/streams.XXXXXX")
  cat >"$work/properties" <<CONFIG
application.id=$group
bootstrap.servers=$(kafka_bootstrap "$name" PLAINTEXT)
group.protocol=streams
state.dir=$work/state
statestore.cache.max.bytes=0
CONFIG
  exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$jars/*" org.apache.kafka.streams.examples.wordcount.WordCountDemo "$work/properties"
}
