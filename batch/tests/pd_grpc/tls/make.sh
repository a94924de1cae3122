#!/usr/bin/env bash
# Makes the certificates of the tests: two authorities, and one server and one client of the first. They protect nothing.
set -euo pipefail
cd "$(dirname "$0")"
DAYS=36500

authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $DAYS -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"
}

signed() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA authority.pem -CAkey authority.key -CAcreateserial -days $DAYS -out "$1.pem" \
    -extfile <(printf 'subjectAltName=DNS:pd.test,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n')
  rm "$1.csr"
}

authority authority
authority stranger
signed server
signed client
rm -f authority.key stranger.key authority.srl
