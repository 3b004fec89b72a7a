# Compiler and linker flags every massfs target gets, through the interface target massfs_flags.
include(CheckCCompilerFlag)
add_library(massfs_flags INTERFACE)
target_include_directories(massfs_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(massfs_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64
  MASSFS_VERSION="${PROJECT_VERSION}")
if(MASSFS_CRASH_POINTS)
  target_compile_definitions(massfs_flags INTERFACE MASSFS_CRASH_POINTS)
endif()

set(_warnings
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wpointer-arith -Wwrite-strings
  -Wcast-qual -Wformat=2 -Wimplicit-fallthrough -Wold-style-definition -Wredundant-decls
  # gcc only
  -Wlogical-op -Wduplicated-cond -Wjump-misses-init
  # clang only
  -Wthread-safety -Wcomma)
foreach(_w IN LISTS _warnings)
  string(MAKE_C_IDENTIFIER "HAVE${_w}" _have)
  check_c_compiler_flag(${_w} ${_have})
  if(${_have})
    target_compile_options(massfs_flags INTERFACE ${_w})
  endif()
endforeach()
if(MASSFS_WERROR)
  target_compile_options(massfs_flags INTERFACE -Werror)
endif()

# Assertions stay on in every build: a daemon that stops is repaired by a restart, one that goes on with broken state
# writes it to the bucket.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")

target_compile_options(massfs_flags INTERFACE -fno-common -fstack-protector-strong)
if(MASSFS_SANITIZE)
  target_compile_options(massfs_flags INTERFACE
    -fsanitize=${MASSFS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(massfs_flags INTERFACE -fsanitize=${MASSFS_SANITIZE})
endif()
