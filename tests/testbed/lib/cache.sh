# The cache of files that take long to make and do not depend on the checkout:
# made once, in the user's cache folder, under a hash of their sources.
# shellcheck shell=bash

# cached NAME HASH FUNCTION: prints the folder of that entry. If there is none,
# the function makes it; its argument is an empty folder.
cached() {
  local entry=$CACHE/$1-$2 lock
  if [[ ! -d $entry ]]; then
    mkdir -p "$CACHE"
    take_lock "$CACHE/$1-$2.lock" lock -x
    if [[ ! -d $entry ]]; then
      rm -rf "$entry.making"
      mkdir "$entry.making"
      # In the background, because there a failing command ends the function.
      "$3" "$entry.making" >"$entry.log" 2>&1 &
      wait $! || {
        tail -n 15 "$entry.log" >&2
        die "could not make $1: read $entry.log"
      }
      mv "$entry.making" "$entry"
    fi
    exec {lock}>&-
  fi
  printf '%s\n' "$entry"
}

# cached_by_maven NAME HASH FUNCTION: as cached, one at a time, because two processes cannot write Maven's repository.
cached_by_maven() {
  local maven
  [[ -d $CACHE/$1-$2 ]] || take_lock "$CACHE/maven.lock" maven -x
  cached "$@"
  [[ -z ${maven:-} ]] || exec {maven}>&-
}

KUBERNETES_SOURCES=$TESTBED_DIR/kubernetes
KUBERNETES_PROGRAMS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl helm)

# kubernetes_programs: prints the folder with a link for each program.
kubernetes_programs() {
  local hash
  hash=$(kubernetes_hash)
  if [[ ! -d $CACHE/kubernetes-$hash ]]; then
    check_go
    say "building Kubernetes (7 to 10 minutes on 2 cores; the result is cached)"
  fi
  cached kubernetes "$hash" make_kubernetes
}

kubernetes_hash() { hash_of "$KUBERNETES_SOURCES"/{main.go,go.mod,go.sum} "$(declare -f make_kubernetes)"; }

# check_go: fails if the version of Go is older than go.mod requires. From 1.21 on, Go fetches the required version
# itself, unless GOTOOLCHAIN forbids it; older ones, such as Debian's, fail much later with an unclear error.
check_go() {
  local wanted found
  wanted=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' "$KUBERNETES_SOURCES/go.mod")
  command -v go >/dev/null ||
    die "Go is missing: install version $wanted or newer as described at https://go.dev/doc/install; Debian's version is too old"
  found=$(cd "$KUBERNETES_SOURCES" && go env GOVERSION 2>/dev/null) || found=$(GOTOOLCHAIN=local go env GOVERSION)
  printf '%s\n' "$wanted" "${found#go}" | sort --version-sort --check=quiet ||
    die "$found cannot build Kubernetes: install Go $wanted or newer as described at https://go.dev/doc/install"
}

make_kubernetes() {
  local version program
  command -v go >/dev/null || die "Go is missing: install version 1.26 or newer, Debian's is too old"
  version=$(sed -n 's/^\tk8s.io\/kubernetes v\(.*\)/\1/p' "$KUBERNETES_SOURCES/go.mod")
  local set='-X k8s.io/component-base/version'
  # The API server and clients compare versions, and this is how a build gets its own.
  (cd "$KUBERNETES_SOURCES" && CGO_ENABLED=0 go build -trimpath -o "$1/kubernetes" -ldflags \
    "-s -w $set.gitVersion=v$version $set.gitMajor=1 $set.gitMinor=$(cut -d. -f2 <<<"$version")" .)
  for program in "${KUBERNETES_PROGRAMS[@]}"; do ln -s kubernetes "$1/$program"; done
}

# kafka_jars VERSION: prints the folder with the jars of the broker and its tools.
kafka_jars() { jars_of kafka "$1" kafka_2.13 kafka-tools; }

# kafka_streams_jars VERSION: prints the folder with the jars of Kafka Streams and its example applications.
kafka_streams_jars() { jars_of kafka-streams "$1" kafka-streams-examples; }

# jars_of NAME VERSION ARTIFACT...: prints the folder with these artifacts of Kafka and all that they depend on.
jars_of() {
  local name=$1 hash
  [[ $2 =~ ^[0-9]+(\.[0-9]+)+$ ]] || die "'$2' is not a version of Kafka: write it as in 4.3.1 or 3.9.1"
  need "${JAVA_NEEDS[@]}"
  KAFKA_VERSION=$2
  shift 2
  KAFKA_ARTIFACTS=("$@")
  hash=$(hash_of "$(declare -f make_kafka)" "$@")
  [[ -d $CACHE/$name-$KAFKA_VERSION-$hash ]] || say "downloading $name $KAFKA_VERSION"
  printf '%s/jars\n' "$(cached_by_maven "$name-$KAFKA_VERSION" "$hash" make_kafka)"
}

make_kafka() {
  local artifact group name version
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>testbed</groupId>'
    echo '<artifactId>kafka</artifactId><version>1</version><dependencies>'
    for artifact in "${KAFKA_ARTIFACTS[@]/#/org.apache.kafka:}" org.slf4j:slf4j-simple; do
      IFS=: read -r group name <<<"$artifact"
      version=$KAFKA_VERSION
      if [[ $group == org.slf4j ]]; then version=1.7.36; fi
      echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$1/pom.xml"
  (cd "$1" && mvn -B -q dependency:copy-dependencies -DoutputDirectory=jars -DincludeScope=runtime)
  # One logger only: Java takes the first one on the class path.
  rm -f "$1"/jars/{logback-,slf4j-reload4j,log4j-slf4j}*
}

# maven_jars NAME: prints the folder with the artifacts that maven/NAME.xml names and all that they depend on.
maven_jars() {
  local name=$1 hash
  need "${JAVA_NEEDS[@]}"
  MAVEN_PROJECT=$TESTBED_DIR/maven/$name.xml
  hash=$(hash_of "$(declare -f make_maven_jars)" "$MAVEN_PROJECT")
  [[ -d $CACHE/$name-$hash ]] || say "downloading the jars of $name"
  printf '%s/jars\n' "$(cached_by_maven "$name" "$hash" make_maven_jars)"
}

make_maven_jars() {
  cp "$MAVEN_PROJECT" "$1/pom.xml"
  (cd "$1" && mvn -B -q dependency:copy-dependencies -DoutputDirectory=jars -DincludeScope=runtime)
}

# base_files: prints the tar archive of the file system that images start from.
base_files() {
  local hash entry
  need "${CLUSTER_NEEDS[@]}"
  hash=$(hash_of "$(declare -f make_base_files)")
  [[ -d $CACHE/base-$hash ]] || say "making the base file system of images"
  entry=$(cached base "$hash" make_base_files)
  printf '%s/base.tar\n' "$entry"
}

make_base_files() {
  # The extract variant runs no package scripts. The hooks write the files that those scripts would write.
  # shellcheck disable=SC2016 # $1 is expanded by the hooks
  mmdebstrap --quiet --variant=extract \
    --include=libc6,libgcc-s1,ca-certificates,base-files,netbase,tzdata \
    --customize-hook='cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1/etc/ssl/certs/ca-certificates.crt"' \
    --customize-hook='printf "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n" >"$1/etc/passwd"' \
    --customize-hook='printf "root:x:0:\nnonroot:x:65532:\n" >"$1/etc/group"' \
    --customize-hook='rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale "$1"/var/cache/apt "$1"/var/lib/apt' \
    bookworm "$1/base.tar"
}

# pause_program: prints the path of a program that only waits. It is the first process of each pod's sandbox.
pause_program() {
  local entry source='#include <unistd.h>
int main(void) { for (;;) pause(); }'
  PAUSE_SOURCE=$source
  entry=$(cached pause "$(hash_of "$source")" make_pause)
  printf '%s/pause\n' "$entry"
}

make_pause() { cc -x c -Os -s -static -o "$1/pause" - <<<"$PAUSE_SOURCE"; }

# rabbitmq4_files: prints the folder with a Debian trixie that has RabbitMQ 4.0.
rabbitmq4_files() {
  local hash entry
  need "${RABBITMQ4_NEEDS[@]}"
  hash=$(hash_of "$(declare -f make_rabbitmq4)")
  [[ -d $CACHE/rabbitmq4-$hash ]] || say "making a file system with RabbitMQ 4"
  entry=$(cached rabbitmq4 "$hash" make_rabbitmq4)
  printf '%s/root\n' "$entry"
}

make_rabbitmq4() {
  # shellcheck disable=SC2016 # $1 is expanded by the hook
  mmdebstrap --quiet --variant=apt --include=rabbitmq-server \
    --customize-hook='echo 127.0.0.1 localhost >"$1/etc/hosts"' trixie "$1/root"
}
