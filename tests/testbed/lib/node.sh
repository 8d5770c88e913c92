# The node: containerd, the kubelet and all pods, in process and mount
# namespaces of their own. When the first process there ends, for whatever
# reason, the kernel ends all others and removes their mounts.
# shellcheck shell=bash

NODE=testbed
CONTAINERD_SOCKET=$STATE/containerd.sock
# All of the node is below this control group, so that it does not conflict with
# a kubelet of the machine itself.
CGROUP=queuescaler-testbed

node_up() {
  if process_alive node; then return; fi
  # A node that ended leaves files of its pods; the next one starts without them.
  node_down
  mkdir -p "$STATE"/node/{kubelet,cni,manifests,pod-logs}
  cgroups_up
  write_containerd_config
  write_kubelet_config
  local pause
  pause=$(pause_program)
  write_image "$STATE/node/pause.tar" "$PAUSE_IMAGE" - 65535 1 /pause "$pause=/pause"
  cp -L /etc/resolv.conf "$STATE/node/resolv.conf" 2>/dev/null || touch "$STATE/node/resolv.conf"
  process_start node unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
    bash "$TESTBED_DIR/lib/node-init" "$STATE/node" "$KUBERNETES/kubelet" "$NODE" "$HOST_ADDRESS" "$CGROUP"
}

node_down() {
  process_stop node KILL 20
  cgroups_down
  rm -rf "$STATE/node" "$CONTAINERD_SOCKET"*
}

# Prints one folder per controller with cgroup version 1, and one folder with version 2.
cgroup_roots() {
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    echo /sys/fs/cgroup
  else
    local root
    for root in /sys/fs/cgroup/*/; do
      if mountpoint -q "$root" && [[ ! -L ${root%/} ]]; then echo "${root%/}"; fi
    done
  fi
}

cgroups_up() {
  local root
  for root in $(cgroup_roots); do
    mkdir -p "$root/$CGROUP"
    # A new cpuset is empty, and no process can run in it.
    if [[ -e $root/$CGROUP/cpuset.cpus && -e $root/cgroup.clone_children ]]; then
      cat "$root/cpuset.cpus" >"$root/$CGROUP/cpuset.cpus"
      cat "$root/cpuset.mems" >"$root/$CGROUP/cpuset.mems"
    fi
  done
}

cgroups_down() {
  local root deadline=$((SECONDS + 10))
  for root in $(cgroup_roots); do
    # The kernel releases a group some time after its last process has ended.
    while [[ -d $root/$CGROUP ]]; do
      find "$root/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [[ -d $root/$CGROUP ]] || break
      ((SECONDS < deadline)) || die "processes are still running in $root/$CGROUP: end those that its cgroup.procs files list, and try again"
      sleep 0.1
    done
  done
}

write_containerd_config() {
  cat >"$STATE/node/containerd.toml" <<TOML
version = 2
root = "$STATE/node/containerd"
state = "$STATE/node/containerd-run"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "$CONTAINERD_SOCKET"
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/node/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  # In a container, root often lacks the right to lower these scores, and no pod would start.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  max_concurrent_downloads = 1
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/node/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
TOML
  cat >"$STATE/node/cni/10-testbed.conflist" <<JSON
{
  "cniVersion": "1.0.0", "name": "testbed",
  "plugins": [
    {
      "type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$STATE/node/addresses",
        "ranges": [[{"subnet": "$SUBNET.0.0/16", "rangeStart": "$SUBNET.1.1", "gateway": "$HOST_ADDRESS"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    }
  ]
}
JSON
}

write_kubelet_config() {
  cat >"$STATE/node/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $HOST_ADDRESS
port: $(<"$STATE/cluster/kubelet.port")
healthzPort: 0
readOnlyPort: 0
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $CLUSTER_PKI/cluster-ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $CLUSTER_PKI/kubelet.crt
tlsPrivateKeyFile: $CLUSTER_PKI/kubelet.key
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
oomScoreAdj: 0
maxPods: 200
# There is no registry, so that a removed image could not be pulled again.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 500Mi, imagefs.available: 500Mi}
podLogsDir: $STATE/node/pod-logs
staticPodPath: $STATE/node/manifests
volumePluginDir: $STATE/node/volume-plugins
resolvConf: $STATE/node/resolv.conf
kubeAPIQPS: 200
kubeAPIBurst: 400
eventRecordQPS: 0
YAML
}
