#!/bin/sh
# Builds engines/kernels.wasm from engines/kernels*.cpp with Debian 12's clang and lld (apt-get install clang lld).
#
#   build_kernels.sh [OUTPUT]
#
# The result is committed; tests/web/test_kernels.py holds it to what this gives.
set -eu
here=$(dirname "$0")/engines
output=${1:-$here/kernels.wasm}

# -disable-lsr: with loop strength reduction the inner loops add up each address instead of using a load's offset, 8 % slower.
# --stack-first and the stack's size: the kernels' own memory ends below 64 KiB, where wasm_plan.js begins.
"${CLANG:-clang++}" --target=wasm32 -O3 -std=c++17 -msimd128 -mllvm -disable-lsr \
  -ffreestanding -fno-exceptions -fno-rtti -nostdlib -Wall -Wextra -Werror \
  -Wl,--no-entry -Wl,--import-memory -Wl,--stack-first -Wl,-z,stack-size=32768 -Wl,--export=__heap_base -Wl,--strip-all \
  "$here/kernels.cpp" "$here/kernels_paint.cpp" -o "$output.new"
chmod 644 "$output.new"
mv "$output.new" "$output"
