#!/usr/bin/env bash
# Installs what the build needs and is not there yet; sourced by demo.sh and test.sh.
#
# Debian packages come through apt (with sudo when not root). LibTorch comes from PyPI into the user's
# cache folder, where every clone finds it again; without it everything but `finetune` builds.
# A second run finds everything in place and installs nothing.
set -euo pipefail

lapidary_packages=(g++ cmake ninja-build pkg-config libzstd-dev libxxhash-dev
  nlohmann-json3-dev libtomlplusplus-dev libcli11-dev libfmt-dev libpcre2-dev libutf8proc-dev
  libboost1.81-dev libssl-dev openssl libgtest-dev libvalijson-dev python3-pip xz-utils)
libtorch_version=2.11.0
libtorch_folder="${XDG_CACHE_HOME:-$HOME/.cache}/lapidary/libtorch-$libtorch_version"

have_package() { [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

have_tool() {  # a package that is not needed when the tool is already on PATH
  case "$1" in
    g++ | cmake | pkg-config) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    python3-pip) python3 -m pip --version >/dev/null 2>&1 ;;
    openssl) command -v openssl >/dev/null ;;
    xz-utils) command -v xz >/dev/null ;;
    *) false ;;
  esac
}

install_packages() {
  local missing=() package
  for package in "${lapidary_packages[@]}"; do
    have_package "$package" || have_tool "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "missing packages; ask an administrator to run: apt-get install ${missing[*]}" >&2
      exit 1
    }
    as_root=(sudo)
  fi
  echo "installing Debian packages: ${missing[*]}" >&2
  "${as_root[@]}" apt-get update -qq >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends "${missing[@]}" >&2
}

# The wheel's CPU library names two CUDA libraries; a machine without the toolkit gets their wheels.
libtorch_requirements() {
  local known
  known=$(/sbin/ldconfig -p)
  echo "torch==$libtorch_version"
  grep -q 'libcudart\.so\.13' <<<"$known" || echo "nvidia-cuda-runtime==13.0.*"
  grep -q 'libcupti\.so\.13' <<<"$known" || echo "nvidia-cuda-cupti==13.0.*"
}

# Unpacked beside the final place and moved there whole, so an interrupted install is never found.
install_libtorch() {
  [ "${LAPIDARY_WITHOUT_LIBTORCH:-}" = 1 ] && return
  [ -d "$libtorch_folder/torch" ] && return
  echo "installing LibTorch $libtorch_version into $libtorch_folder (1 GB, once)" >&2
  local staging requirements
  mkdir -p "$(dirname "$libtorch_folder")"
  staging=$(mktemp -d "$libtorch_folder.XXXXXX")
  mapfile -t requirements < <(libtorch_requirements)
  if python3 -m pip install --quiet --no-deps --target "$staging" "${requirements[@]}" >&2; then
    mv -T "$staging" "$libtorch_folder"
  else
    rm -rf "$staging"
    echo "LibTorch could not be installed: building without finetune" >&2
  fi
}

# build PRESET [TARGET...]: configures and builds build/PRESET of this clone.
build() {
  local root preset=$1
  shift
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  (cd "$root" && cmake --preset "$preset" >"$root/build-$preset.log" 2>&1) ||
    { cat "$root/build-$preset.log" >&2; return 1; }
  rm -f "$root/build-$preset.log"
  ninja -C "$root/build/$preset" "$@" >&2
}

install_packages
install_libtorch
