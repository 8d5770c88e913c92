# Debian packages: missing ones are installed, all at once.
# shellcheck shell=bash

# What each part needs, as COMMAND-OR-FILE=PACKAGE.
BASE_NEEDS=(ip=iproute2 openssl=openssl setsid=util-linux curl=curl python3=python3)
CLUSTER_NEEDS=(containerd=containerd runc=runc /usr/lib/cni/bridge=containernetworking-plugins
  nft=nftables mmdebstrap=mmdebstrap cc=gcc /usr/include/stdlib.h=libc6-dev)
JAVA_NEEDS=(java=default-jre-headless mvn=maven)
RABBITMQ_NEEDS=(/usr/lib/rabbitmq/bin/rabbitmq-server=rabbitmq-server)
RABBITMQ4_NEEDS=(mmdebstrap=mmdebstrap)

# need COMMAND-OR-FILE=PACKAGE...
need() {
  local entry missing=()
  for entry in "$@"; do
    have "${entry%%=*}" || missing+=("${entry#*=}")
  done
  ((${#missing[@]} > 0)) || return 0
  command -v apt-get >/dev/null ||
    die "missing on this machine: ${missing[*]}: install them by hand, because there is no apt-get here"
  # Several parts come up at the same time, and apt-get runs one at a time.
  mkdir -p "$CACHE"
  local lock
  take_lock "$CACHE/packages.lock" lock -x
  say "installing ${missing[*]}"
  local log=$CACHE/packages.log
  if ! install_packages "${missing[@]}" >"$log" 2>&1; then
    { apt-get update && install_packages "${missing[@]}"; } >>"$log" 2>&1 || {
      tail -n 15 "$log" >&2
      die "cannot install ${missing[*]}: read $log"
    }
  fi
  flock -u "$lock"
  for entry in "$@"; do
    have "${entry%%=*}" || die "package ${entry#*=} is installed but has no ${entry%%=*}: the test bed is made for Debian 12"
  done
}

have() {
  case $1 in
    /*) [[ -e $1 ]] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

install_packages() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@"
}
