# Flags shared by every target. No -ffast-math anywhere: results must not depend on the optimizer.
# -ffp-contract=off keeps the scalar reference free of fused multiply-adds the source does not ask for.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(lapidary_flags INTERFACE)
target_include_directories(lapidary_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(lapidary_flags INTERFACE -Wall -Wextra -Wpedantic -Wno-psabi -ffp-contract=off
                       $<$<BOOL:${LAPIDARY_WERROR}>:-Werror>)
if(LAPIDARY_SANITIZE)
  target_compile_options(lapidary_flags INTERFACE -fsanitize=address,undefined
                         -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(lapidary_flags INTERFACE -fsanitize=address,undefined)
endif()

# lapidary_library(NAME SOURCES ... DEPENDS ...): one folder, one static library.
function(lapidary_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC lapidary_flags ${ARG_DEPENDS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE lapidary_flags ${ARG_DEPENDS})
  endif()
endfunction()
