# Pulsar clusters for tests. One broker is one process with its bookie and metadata ("standalone"); several brokers have
# one ZooKeeper and one bookie. lib/broker.sh describes their commands and files.
# shellcheck shell=bash

# The roles of clusters with --auth: the first can do everything, the second nothing that is not granted.
PULSAR_ROLES=(admin reader)

pulsar_settings() {
  local brokers=1 auth=no
  while (($# > 0)); do
    case $1 in
      --auth) auth=yes ;;
      --brokers)
        (($# > 1)) || die "$1 needs a value"
        brokers=$2
        shift
        ;;
      *) die "pulsar up has no option '$1'" ;;
    esac
    shift
  done
  [[ $brokers =~ ^[1-9]$ ]] || die "--brokers takes a number from 1 to 9, not '$brokers'"
  echo "BROKERS=$brokers AUTH=$auth"
}

pulsar_processes() {
  local brokers id
  brokers=$(broker_count pulsar "$1")
  if ((brokers > 1)); then printf '%s\n' "pulsar-$1.zookeeper" "pulsar-$1.bookie"; fi
  for ((id = 1; id <= brokers; id++)); do echo "pulsar-$1.$id"; done
}

# pulsar_configure NAME SETTINGS
pulsar_configure() {
  local name=$1 home=$STATE/pulsar/$1 role id brokers
  local -a ports=(ZOOKEEPER BOOKIE)
  brokers=$(broker_count_of "$2")
  for ((id = 1; id <= brokers; id++)); do ports+=("BROKER$id" "HTTP$id"); done
  broker_reserve_ports pulsar "$name" "${ports[@]}"
  mkdir -p "$home/tmp"
  if [[ $2 == *AUTH=yes ]]; then
    head -c 32 /dev/urandom >"$home/secret"
    for role in "${PULSAR_ROLES[@]}"; do pulsar_token "$home/secret" "$role" >"$home/token-$role"; done
  fi
  cat >"$home/log4j2.xml" <<'CONFIG'
<Configuration>
  <Appenders><Console name="log" target="SYSTEM_ERR"><PatternLayout pattern="%d{HH:mm:ss.SSS} %p %c{1} - %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="log"/></Root></Loggers>
</Configuration>
CONFIG
  cat >"$home/zookeeper.conf" <<CONFIG
dataDir=$home/data/zookeeper
clientPortAddress=127.0.0.1
clientPort=$(broker_port pulsar "$name" ZOOKEEPER)
admin.enableServer=false
maxClientCnxns=0
CONFIG
  {
    pulsar_bookie_lines
    cat <<CONFIG
bookiePort=$(broker_port pulsar "$name" BOOKIE)
advertisedAddress=127.0.0.1
journalDirectories=$home/data/journal
ledgerDirectories=$home/data/ledgers
indexDirectories=$home/data/ledgers
metadataServiceUri=zk://127.0.0.1:$(broker_port pulsar "$name" ZOOKEEPER)/ledgers
CONFIG
  } >"$home/bookie.conf"
  for ((id = 1; id <= brokers; id++)); do
    {
      pulsar_broker_lines "$name" "$id"
      if [[ -e $home/secret ]]; then pulsar_security "$home"; fi
      if ((brokers > 1)); then
        cat <<CONFIG
metadataStoreUrl=$(pulsar_metadata "$name")
configurationMetadataStoreUrl=$(pulsar_metadata "$name")
# The others notice a dead broker after 10 s, not 30.
metadataStoreSessionTimeoutMillis=10000
defaultNumberOfNamespaceBundles=8
CONFIG
      else
        pulsar_bookie_lines
      fi
    } >"$home/$id.conf"
  done
}

pulsar_bookie_lines() {
  cat <<'CONFIG'
listeningInterface=lo
allowLoopback=true
# Only with this, a bookie in the process of a broker takes the port of the command line.
allowEphemeralPorts=true
diskUsageWarnThreshold=0.98
diskUsageThreshold=0.99
CONFIG
}

# pulsar_broker_lines NAME ID
pulsar_broker_lines() {
  cat <<CONFIG
clusterName=$1
bindAddress=$HOST_ADDRESS
advertisedAddress=$HOST_ADDRESS
brokerServicePort=$(broker_port pulsar "$1" "BROKER$2")
webServicePort=$(broker_port pulsar "$1" "HTTP$2")
managedLedgerDefaultEnsembleSize=1
managedLedgerDefaultWriteQuorum=1
managedLedgerDefaultAckQuorum=1
# As in Pulsar's defaults: tests prove that reading creates no topic.
allowAutoTopicCreation=true
allowAutoTopicCreationType=non-partitioned
# Producers and consumers of the tests.
webSocketServiceEnabled=true
CONFIG
}

# pulsar_security HOME: the properties of a broker with --auth.
pulsar_security() {
  cat <<CONFIG
authenticationEnabled=true
authorizationEnabled=true
authenticationProviders=org.apache.pulsar.broker.authentication.AuthenticationProviderToken
tokenSecretKey=file://$1/secret
superUserRoles=${PULSAR_ROLES[0]}
brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken
brokerClientAuthenticationParameters=token:$(<"$1/token-${PULSAR_ROLES[0]}")
CONFIG
}

pulsar_metadata() { printf 'zk:127.0.0.1:%s\n' "$(broker_port pulsar "$1" ZOOKEEPER)"; }

# pulsar_token SECRET-FILE ROLE: prints a JSON Web Token that does not expire, signed by HMAC with SHA-256.
pulsar_token() {
  local content key
  key=$(od -An -v -tx1 "$1" | tr -d ' \n')
  content=$(printf '{"alg":"HS256"}' | base64_of_urls).$(printf '{"sub":"%s"}' "$2" | base64_of_urls)
  printf '%s.%s\n' "$content" \
    "$(printf '%s' "$content" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64_of_urls)"
}

base64_of_urls() { base64 -w 0 | tr '+/' '-_' | tr -d '='; }

# pulsar_start NAME PROCESS
pulsar_start() {
  local name=$1 part=${2##*.} home=$STATE/pulsar/$1 opened options=()
  for opened in java.base/java.lang java.base/java.nio java.base/java.util.zip java.base/jdk.internal.misc \
    java.base/jdk.internal.platform java.base/sun.net java.management/sun.management \
    jdk.management/com.sun.management.internal; do
    options+=("--add-opens=$opened=ALL-UNNAMED")
  done
  options+=(-Dio.netty.tryReflectionSetAccessible=true -Dlog4j.configurationFile="$home/log4j2.xml"
    -Djava.io.tmpdir="$home/tmp" -cp "$(readlink -f "$home/jars")/*")
  case $part in
    zookeeper)
      broker_java "$2" -Xmx96m "${options[@]}" org.apache.zookeeper.server.quorum.QuorumPeerMain "$home/zookeeper.conf"
      ;;
    bookie)
      pulsar_prepare_metadata "$name" "${options[@]}"
      broker_java "$2" -Xmx192m -XX:MaxDirectMemorySize=192m "${options[@]}" \
        org.apache.bookkeeper.server.Main --conf "$home/bookie.conf"
      ;;
    *)
      options=(-Xmx384m -XX:MaxDirectMemorySize=256m "${options[@]}")
      if (($(broker_count pulsar "$name") > 1)); then
        broker_java "$2" "${options[@]}" org.apache.pulsar.PulsarBrokerStarter --broker-conf "$home/$part.conf"
      else
        broker_java "$2" "${options[@]}" org.apache.pulsar.PulsarStandaloneStarter --config "$home/$part.conf" \
          --advertised-address "$HOST_ADDRESS" --no-functions-worker --no-stream-storage \
          --metadata-dir "$home/data/metadata" --bookkeeper-dir "$home/data/bookkeeper" --num-bookies 1 \
          --bookkeeper-port "$(broker_port pulsar "$name" BOOKIE)"
      fi
      ;;
  esac
}

# pulsar_prepare_metadata NAME OPTION...: once, in ZooKeeper, before the first start of the bookie.
pulsar_prepare_metadata() {
  local name=$1 home=$STATE/pulsar/$1
  shift
  [[ ! -e $home/prepared ]] || return 0
  java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto "$@" org.apache.pulsar.PulsarClusterMetadataSetup \
    --cluster "$name" --metadata-store "$(pulsar_metadata "$name")" \
    --configuration-metadata-store "$(pulsar_metadata "$name")" --web-service-url "$(pulsar_admin_url "$name" 1)" \
    --broker-service-url "pulsar://$HOST_ADDRESS:$(broker_port pulsar "$name" BROKER1)" >"$home/prepare.log" 2>&1 ||
    die "cannot prepare the metadata of Pulsar '$name': $(tail -n 3 "$home/prepare.log")"
  touch "$home/prepared"
}

# pulsar_ready NAME PROCESS
pulsar_ready() {
  local part=${2##*.}
  case $part in
    zookeeper | bookie) port_open 127.0.0.1 "$(broker_port pulsar "$1" "${part^^}")" ;;
    # This health check sends a message and receives it.
    *) curl -fsS -m 10 -H "$(pulsar_authorization "$1")" "$(pulsar_admin_url "$1" "$part")/admin/v2/brokers/health" ;;
  esac
}

# pulsar_admin_url NAME ID
pulsar_admin_url() { printf 'http://%s:%s\n' "$HOST_ADDRESS" "$(broker_port pulsar "$1" "HTTP$2")"; }

pulsar_authorization() {
  local token=$STATE/pulsar/$1/token-${PULSAR_ROLES[0]}
  if [[ -e $token ]]; then printf 'Authorization: Bearer %s' "$(<"$token")"; fi
}

pulsar_variables() {
  local home=$STATE/pulsar/$1 id admin='' brokers=''
  for ((id = 1; id <= $(broker_count pulsar "$1"); id++)); do
    admin+=${admin:+,}$(pulsar_admin_url "$1" "$id")
    brokers+=${brokers:+,}$HOST_ADDRESS:$(broker_port pulsar "$1" "BROKER$id")
  done
  export_variable QS_PULSAR_ADMIN_URL "${admin%%,*}"
  export_variable QS_PULSAR_ADMIN_URLS "$admin"
  export_variable QS_PULSAR_URL "pulsar://$brokers"
  if [[ -e $home/secret ]]; then
    export_variable QS_PULSAR_TOKEN "$(<"$home/token-admin")"
    export_variable QS_PULSAR_READER_TOKEN "$(<"$home/token-reader")"
  fi
}
