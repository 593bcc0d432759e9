#!/usr/bin/env bash
# certificates.sh FOLDER: a throw-away authority, and one certificate for each way in which one can be
# good or bad. Keys are readable by their owner alone.
set -euo pipefail
umask 077
mkdir -p "$1"
cd "$1"
: >index.txt
cat >ca.conf <<'CONF'
[ca]
default_ca = here
[here]
dir = .
database = index.txt
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
CONF

key() { # NAME
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
}

authority() { # NAME
    key "$1"
    openssl req -x509 -key "$1.key" -subj "/CN=Counterpart $1" -days 30 -out "$1.pem" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

# leaf NAME AUTHORITY SUBJECT-ALTERNATIVE-NAME FROM UNTIL, both as `date` takes them
leaf() {
    key "$1"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n' "$3" >"$1.ext"
    openssl ca -batch -config ca.conf -cert "$2.pem" -keyfile "$2.key" -in "$1.csr" -notext -out "$1.pem" \
        -extfile "$1.ext" -startdate "$(date -u -d "$4" +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d "$5" +%Y%m%d%H%M%SZ)"
}

{
    here=IP:127.0.0.1,DNS:localhost
    authority ca
    authority stranger
    leaf good ca "$here" '-1 hour' '+90 days'
    leaf five-days ca "$here" '-1 hour' '+5 days'
    leaf expired ca "$here" '-60 days' '-1 day'
    leaf not-yet ca "$here" '+1 day' '+60 days'
    leaf wrong-host ca DNS:other.example.org '-1 hour' '+90 days'
    leaf client ca DNS:probe '-1 hour' '+90 days'
    leaf expired-client ca DNS:probe '-60 days' '-1 day'
    leaf revoked-client ca DNS:probe '-1 hour' '+90 days'
    openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -revoke revoked-client.pem
    openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -gencrl -crldays 30 -out ca.crl
    leaf foreign-client stranger DNS:probe '-1 hour' '+90 days'
    key self-signed
    openssl req -x509 -key self-signed.key -subj /CN=self-signed -days 30 -out self-signed.pem \
        -addext "subjectAltName=$here" -addext basicConstraints=critical,CA:FALSE
} 2>openssl.log || {
    cat openssl.log >&2
    exit 1
}
