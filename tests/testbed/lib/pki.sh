# Certificates: valid ones, and one of each kind that a client must refuse.
# Files in $STATE/pki: X.crt and X.key; X.pem contains both, for Kafka. token.key signs tokens for SASL OAUTHBEARER, which
# Kafka verifies by token-keys.json.
# shellcheck shell=bash

PKI=$STATE/pki
# The certificates that --certificate can choose for a broker.
BROKER_CERTIFICATES='server expired wrong-host sibling'

pki_up() {
  [[ ! -e $PKI/made ]] || return 0
  mkdir -p "$PKI"
  local here="IP:$HOST_ADDRESS,IP:127.0.0.1,DNS:localhost"
  make_authority ca 'Test bed CA'
  # Same name, other key: only signatures differ.
  make_authority sibling-ca 'Test bed CA'
  make_certificate server ca /CN=server "$here"
  make_certificate client ca /CN=client ''
  make_certificate wrong-host ca /CN=wrong-host DNS:elsewhere.invalid
  make_certificate sibling sibling-ca /CN=server "$here"
  make_certificate expired ca /CN=server "$here" 20200101000000Z 20200201000000Z
  make_token_key
  touch "$PKI/made"
}

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

# make_authority NAME COMMON-NAME
make_authority() {
  new_key "$PKI/$1.key"
  openssl req -x509 -new -sha256 -days 3650 -key "$PKI/$1.key" -out "$PKI/$1.crt" -subj "/CN=$2" \
    -addext 'keyUsage=critical,keyCertSign,cRLSign'
}

# make_certificate NAME AUTHORITY SUBJECT SUBJECT-ALT-NAMES [NOT-BEFORE NOT-AFTER]
make_certificate() {
  local name=$1 authority=$2 subject=$3 names=$4 work
  work=$(mktemp -d "$PKI/.making.XXXXXX")
  touch "$work/database"
  {
    printf '[ca]\ndefault_ca=here\n[here]\ndatabase=%s\nnew_certs_dir=%s\nrand_serial=yes\n' "$work/database" "$work"
    printf 'default_md=sha256\npolicy=any\nunique_subject=no\n'
    printf '[any]\ncommonName=supplied\norganizationName=optional\n'
    printf '[leaf]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n'
    printf 'extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n'
    [[ -z $names ]] || printf 'subjectAltName=%s\n' "$names"
  } >"$work/config"
  new_key "$PKI/$name.key"
  openssl req -new -key "$PKI/$name.key" -subj "$subject" -out "$work/request"
  # Of the OpenSSL commands that sign, only this one accepts dates in the past.
  openssl ca -batch -notext -config "$work/config" -extensions leaf -in "$work/request" \
    -cert "$PKI/$authority.crt" -keyfile "$PKI/$authority.key" -out "$PKI/$name.crt" \
    -startdate "${5:-$(date -u -d '1 hour ago' +%Y%m%d%H%M%SZ)}" \
    -enddate "${6:-$(date -u -d '3600 days' +%Y%m%d%H%M%SZ)}" >"$work/log" 2>&1 ||
    die "openssl could not sign the certificate $name: $(tail -n 3 "$work/log")"
  cat "$PKI/$name.key" "$PKI/$name.crt" >"$PKI/$name.pem"
  rm -rf "$work"
}

make_token_key() {
  new_key "$PKI/token.key"
  printf '{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"test","x":"%s","y":"%s"}]}\n' \
    "$(token_point head)" "$(token_point tail)" >"$PKI/token-keys.json"
}

# token_point head|tail: a coordinate of the public key, which is the last 64 bytes of its DER form.
token_point() {
  openssl pkey -in "$PKI/token.key" -pubout -outform DER | tail -c 64 | "$1" -c 32 | base64 | tr '+/' '-_' | tr -d '='
}

# check_certificate NAME: fails if --certificate cannot choose it.
check_certificate() {
  [[ " $BROKER_CERTIFICATES " == *" $1 "* ]] ||
    die "there is no certificate '$1': choose one of $BROKER_CERTIFICATES"
}

pki_command() {
  need "${BASE_NEEDS[@]}"
  claim_shared
  with_lock pki pki_up
  printf '%s\n' "$PKI"
}
