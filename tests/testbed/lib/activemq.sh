# ActiveMQ Classic brokers for tests. lib/broker.sh describes their commands and files.
# shellcheck shell=bash

activemq_settings() {
  local security=no
  while (($# > 0)); do
    case $1 in
      --security) security=yes ;;
      *) die "activemq up has no option '$1'" ;;
    esac
    shift
  done
  echo "SECURITY=$security"
}

activemq_processes() { echo "activemq-$1"; }

# activemq_configure NAME SETTINGS
activemq_configure() {
  local name=$1 home=$STATE/activemq/$1 login=''
  broker_reserve_ports activemq "$name" STOMP AMQP JOLOKIA
  # The policy of the distribution has no list of origins either.
  jolokia_policy activemq "$name" ''
  if [[ $2 == SECURITY=yes ]]; then
    login="<simpleAuthenticationPlugin anonymousAccessAllowed=\"false\"><users>
      <authenticationUser username=\"$BROKER_USER\" password=\"$BROKER_PASSWORD\" groups=\"users\"/>
    </users></simpleAuthenticationPlugin>"
  fi
  cat >"$home/broker.xml" <<CONFIG
<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
    http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="$name" dataDirectory="$home/data"
    useJmx="true" schedulerSupport="true">
    <managementContext><managementContext createConnector="false"/></managementContext>
    <persistenceAdapter><kahaDB directory="$home/data/kahadb" journalMaxFileLength="4mb"/></persistenceAdapter>
    <!-- The statistics have the only time stamp of a queue's oldest message. -->
    <plugins><statisticsBrokerPlugin/>$login</plugins>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://$HOST_ADDRESS:$(broker_port activemq "$name" STOMP)"/>
      <transportConnector name="amqp" uri="amqp://$HOST_ADDRESS:$(broker_port activemq "$name" AMQP)"/>
    </transportConnectors>
  </broker>
</beans>
CONFIG
}

# activemq_start NAME PROCESS
activemq_start() {
  local name=$1 home=$STATE/activemq/$1
  # Without nodelay each answer of Jolokia takes 40 ms longer.
  broker_java "$2" -Xmx256m -Dsun.net.httpserver.nodelay=true \
    "$(jolokia_agent activemq "$name" /api/jolokia)" -Dactivemq.base="$home" -Dactivemq.home="$home" \
    -Djava.io.tmpdir="$home/data" -cp "$(readlink -f "$home/jars")/*" \
    org.apache.activemq.console.command.ShellCommand start "xbean:file:$home/broker.xml"
}

# Jolokia answers before the broker has its MBeans, so the log is read too.
activemq_ready() {
  grep -q "($1, ID:.*) started" "$(log_of "$2")" &&
    port_open "$HOST_ADDRESS" "$(broker_port activemq "$1" JOLOKIA)"
}

activemq_variables() {
  jolokia_variables activemq "$1" QS_ACTIVEMQ /api/jolokia
  export_variable QS_ACTIVEMQ_AMQP "$HOST_ADDRESS:$(broker_port activemq "$1" AMQP)"
}
