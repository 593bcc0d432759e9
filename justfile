# What is done often. `just --list` shows it.

build:
    cargo build

test:
    cargo test

lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# Completions and man pages, written anew from the command line's definition.
generate:
    FHIRCTL_REGENERATE=1 cargo test --test it generated

demo:
    cargo run -- demo

# The built binary against real servers, a real keyring, and each format's own consumer.
counterparts:
    cargo build
    tests/counterparts/formats.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/keyring.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/run.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/sign_in.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/cloud_sign_in.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/mutual_tls.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/bulk.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/objects.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/migrate.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/report.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"
    tests/counterparts/history.sh "${CARGO_TARGET_DIR:-target}/debug/fhirctl"

# Speed against peers. A missed figure is said, and does not keep the next from being measured.
bench:
    cargo build --release
    -benches/startup.sh "${CARGO_TARGET_DIR:-target}/release/fhirctl"
    -benches/fleet.sh "${CARGO_TARGET_DIR:-target}/release/fhirctl"
    -benches/bulk.sh "${CARGO_TARGET_DIR:-target}/release/fhirctl"
    -benches/load.sh "${CARGO_TARGET_DIR:-target}/release/fhirctl"
    -benches/tls.sh "${CARGO_TARGET_DIR:-target}/release/fhirctl"
    -benches/history.sh "${CARGO_TARGET_DIR:-target}/release/fhirctl"

ci:
    bash .ci/run
