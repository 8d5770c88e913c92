# Pulsar brokers for tests: broker, bookie and metadata in one process ("standalone"). lib/broker.sh describes their
# commands and files.
# shellcheck shell=bash

# The roles of brokers with --auth: the first can do everything, the second nothing that is not granted.
PULSAR_ROLES=(admin reader)

pulsar_settings() {
  local auth=no
  while (($# > 0)); do
    case $1 in
      --auth) auth=yes ;;
      *) die "pulsar up has no option '$1'" ;;
    esac
    shift
  done
  echo "AUTH=$auth"
}

pulsar_processes() { echo "pulsar-$1"; }

# pulsar_configure NAME SETTINGS
pulsar_configure() {
  local name=$1 home=$STATE/pulsar/$1 role
  broker_reserve_ports pulsar "$name" BROKER HTTP BOOKIE
  mkdir -p "$home/tmp"
  if [[ $2 == AUTH=yes ]]; then
    head -c 32 /dev/urandom >"$home/secret"
    for role in "${PULSAR_ROLES[@]}"; do pulsar_token "$home/secret" "$role" >"$home/token-$role"; done
  fi
  cat >"$home/log4j2.xml" <<'CONFIG'
<Configuration>
  <Appenders><Console name="log" target="SYSTEM_ERR"><PatternLayout pattern="%d{HH:mm:ss.SSS} %p %c{1} - %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="log"/></Root></Loggers>
</Configuration>
CONFIG
  {
    cat <<CONFIG
clusterName=$name
bindAddress=$HOST_ADDRESS
advertisedAddress=$HOST_ADDRESS
brokerServicePort=$(broker_port pulsar "$name" BROKER)
webServicePort=$(broker_port pulsar "$name" HTTP)
managedLedgerDefaultEnsembleSize=1
managedLedgerDefaultWriteQuorum=1
managedLedgerDefaultAckQuorum=1
# As in Pulsar's defaults: tests prove that reading creates no topic.
allowAutoTopicCreation=true
allowAutoTopicCreationType=non-partitioned
# Producers and consumers of the tests.
webSocketServiceEnabled=true
# The bookie. Only with ephemeral ports it takes the port of its command line.
allowEphemeralPorts=true
listeningInterface=lo
allowLoopback=true
diskUsageWarnThreshold=0.98
diskUsageThreshold=0.99
CONFIG
    if [[ $2 == AUTH=yes ]]; then
      cat <<CONFIG
authenticationEnabled=true
authorizationEnabled=true
authenticationProviders=org.apache.pulsar.broker.authentication.AuthenticationProviderToken
tokenSecretKey=file://$home/secret
superUserRoles=${PULSAR_ROLES[0]}
brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken
brokerClientAuthenticationParameters=token:$(<"$home/token-${PULSAR_ROLES[0]}")
CONFIG
    fi
  } >"$home/standalone.conf"
}

# pulsar_token SECRET-FILE ROLE: prints a JSON Web Token that does not expire, signed by HMAC with SHA-256.
pulsar_token() {
  local content key
  key=$(od -An -v -tx1 "$1" | tr -d ' \n')
  content=$(printf '{"alg":"HS256"}' | base64_of_urls).$(printf '{"sub":"%s"}' "$2" | base64_of_urls)
  printf '%s.%s\n' "$content" \
    "$(printf '%s' "$content" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64_of_urls)"
}

base64_of_urls() { base64 -w 0 | tr '+/' '-_' | tr -d '='; }

pulsar_start() {
  local name=$1 home=$STATE/pulsar/$1 opened options=()
  for opened in java.base/java.lang java.base/java.nio java.base/java.util.zip java.base/jdk.internal.misc \
    java.base/jdk.internal.platform java.base/sun.net java.management/sun.management \
    jdk.management/com.sun.management.internal; do
    options+=("--add-opens=$opened=ALL-UNNAMED")
  done
  broker_start_java "pulsar-$name" -Xmx384m -XX:MaxDirectMemorySize=256m "${options[@]}" \
    -Dio.netty.tryReflectionSetAccessible=true -Dlog4j.configurationFile="$home/log4j2.xml" \
    -Djava.io.tmpdir="$home/tmp" -cp "$(readlink -f "$home/jars")/*" \
    org.apache.pulsar.PulsarStandaloneStarter --config "$home/standalone.conf" --advertised-address "$HOST_ADDRESS" \
    --no-functions-worker --no-stream-storage --metadata-dir "$home/data/metadata" \
    --bookkeeper-dir "$home/data/bookkeeper" --num-bookies 1 --bookkeeper-port "$(broker_port pulsar "$name" BOOKIE)"
}

# The health check sends a message and receives it.
pulsar_ready() { curl -fsS -m 10 -H "$(pulsar_authorization "$1")" "$(pulsar_admin_url "$1")/admin/v2/brokers/health"; }

pulsar_admin_url() { printf 'http://%s:%s\n' "$HOST_ADDRESS" "$(broker_port pulsar "$1" HTTP)"; }

pulsar_authorization() {
  local token=$STATE/pulsar/$1/token-${PULSAR_ROLES[0]}
  if [[ -e $token ]]; then printf 'Authorization: Bearer %s' "$(<"$token")"; fi
}

pulsar_variables() {
  local home=$STATE/pulsar/$1
  export_variable QS_PULSAR_ADMIN_URL "$(pulsar_admin_url "$1")"
  export_variable QS_PULSAR_URL "pulsar://$HOST_ADDRESS:$(broker_port pulsar "$1" BROKER)"
  if [[ -e $home/secret ]]; then
    export_variable QS_PULSAR_TOKEN "$(<"$home/token-admin")"
    export_variable QS_PULSAR_READER_TOKEN "$(<"$home/token-reader")"
  fi
}
