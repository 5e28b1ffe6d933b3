#!/usr/bin/env bash
# Installs the Debian packages that are missing for the named purposes: build, test, test-all.
# Says what it does; does nothing, quickly, when all are there.
set -euo pipefail

build="g++ make cmake ninja-build ccache pkg-config git ca-certificates curl unzip python3 python3-venv
  libboost1.81-dev libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler
  nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev libexpected-dev prometheus-cpp-dev libonig-dev libssl-dev
  libcurl4-openssl-dev catch2"
test="clang-format-14 openssl"
test_all="clang-19 libclang-rt-19-dev nginx-light haproxy"

wanted=""
for purpose in "$@"; do
  case "$purpose" in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    test-all) wanted="$wanted $test_all" ;;
    *) echo "packages.sh: unknown purpose '$purpose' (build, test, test-all)" >&2; exit 2 ;;
  esac
done

missing=""
for package in $wanted; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Chorus needs these Debian packages, and installing them needs root or sudo:" >&2
    echo "  apt-get install$missing" >&2
    exit 69
  fi
  as_root=sudo
fi
echo "Installing Debian packages:$missing"
# What is installed for a test (nginx, haproxy) must not start serving on this machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
  $as_root chmod +x $policy
  restore="$as_root rm -f $policy"
fi
log=$(mktemp)
trap 'rm -f "$log"; ${restore:-true}' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { $as_root apt-get update && $as_root apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "Could not install:$missing (Debian 12 is what Chorus is built on)" >&2
  exit 69
fi
