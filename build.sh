#!/usr/bin/env bash
# ./build.sh [build|demo|test [WORD]|perf [OPTIONS]|publish|gpu-bundle]    sets up what is missing, then runs the target of build.cake
set -euo pipefail
cd "$(dirname "$0")"
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1

target=${1:-build}
word=${*:2}
case "$target" in
  perf) ;;
  test) [ $# -le 2 ] || { echo "build.sh: test takes one WORD, a part of the names of tests" >&2; exit 2; } ;;
  build|demo|publish|gpu-bundle)
    [ $# -le 1 ] || { echo "build.sh: $target takes no more words; 'artifacts/z1/z1 demo --help' shows what z1 itself takes" >&2; exit 2; } ;;
  -h|--help) sed -n 2p "$0" | cut -c3-; exit 0 ;;
  *) echo "build.sh: unknown target '$target'; use build, demo, test [WORD], perf [OPTIONS], publish or gpu-bundle" >&2; exit 2 ;;
esac

if ! command -v dotnet >/dev/null; then
  echo "build.sh: the .NET 10 SDK is not on PATH; install package dotnet-sdk-10.0" >&2; exit 1
fi

# libdnnl: bf16 and fp32 GEMM (without it the managed GEMM runs, slower); bubblewrap: the sandbox of z1 eval; python3: runs graded programs;
# g++: hostcuda, which runs the CUDA kernels on the CPU
missing=()
if ! ldconfig -p 2>/dev/null | grep -q 'libdnnl\.so'; then missing+=(libdnnl-dev); fi
if ! command -v bwrap >/dev/null; then missing+=(bubblewrap); fi
if ! command -v python3 >/dev/null; then missing+=(python3); fi
if ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then missing+=(g++); fi
# the tests of several ranks: mpirun with the library it serves, and a Slurm cluster of this one machine
if [ "$target" = test ]; then
  if ! command -v mpirun >/dev/null; then missing+=(openmpi-bin); fi
  if ! ldconfig -p 2>/dev/null | grep -q 'libmpi\.so'; then missing+=(libopenmpi-dev); fi
  if ! command -v sbatch >/dev/null; then missing+=(slurm-wlm); fi
  if ! command -v munged >/dev/null && ! [ -x /usr/sbin/munged ]; then missing+=(munge); fi
fi
if [ ${#missing[@]} -gt 0 ]; then
  install="apt-get install -y ${missing[*]}"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "build.sh: installing ${missing[*]}"
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1; then
      echo "build.sh: could not install ${missing[*]}; run: $install" >&2
    fi
  else
    echo "build.sh: package(s) ${missing[*]} missing; run: sudo $install" >&2
  fi
fi
# the demo runs the programs that its model writes; better no demo than ten minutes of training before that is said
if [ "$target" = demo ] && ! { command -v bwrap && command -v python3; } >/dev/null; then
  echo "build.sh: the demo needs bubblewrap and python3" >&2; exit 1
fi

# NVRTC compiles every kernel in the tests, no GPU needed; what the machine has is preferred to a copy under .tools
if [ "$target" = test ] && [ -z "${Z1_NVRTC:-}" ] && ! ldconfig -p 2>/dev/null | grep -q 'libnvrtc\.so\.1[23]' \
  && ! compgen -G '/usr/local/cuda*/lib64/libnvrtc.so.1[23]' >/dev/null; then
  native/install-nvrtc.sh .tools/nvrtc || true      # it has said what is missing; tests that need it are skipped, not passed
fi

dotnet tool restore >/dev/null || { echo "build.sh: 'dotnet tool restore' failed; Cake.Tool 7.0.0 must be restorable from your NuGet source" >&2; exit 1; }
exec dotnet cake build.cake --target="$target" ${word:+"--word=$word"} --verbosity=quiet
