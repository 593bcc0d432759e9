#!/usr/bin/env bash
# certificates.sh FOLDER: an authority with an intermediate one, and certificates good and bad.
set -euo pipefail
umask 077
mkdir -p "$1"
cd "$1"

key() { # NAME BITS
    openssl genrsa -out "$1.key" "$2" 2>/dev/null
}
sign() { # NAME ISSUER EXTENSIONS OPTION…
    local name=$1 issuer=$2 extensions=$3
    shift 3
    openssl req -new -key "$name.key" -subj "/CN=fhirctl $name" -out "$name.csr"
    openssl x509 -req -in "$name.csr" -CA "$issuer.pem" -CAkey "$issuer.key" -CAcreateserial \
        -extfile <(printf '%b' "$extensions") -out "$name.pem" "$@" 2>/dev/null
}
names='subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityInfoAccess=caIssuers;URI:http://aia.example/middle.cer,OCSP;URI:http://ocsp.example\n'

key root 2048
openssl req -x509 -new -key root.key -subj '/CN=fhirctl root' -days 400 -sha256 -out root.pem
key middle 2048
sign middle root 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n' -days 300 -sha256
for name in good short sha1 expired other; do
    key "$name" "$([ "$name" = short ] && echo 1024 || echo 2048)"
done
sign good middle "$names" -days 200 -sha256
sign short middle "$names" -days 200 -sha256
sign sha1 middle "$names" -days 200 -sha1
sign other middle 'subjectAltName=DNS:other.example\n' -days 200 -sha256
openssl req -new -key expired.key -subj '/CN=fhirctl expired' -out expired.csr
mkdir -p ca
: >ca/index.txt
echo 77 >ca/serial
cat >ca.cnf <<CONF
[ca]
default_ca = own
[own]
dir = ca
database = ca/index.txt
serial = ca/serial
new_certs_dir = ca
certificate = middle.pem
private_key = middle.key
default_md = sha256
policy = any
[any]
commonName = supplied
CONF
openssl ca -batch -config ca.cnf -notext -in expired.csr -out expired.pem -extfile <(printf '%b' "$names") \
    -startdate 20240101000000Z -enddate 20240201000000Z 2>/dev/null
key own 2048
openssl req -x509 -new -key own.key -subj '/CN=fhirctl own' -addext 'subjectAltName=IP:127.0.0.1' -days 200 -out own.pem
openssl ecparam -name prime256v1 -genkey -noout -out curve.key
sign curve middle "$names" -days 200 -sha256

# What the authority says of the good one.
serial=$(openssl x509 -in good.pem -noout -serial | cut -d= -f2)
printf 'V\t400101000000Z\t\t%s\tunknown\t/CN=fhirctl good\n' "$serial" >index.txt
openssl ocsp -index index.txt -rsigner middle.pem -rkey middle.key -CA middle.pem -issuer middle.pem \
    -cert good.pem -respout good.ocsp -ndays 5 -no_nonce >/dev/null 2>&1
openssl dhparam -out dh1024.pem 1024 2>/dev/null
cat good.pem middle.pem >good.chain
# Out of order: the root before the one that it issued.
cat good.pem root.pem middle.pem >mixed.chain
cp good.key mixed.key
