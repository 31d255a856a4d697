#!/usr/bin/env bash
# native/hostcuda/build.sh [OUTPUT_DIR]: compiles every *.cpp of this folder into OUTPUT_DIR/libhostcuda.so (artifacts/hostcuda by default).
# Objects newer than their source and than every header are kept. CXX names another compiler, CXXFLAGS (-g to debug it) adds to its options.
# Exit status 3: there is no compiler.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../artifacts/hostcuda}
cxx=${CXX:-$(command -v g++ || command -v clang++ || echo g++)}
mkdir -p "$out/objects"
out=$(cd "$out" && pwd)
if ! command -v "$cxx" >/dev/null; then
  echo "hostcuda: no C++ compiler '$cxx' on PATH; run: apt-get install -y g++" >&2
  exit 3
fi

newest_header=$(ls -t "$here"/*.h "$here"/../include/*.cuh "$here"/build.sh 2>/dev/null | head -1 || true)
jobs=()
objects=()
for source in "$here"/*.cpp; do
  object=$out/objects/$(basename "${source%.cpp}").o
  objects+=("$object")
  if [ ! -e "$object" ] || [ "$source" -nt "$object" ] || [ "$newest_header" -nt "$object" ]; then
    "$cxx" -std=c++20 -O2 ${CXXFLAGS:-} -fPIC -fvisibility=hidden -Wall -Wextra -Werror -I "$here/../include" -c "$source" -o "$object.tmp" \
      && mv "$object.tmp" "$object" &
    jobs+=($!)
    if [ ${#jobs[@]} -ge "$(nproc)" ]; then
      wait "${jobs[0]}"
      jobs=("${jobs[@]:1}")
    fi
  fi
done
for job in ${jobs[@]+"${jobs[@]}"}; do wait "$job"; done

for stale in "$out"/objects/*.o; do
  [ -e "$here/$(basename "${stale%.o}").cpp" ] || rm -f "$stale"
done

library=$out/libhostcuda.so
link=0
for object in "${objects[@]}"; do
  if [ ! -e "$library" ] || [ "$object" -nt "$library" ]; then link=1; fi
done
if [ $link = 1 ]; then
  "$cxx" -shared -o "$library.tmp" "${objects[@]}" -Wl,-soname,libhostcuda.so -Wl,-z,defs -ldl -lpthread -lm
  mv "$library.tmp" "$library"
fi
