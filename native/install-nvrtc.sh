#!/usr/bin/env bash
# native/install-nvrtc.sh [DIR]: unpacks NVRTC 12.4 into DIR (.tools/nvrtc by default) from Debian trixie/non-free, without root and without
# changing the system: tests compile every kernel with it on machines without a GPU. The mirror is the one apt already uses; the index is
# checked against Debian's signature where gpgv is installed, the packages against the index.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../.tools/nvrtc}
packages="libnvrtc12 libnvrtc-builtins12.4"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
  echo "nvrtc: $1; install it by hand (pip install nvidia-cuda-nvrtc-cu12, or libnvrtc12 of Debian trixie/non-free) and set Z1_NVRTC to its folder" >&2
  exit 1
}

if [ -e "$out/complete" ]; then exit 0; fi
for tool in apt-get dpkg python3 sha256sum; do
  command -v $tool >/dev/null || fail "'$tool' is not on PATH"
done
[ "$(dpkg --print-architecture)" = amd64 ] || fail "there are packages for amd64 only"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
download() {   # URL FILE, through the proxy that apt is told to use
  python3 - "$1" "$2" <<'PYTHON'
import shutil, subprocess, sys, urllib.request
url, path = sys.argv[1:]
dump = subprocess.run(["apt-config", "dump", "--format", "%f %v%n"], capture_output=True, text=True).stdout
config = dict(pair for pair in (line.split(None, 1) for line in dump.splitlines()) if len(pair) == 2)
proxies = {s: config[f"Acquire::{s}::Proxy"] for s in ("http", "https") if config.get(f"Acquire::{s}::Proxy") not in (None, "", "DIRECT")}
opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies or None))
try:
    with opener.open(url, timeout=60) as response, open(path, "wb") as file:
        shutil.copyfileobj(response, file)
except OSError:
    sys.exit(1)
PYTHON
}
expect() {     # SHA256 FILE
  echo "$1  $2" | sha256sum --check --status
}

index=non-free/binary-amd64/Packages.xz
mirror=
for candidate in $(apt-get indextargets --format '$(REPO_URI)' | sort -u); do
  case "$candidate" in
    http*) if download "${candidate%/}/dists/trixie/InRelease" "$work/InRelease"; then mirror=${candidate%/}; break; fi ;;
  esac
done
[ -n "$mirror" ] || fail "no mirror of apt's sources offers Debian trixie"
if command -v gpgv >/dev/null && [ -e "$keyring" ]; then
  gpgv --quiet --keyring "$keyring" "$work/InRelease" 2>/dev/null || fail "the signature of the mirror's index does not verify"
fi
index_hash=$(awk -v name="$index" '/^SHA256:/ { on = 1; next } /^[^ ]/ { on = 0 } on && $3 == name { print $1; exit }' "$work/InRelease")
[ -n "$index_hash" ] || fail "the mirror has no $index"
download "$mirror/dists/trixie/$index" "$work/Packages.xz" && expect "$index_hash" "$work/Packages.xz" || fail "the package index cannot be downloaded"
python3 -c 'import lzma, sys; sys.stdout.buffer.write(lzma.open(sys.argv[1]).read())' "$work/Packages.xz" >"$work/Packages"

rm -rf "$out"
mkdir -p "$out"
for package in $packages; do
  read -r file hash < <(awk -v name="$package" '
    /^Package: / { on = ($2 == name) } on && /^Filename: / { file = $2 } on && /^SHA256: / { print file, $2; exit }' "$work/Packages") || true
  [ -n "${hash:-}" ] || fail "the index has no $package"
  download "$mirror/$file" "$work/$package.deb" && expect "$hash" "$work/$package.deb" || fail "$package cannot be downloaded"
  dpkg -x "$work/$package.deb" "$out"
done
touch "$out/complete"
