# How Chorus builds: the flags, and the four functions that CMakeLists.txt is written with.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

# Asserts stay in every build (process/assert_guard.cc refuses to compile without them).
foreach(type RELEASE RELWITHDEBINFO MINSIZEREL)
  string(REPLACE "-DNDEBUG" "" CMAKE_CXX_FLAGS_${type} "${CMAKE_CXX_FLAGS_${type}}")
endforeach()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

option(CHORUS_WARNINGS_AS_ERRORS "Treat warnings as errors" ON)
add_library(chorus_flags INTERFACE)
# -ffp-contract=off: a multiply and an add stay two roundings wherever the source does not ask for
# a fused one, so that the code paths of different instruction sets agree bit for bit.
# Off for g++ 12: -Wrestrict and -Wstringop-overflow, which misfire inside std::string and fmt at -O3.
# Off for clang 19: it finds what libstdc++ 12's own stable_sort uses deprecated.
target_compile_options(chorus_flags INTERFACE -Wall -Wextra -Wshadow -Wpedantic -ffp-contract=off
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict;-Wno-stringop-overflow>
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>
  $<$<BOOL:${CHORUS_WARNINGS_AS_ERRORS}>:-Werror>)
target_include_directories(chorus_flags INTERFACE ${CMAKE_SOURCE_DIR})

# chorus_library(<folder> [RECURSE] LINKS ...) makes the library chorus_<folder_with_underscores>
# from the folder's .cc files but main.cc and the files of one instruction set.
function(chorus_library folder)
  cmake_parse_arguments(ARG "RECURSE" "" "LINKS" ${ARGN})
  string(REPLACE "/" "_" name "chorus_${folder}")
  if(ARG_RECURSE)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/*.cc)
  else()
    file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cc)
  endif()
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$|/isa_[a-z0-9]+\\.cc$")
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC ${ARG_LINKS} PRIVATE chorus_flags)
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_LINKS})
  endif()
endfunction()

# Files named isa_<set>.cc are compiled for that instruction set only and chosen at run time.
function(chorus_isa_sources folder)
  string(REPLACE "/" "_" name "chorus_${folder}")
  set(flags_scalar "")
  set(flags_avx2 -mavx2;-mfma;-mf16c)
  set(flags_avx512 -mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mprefer-vector-width=512)
  foreach(set scalar avx2 avx512)
    set(file ${CMAKE_SOURCE_DIR}/${folder}/isa_${set}.cc)
    if(EXISTS ${file})
      target_sources(${name} PRIVATE ${file})
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${flags_${set}}")
    endif()
  endforeach()
endfunction()

# chorus_program(<program> <folder> <libraries...>): <folder>/main.cc over those libraries.
function(chorus_program program folder)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${folder}/main.cc)
    add_executable(${program} ${folder}/main.cc)
    target_link_libraries(${program} PRIVATE ${ARGN} chorus_flags)
    target_compile_definitions(${program} PRIVATE CHORUS_VERSION="${PROJECT_VERSION}")
  endif()
endfunction()

# chorus_proto(<name> <file.proto>) makes the library chorus_<name> of messages and service.
# Generated code is not held to our warnings.
function(chorus_proto name file)
  set(out ${CMAKE_BINARY_DIR}/generated)
  string(REGEX REPLACE "\\.proto$" "" stem ${file})
  set(generated ${out}/${stem}.pb.cc ${out}/${stem}.grpc.pb.cc)
  file(MAKE_DIRECTORY ${out})
  add_custom_command(
    OUTPUT ${generated} ${out}/${stem}.pb.h ${out}/${stem}.grpc.pb.h
    COMMAND protobuf::protoc --proto_path=${CMAKE_SOURCE_DIR} --cpp_out=${out} --grpc_out=${out}
            --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin> ${file}
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    DEPENDS ${CMAKE_SOURCE_DIR}/${file}
    VERBATIM)
  add_library(chorus_${name} STATIC ${generated})
  target_link_libraries(chorus_${name} PUBLIC gRPC::grpc++ protobuf::libprotobuf)
  target_include_directories(chorus_${name} SYSTEM PUBLIC ${out})
endfunction()

# chorus_test(<program> <folder> <libraries...>): every *_test.cc below tests/<folder> in one
# program, its cases listed to CTest one by one. A filter that matches nothing is a failure.
function(chorus_test program folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${folder}/*_test.cc)
  if(sources)
    add_executable(${program} ${sources})
    target_link_libraries(${program} PRIVATE ${ARGN} chorus_test_main chorus_flags Catch2::Catch2)
    target_compile_definitions(${program} PRIVATE
      CHORUS_SOURCE_DIR="${CMAKE_SOURCE_DIR}" CHORUS_BUILD_DIR="${CMAKE_BINARY_DIR}")
    catch_discover_tests(${program} EXTRA_ARGS -w NoTests
      PROPERTIES TIMEOUT 300 SKIP_REGULAR_EXPRESSION "chorus-skip:")
  endif()
endfunction()
