# Builds llama.cpp, the peer that Lapidary is measured against; sourced by bench_peer.sh.
#
# Its source comes inside PyPI's llama-cpp-python sdist, so one pinned version is the same everywhere.
# Built once, for this CPU (GGML_NATIVE, Release), into the user's cache folder. A second run finds it.
# llama_bench and llama_driver name the two programs afterwards; llama_imatrix and llama_quantize exist
# after build_llama_quantize, llama_server after build_llama_server.
llama_version=0.3.36
llama_folder="${XDG_CACHE_HOME:-$HOME/.cache}/lapidary/llama.cpp-$llama_version"
llama_bench=$llama_folder/build/bin/llama-bench
llama_driver=$llama_folder/build/bin/llama_driver
llama_imatrix=$llama_folder/build/bin/llama-imatrix
llama_quantize=$llama_folder/build/bin/llama-quantize
llama_server=$llama_folder/build/bin/llama-server

# Unpacked beside the final place and moved there whole, so a broken download is never found.
fetch_llama_cpp() {
  [ -d "$llama_folder/source" ] && return
  echo "fetching llama-cpp-python $llama_version (77 MB, once)" >&2
  local staging
  mkdir -p "$llama_folder"
  staging=$(mktemp -d "$llama_folder/fetch.XXXXXX")
  python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python \
    "llama-cpp-python==$llama_version" --dest "$staging" >&2
  tar -xzf "$staging"/llama_cpp_python-*.tar.gz -C "$staging"
  mv -T "$staging"/llama_cpp_python-*/vendor/llama.cpp "$llama_folder/source"
  rm -rf "$staging"
}

build_llama_cpp() {
  fetch_llama_cpp
  if [ ! -x "$llama_bench" ]; then
    echo "building llama.cpp for this machine (some minutes, once)" >&2
    cmake -S "$llama_folder/source" -B "$llama_folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=OFF \
      -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
      >"$llama_folder/configure.log" 2>&1 || { cat "$llama_folder/configure.log" >&2; return 1; }
    ninja -C "$llama_folder/build" llama-bench >&2
  fi
  local driver=$root/tools/peer/llama_driver.cpp
  [ -x "$llama_driver" ] && [ -z "$(find "${driver%/*}" -name '*.cpp' -newer "$llama_driver" -o \
    -name '*.h' -newer "$llama_driver")" ] && return
  g++ -std=c++20 -O2 -I"$root" -I"$llama_folder/source/include" -I"$llama_folder/source/ggml/include" \
    "$driver" -o "$llama_driver" -L"$llama_folder/build/src" -L"$llama_folder/build/ggml/src" \
    -lllama -lggml -lggml-cpu -lggml-base -fopenmp -ldl -lpthread
}

build_llama_quantize() {
  [ -x "$llama_imatrix" ] && [ -x "$llama_quantize" ] && return
  ninja -C "$llama_folder/build" llama-imatrix llama-quantize >&2
}

# The server without its web page. The option is set later than the rest was built, which keeps that.
build_llama_server() {
  [ -x "$llama_server" ] && return
  cmake -S "$llama_folder/source" -B "$llama_folder/build" -DLLAMA_BUILD_SERVER=ON \
    -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_UI=OFF >"$llama_folder/configure.log" 2>&1 ||
    { cat "$llama_folder/configure.log" >&2; return 1; }
  ninja -C "$llama_folder/build" llama-server >&2
}
