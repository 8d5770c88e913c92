# Container images without a container engine: written as archives, imported
# into the node's containerd. Pods use them with imagePullPolicy: Never.
# shellcheck shell=bash

PAUSE_IMAGE=docker.io/library/qs-testbed-pause:1
# The path and not the name alone: a version manager can put a wrapper before it.
PYTHON=$([[ -x /usr/bin/python3 ]] && echo /usr/bin/python3 || echo python3)

image_command() {
  local command=${1:-}
  (($# == 0)) || shift
  case $command in
    build) image_build "$@" ;;
    build-base) need "${BASE_NEEDS[@]}" && base_files ;;
    load)
      (($# == 1)) || die "usage: testbed image load TAR"
      claim_shared
      image_load "$1"
      ;;
    *) die "usage: testbed image build|build-base|load" ;;
  esac
}

# full_name NAME: the name by which the kubelet looks an image up.
full_name() {
  local name=$1
  [[ ${name##*/} == *:* ]] || name+=:latest
  case ${name%%/*} in
    *.* | *:*/* | localhost) ;;
    "$name") name=docker.io/library/$name ;;
    *) name=docker.io/$name ;;
  esac
  printf '%s\n' "$name"
}

image_build() {
  local name='' output='' user=65532 entrypoint=() files=() base work
  while (($# > 0)); do
    case $1 in
      --entrypoint | --output | --user) (($# > 1)) || die "$1 needs a value" ;;&
      --entrypoint) entrypoint+=("$2") && shift ;;
      --output) output=$2 && shift ;;
      --user) user=$2 && shift ;;
      -*) die "image build has no option '$1'" ;;
      *=*) files+=("$1") ;;
      *)
        [[ -z $name ]] || die "image build takes one name and pairs of FILE=PATH, not '$1'"
        name=$1
        ;;
    esac
    shift
  done
  [[ -n $name ]] || die "usage: testbed image build NAME FILE=PATH... [--entrypoint WORD]... [--user UID] [--output TAR]"
  need "${BASE_NEEDS[@]}"
  base=$(base_files)
  if ((${#entrypoint[@]} == 0 && ${#files[@]} > 0)); then entrypoint=("${files[0]#*=}"); fi
  if [[ -n $output ]]; then
    write_image "$output" "$(full_name "$name")" "$base" "$user" "${#entrypoint[@]}" "${entrypoint[@]}" "${files[@]}"
    return
  fi
  claim_shared
  work=$(mktemp -d "$STATE/image.XXXXXX")
  write_image "$work/image.tar" "$(full_name "$name")" "$base" "$user" "${#entrypoint[@]}" "${entrypoint[@]}" "${files[@]}"
  image_load "$work/image.tar"
  rm -rf "$work"
}

# write_image OUTPUT NAME BASE USER COUNT ENTRYPOINT-WORD{COUNT} FILE=PATH...
write_image() {
  local output=$1 name=$2 base=$3 user=$4 count=$5 words
  shift 5
  words=$("$PYTHON" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "${@:1:count}")
  "$PYTHON" "$TESTBED_DIR/lib/image.py" "$output" "$name" "$base" "$user" "$words" "${@:count+1}" ||
    die "could not write the image $name"
}

image_load() {
  process_alive node || die "there is no node to load images into: run 'testbed up cluster' first, or use --output TAR"
  [[ -f $1 ]] || die "there is no file $1 to load"
  containerd_client images import "$1" >/dev/null || die "containerd refused the images of $1"
}

containerd_client() { ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }
