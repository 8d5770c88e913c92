# Artemis brokers for tests. lib/broker.sh describes their commands and files.
# shellcheck shell=bash

artemis_settings() { no_options artemis "$@" && echo 'SECURITY=yes'; }

artemis_processes() { echo "artemis-$1"; }

# artemis_configure NAME
artemis_configure() {
  local name=$1 home=$STATE/artemis/$1
  broker_reserve_ports artemis "$name" STOMP JOLOKIA
  # As in the distribution, which allows the origins that its installation was given.
  jolokia_policy artemis "$name" "<allow-origin>*://$HOST_ADDRESS*</allow-origin>"
  mkdir -p "$home/etc"
  echo "$BROKER_USER=$BROKER_PASSWORD" >"$home/users.properties"
  echo "users=$BROKER_USER" >"$home/roles.properties"
  cat >"$home/login.config" <<CONFIG
testbed {
  org.apache.activemq.artemis.spi.core.security.jaas.PropertiesLoginModule required
    org.apache.activemq.jaas.properties.user="users.properties"
    org.apache.activemq.jaas.properties.role="roles.properties";
};
CONFIG
  artemis_broker_file "$name" >"$home/etc/broker.xml"
}

artemis_broker_file() {
  local data=$STATE/artemis/$1/data permission
  # Without the security domain the embedded broker has no users.
  cat <<CONFIG
<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
  <name>$1</name>
  <journal-type>NIO</journal-type>
  <journal-datasync>false</journal-datasync>
  <journal-pool-files>10</journal-pool-files>
  <journal-file-size>1M</journal-file-size>
  <journal-directory>$data/journal</journal-directory>
  <bindings-directory>$data/bindings</bindings-directory>
  <paging-directory>$data/paging</paging-directory>
  <large-messages-directory>$data/large</large-messages-directory>
  <jmx-management-enabled>true</jmx-management-enabled>
  <critical-analyzer>false</critical-analyzer>
  <max-disk-usage>99</max-disk-usage>
  <acceptors>
    <acceptor name="all">tcp://$HOST_ADDRESS:$(broker_port artemis "$1" STOMP)?protocols=CORE,AMQP,STOMP;securityDomain=testbed</acceptor>
  </acceptors>
  <security-settings><security-setting match="#">
$(for permission in send consume browse manage createAddress deleteAddress createDurableQueue deleteDurableQueue \
    createNonDurableQueue deleteNonDurableQueue; do
    echo "    <permission type=\"$permission\" roles=\"users\"/>"
  done)
  </security-setting></security-settings>
  <address-settings>
    <address-setting match="#">
      <dead-letter-address>DLQ</dead-letter-address>
      <expiry-address>ExpiryQueue</expiry-address>
      <max-delivery-attempts>3</max-delivery-attempts>
    </address-setting>
    <address-setting match="kept.#">
      <auto-delete-queues>false</auto-delete-queues>
      <auto-delete-addresses>false</auto-delete-addresses>
    </address-setting>
    <address-setting match="exclusive.#"><default-exclusive-queue>true</default-exclusive-queue></address-setting>
    <address-setting match="limited.#"><default-max-consumers>2</default-max-consumers></address-setting>
  </address-settings>
  <addresses>
    <address name="DLQ"><anycast><queue name="DLQ"/></anycast></address>
    <address name="ExpiryQueue"><anycast><queue name="ExpiryQueue"/></anycast></address>
  </addresses>
</core></configuration>
CONFIG
}

# artemis_start NAME PROCESS
artemis_start() {
  local name=$1 home=$STATE/artemis/$1
  # Without nodelay each answer of Jolokia takes 40 ms longer.
  broker_java "$2" -Xmx256m -Dsun.net.httpserver.nodelay=true \
    "$(jolokia_agent artemis "$name" /console/jolokia)" -Djava.io.tmpdir="$home/data" \
    -Djava.security.auth.login.config="$home/login.config" \
    -Dorg.slf4j.simpleLogger.log.org.apache.activemq.audit=off -cp "$(readlink -f "$home/jars")/*" \
    org.apache.activemq.artemis.core.server.embedded.Main "$home"
}

# Jolokia answers before the broker has its MBeans, so the log is read too.
artemis_ready() {
  grep -q AMQ221007 "$(log_of "$2")" &&
    port_open "$HOST_ADDRESS" "$(broker_port artemis "$1" JOLOKIA)"
}

artemis_variables() {
  jolokia_variables artemis "$1" QS_ARTEMIS /console/jolokia
  # All protocols have the same port.
  export_variable QS_ARTEMIS_AMQP "$HOST_ADDRESS:$(broker_port artemis "$1" STOMP)"
}
