# Finds LibTorch as unpacked from its PyPI wheel, CPU libraries only.
# Looks in LibTorch_ROOT, then in the cache folder that tools/setup.sh fills. Target: libtorch::cpu.
if(DEFINED ENV{XDG_CACHE_HOME})
  set(_libtorch_cache $ENV{XDG_CACHE_HOME}/lapidary/libtorch-2.11.0)
else()
  set(_libtorch_cache $ENV{HOME}/.cache/lapidary/libtorch-2.11.0)
endif()
find_path(LibTorch_ROOT_DIR include/torch/csrc/api/include/torch/torch.h
          HINTS ${LibTorch_ROOT} $ENV{LibTorch_ROOT} ${_libtorch_cache}/torch NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${LibTorch_ROOT_DIR}/lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${LibTorch_ROOT_DIR}/lib NO_DEFAULT_PATH)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_ROOT_DIR LibTorch_CPU_LIBRARY
                                  LibTorch_C10_LIBRARY)
# After the system's folders: the wheel carries its own copy of fmt, which must not shadow ours.
if(LibTorch_FOUND AND NOT TARGET libtorch::cpu)
  add_library(libtorch::cpu INTERFACE IMPORTED)
  set_target_properties(libtorch::cpu PROPERTIES
    INTERFACE_COMPILE_OPTIONS
      "SHELL:-idirafter ${LibTorch_ROOT_DIR}/include;SHELL:-idirafter ${LibTorch_ROOT_DIR}/include/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES "${LibTorch_CPU_LIBRARY};${LibTorch_C10_LIBRARY}"
    INTERFACE_LINK_OPTIONS "-Wl,-rpath,${LibTorch_ROOT_DIR}/lib;-Wl,--allow-shlib-undefined")
endif()
