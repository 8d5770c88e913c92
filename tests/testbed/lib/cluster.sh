# The Kubernetes control plane and kube-proxy, as processes of the machine. The
# node is in node.sh.
# shellcheck shell=bash

CLUSTER=$STATE/cluster
CLUSTER_PKI=$STATE/cluster/pki
KUBERNETES=

# In the order in which they are started. Each waits for the others itself.
CONTROL_PLANE=(etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy)

cluster_prepare() {
  need "${CLUSTER_NEEDS[@]}"
  base_files >/dev/null
  pause_program >/dev/null
}

cluster_up() {
  KUBERNETES=$(kubernetes_programs)
  if [[ -e $CLUSTER/ready ]] && ! { process_alive etcd && process_alive node; }; then
    say "a part of the cluster has ended: making a new cluster"
    cluster_down
  fi
  if [[ ! -e $CLUSTER/ready ]]; then
    say "starting Kubernetes"
    cluster_down
    write_cluster_files
  fi
  local program
  for program in "${CONTROL_PLANE[@]}"; do
    if process_alive "$program"; then
      process_signal CONT "$program"
    else
      "start_${program//-/_}"
    fi
  done
  node_up
  wait_for 60 'the API server' kube-apiserver admin get --raw /readyz
  wait_for 60 'the node' node node_is_ready
  wait_for 30 'the default service account' kube-controller-manager admin -n default get serviceaccount default
  touch "$CLUSTER/ready"
}

cluster_down() {
  node_down
  local program
  for program in "${CONTROL_PLANE[@]}"; do process_stop "$program" KILL 10; done
  release_ports cluster
  rm -rf "$CLUSTER"
}

admin() { "$KUBERNETES/kubectl" --kubeconfig "$CLUSTER/admin.kubeconfig" --request-timeout 5s "$@"; }

node_is_ready() {
  [[ $(admin get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

write_cluster_files() {
  local port program
  mkdir -p "$CLUSTER" "$CLUSTER_PKI" "$STATE/bin"
  for port in etcd etcd-peer apiserver controller-manager scheduler kubelet proxy; do
    reserve_port cluster >"$CLUSTER/$port.port"
  done
  for program in kubectl helm; do ln -sfn "$KUBERNETES/$program" "$STATE/bin/$program"; done
  ln -sfn "$(command -v ctr)" "$STATE/bin/ctr"

  # An authority of its own: a client certificate of a broker must mean nothing to Kubernetes.
  # shellcheck disable=SC2034 # the functions called below read PKI
  local PKI=$CLUSTER_PKI here="IP:$HOST_ADDRESS,IP:$SERVICE_API,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  make_authority cluster-ca 'Test bed cluster CA'
  make_certificate apiserver cluster-ca /CN=kube-apiserver "$here"
  make_certificate apiserver-client cluster-ca /O=system:masters/CN=kube-apiserver-client ''
  make_certificate admin cluster-ca /O=system:masters/CN=admin ''
  make_certificate kubelet cluster-ca "/O=system:nodes/CN=system:node:$NODE" "IP:$HOST_ADDRESS"
  make_certificate kube-controller-manager cluster-ca /CN=system:kube-controller-manager IP:127.0.0.1
  make_certificate kube-scheduler cluster-ca /CN=system:kube-scheduler IP:127.0.0.1
  make_certificate kube-proxy cluster-ca /CN=system:kube-proxy ''
  openssl genrsa -out "$CLUSTER_PKI/tokens.key" 2048 2>/dev/null
  for program in admin kubelet kube-controller-manager kube-scheduler kube-proxy; do
    write_kubeconfig "$program"
  done
}

# write_kubeconfig NAME: for the user whose certificate has that name.
write_kubeconfig() {
  cat >"$CLUSTER/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: testbed
  cluster:
    server: https://$HOST_ADDRESS:$(<"$CLUSTER/apiserver.port")
    certificate-authority-data: $(base64 -w0 "$CLUSTER_PKI/cluster-ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$CLUSTER_PKI/$1.crt")
    client-key-data: $(base64 -w0 "$CLUSTER_PKI/$1.key")
contexts:
- name: testbed
  context: {cluster: testbed, user: $1}
current-context: testbed
YAML
  chmod 600 "$CLUSTER/$1.kubeconfig"
}

start_etcd() {
  local client peer
  client=http://127.0.0.1:$(<"$CLUSTER/etcd.port")
  peer=http://127.0.0.1:$(<"$CLUSTER/etcd-peer.port")
  process_start etcd "$KUBERNETES/etcd" --name testbed --data-dir "$CLUSTER/etcd" --unsafe-no-fsync \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "testbed=$peer" \
    --log-level warn
}

start_kube_apiserver() {
  # The audit log records each write and its user, so that tests can count writes.
  cat >"$CLUSTER/audit-policy.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
YAML
  process_start kube-apiserver "$KUBERNETES/kube-apiserver" \
    --etcd-servers "http://127.0.0.1:$(<"$CLUSTER/etcd.port")" \
    --bind-address "$HOST_ADDRESS" --advertise-address "$HOST_ADDRESS" \
    --secure-port "$(<"$CLUSTER/apiserver.port")" \
    --service-cluster-ip-range "$SERVICE_RANGE" --allow-privileged \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --client-ca-file "$CLUSTER_PKI/cluster-ca.crt" \
    --tls-cert-file "$CLUSTER_PKI/apiserver.crt" --tls-private-key-file "$CLUSTER_PKI/apiserver.key" \
    --kubelet-certificate-authority "$CLUSTER_PKI/cluster-ca.crt" \
    --kubelet-client-certificate "$CLUSTER_PKI/apiserver-client.crt" \
    --kubelet-client-key "$CLUSTER_PKI/apiserver-client.key" \
    --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$CLUSTER_PKI/tokens.key" \
    --service-account-signing-key-file "$CLUSTER_PKI/tokens.key" \
    --audit-policy-file "$CLUSTER/audit-policy.yaml" --audit-log-path "$STATE/logs/audit.log"
}

start_kube_controller_manager() {
  process_start kube-controller-manager "$KUBERNETES/kube-controller-manager" \
    --kubeconfig "$CLUSTER/kube-controller-manager.kubeconfig" \
    --bind-address 127.0.0.1 --secure-port "$(<"$CLUSTER/controller-manager.port")" \
    --tls-cert-file "$CLUSTER_PKI/kube-controller-manager.crt" \
    --tls-private-key-file "$CLUSTER_PKI/kube-controller-manager.key" \
    --leader-elect=false --use-service-account-credentials \
    --root-ca-file "$CLUSTER_PKI/cluster-ca.crt" \
    --service-account-private-key-file "$CLUSTER_PKI/tokens.key" \
    --cluster-signing-cert-file "$CLUSTER_PKI/cluster-ca.crt" \
    --cluster-signing-key-file "$CLUSTER_PKI/cluster-ca.key" \
    --kube-api-qps 200 --kube-api-burst 400
}

start_kube_scheduler() {
  process_start kube-scheduler "$KUBERNETES/kube-scheduler" \
    --kubeconfig "$CLUSTER/kube-scheduler.kubeconfig" \
    --bind-address 127.0.0.1 --secure-port "$(<"$CLUSTER/scheduler.port")" \
    --tls-cert-file "$CLUSTER_PKI/kube-scheduler.crt" \
    --tls-private-key-file "$CLUSTER_PKI/kube-scheduler.key" \
    --leader-elect=false --kube-api-qps 200 --kube-api-burst 400
}

start_kube_proxy() {
  # Pods share one bridge, so an answer could bypass the address translation.
  # Masquerading makes it pass through the machine.
  cat >"$CLUSTER/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $CLUSTER/kube-proxy.kubeconfig}
hostnameOverride: $NODE
clusterCIDR: $SUBNET.0.0/16
nftables: {masqueradeAll: true, minSyncPeriod: 100ms}
conntrack: {maxPerCore: 0}
oomScoreAdj: 0
healthzBindAddress: ""
metricsBindAddress: 127.0.0.1:$(<"$CLUSTER/proxy.port")
YAML
  process_start kube-proxy "$KUBERNETES/kube-proxy" --config "$CLUSTER/kube-proxy.yaml"
}

# apiserver_command VERB: the fault commands of the API server.
apiserver_command() {
  local verb=${1:-}
  KUBERNETES=$(kubernetes_programs)
  claim_shared
  [[ -e $CLUSTER/ready ]] || die "there is no cluster: run 'testbed up cluster' first"
  case $verb in
    stop) process_stop kube-apiserver TERM 15 ;;
    kill) process_stop kube-apiserver KILL 15 ;;
    pause) process_signal STOP kube-apiserver ;;
    resume) process_signal CONT kube-apiserver ;;
    start)
      process_alive kube-apiserver || start_kube_apiserver
      wait_for 60 'the API server' kube-apiserver admin get --raw /readyz
      ;;
    *) die "usage: testbed apiserver stop|kill|pause|resume|start" ;;
  esac
}
