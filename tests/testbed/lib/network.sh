# The bridge that pods are attached to. The brokers and the API server listen on
# its address, which pods and the machine can both reach.
# shellcheck shell=bash

BRIDGE=qs-testbed
SUBNET=${QS_TESTBED_SUBNET:-10.213}
HOST_ADDRESS=$SUBNET.0.1
SERVICE_RANGE=10.96.0.0/16
SERVICE_API=10.96.0.1

network_up() {
  if ip link show "$BRIDGE" >/dev/null 2>&1; then return; fi
  [[ $SUBNET =~ ^[0-9]{1,3}\.[0-9]{1,3}$ ]] ||
    die "QS_TESTBED_SUBNET must be the first two numbers of a private address range, like 10.213, not '$SUBNET'"
  if ip -o -4 address show | grep -q "inet ${SUBNET//./\\.}\."; then
    die "the address range $SUBNET.0.0/16 is in use on this machine: choose another one with QS_TESTBED_SUBNET"
  fi
  ip link add "$BRIDGE" type bridge
  ip address add "$HOST_ADDRESS/16" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  mkdir -p "$STATE/network"
  # Pods reach the addresses of Services only with forwarding.
  [[ -e $STATE/network/ip_forward ]] || cat /proc/sys/net/ipv4/ip_forward >"$STATE/network/ip_forward"
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

network_down() {
  local table link
  for link in $(ip -o link show master "$BRIDGE" 2>/dev/null | sed 's/^[0-9]*: \([^:@]*\).*/\1/'); do
    ip link delete "$link" 2>/dev/null || true
  done
  ip link delete "$BRIDGE" 2>/dev/null || true
  if command -v nft >/dev/null; then
    for table in 'ip kube-proxy' 'ip6 kube-proxy'; do
      # shellcheck disable=SC2086 # family and name are two words
      nft delete table $table 2>/dev/null || true
    done
  fi
  if [[ -e $STATE/network/ip_forward ]]; then
    cat "$STATE/network/ip_forward" >/proc/sys/net/ipv4/ip_forward
  fi
}
