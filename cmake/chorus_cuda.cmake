# CUDA, where it is found. Kernels (kernels/cuda/*.cu) are built twice:
#
# - chorus_kernels_cuda, by nvcc, for the architectures in CHORUS_CUDA_ARCHITECTURES (files named
#   *_hopper.cu for sm_90a alone); CHORUS_CUDA says whether it exists;
# - chorus_kernels_emulated, by the C++ compiler over kernels/emulate, for tests on machines without
#   a GPU. It needs CUDA's headers only; CHORUS_EMULATION says whether it exists.
set(CHORUS_CUDA_ARCHITECTURES "80-real;90a-real;100a-real;100-virtual" CACHE STRING
    "GPU architectures that the kernels are built for")
option(CHORUS_WITH_CUDA "Build the CUDA backend where nvcc is found" ON)
set(CHORUS_CUDA OFF)
set(CHORUS_EMULATION OFF)

# An older nvcc knows neither all of these architectures nor what the kernels use.
set(CHORUS_CUDA_VERSION_MIN 13)
if(CHORUS_WITH_CUDA)
  find_program(CHORUS_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH PATHS /usr/local/cuda/bin
               PATH_SUFFIXES bin)
  if(CHORUS_NVCC)
    execute_process(COMMAND ${CHORUS_NVCC} --version OUTPUT_VARIABLE answer)
    string(REGEX MATCH "release ([0-9.]+)" answer "${answer}")
    if(CMAKE_MATCH_1 VERSION_LESS CHORUS_CUDA_VERSION_MIN)
      message(STATUS "${CHORUS_NVCC} is of CUDA ${CMAKE_MATCH_1}, the CUDA backend needs "
                     "${CHORUS_CUDA_VERSION_MIN}: it is left out")
      set(CHORUS_WITH_CUDA OFF)
    endif()
  endif()
endif()
if(CHORUS_WITH_CUDA AND CHORUS_NVCC)
  include(CheckLanguage)
  set(CMAKE_CUDA_COMPILER ${CHORUS_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${CHORUS_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  # nvcc runs the compiler that the C++ files are built with, so long as it is one that it takes.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit ${CHORUS_CUDA_VERSION_MIN} REQUIRED)
    set(CHORUS_CUDA ON)
    set(CHORUS_CUDA_HEADERS ${CUDAToolkit_INCLUDE_DIRS})
    # CMake 3.25 does not know how nvcc is told of C++20.
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    foreach(type RELEASE RELWITHDEBINFO MINSIZEREL DEBUG)
      string(REPLACE "-DNDEBUG" "" CMAKE_CUDA_FLAGS_${type} "${CMAKE_CUDA_FLAGS_${type}}")
    endforeach()
    if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
    endif()
  endif()
endif()
if(NOT CHORUS_CUDA_HEADERS)
  find_path(CHORUS_CUDA_HEADERS cuda_bf16.h PATHS /usr/local/cuda/include)
endif()
if(CHORUS_CUDA_HEADERS)
  set(CHORUS_EMULATION ON)
endif()
message(STATUS "CUDA backend: ${CHORUS_CUDA}; emulation of its kernels: ${CHORUS_EMULATION}")

# The kernels by nvcc.
function(chorus_cuda_library folder)
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cu ${folder}/*.cc)
  set(hopper ${sources})
  list(FILTER hopper INCLUDE REGEX "_hopper\\.cu$")
  list(FILTER sources EXCLUDE REGEX "_hopper\\.cu$")
  # Its exponentials have the bits of the host's, which is built with -ffp-contract=off.
  set_source_files_properties(${folder}/sample.cu PROPERTIES COMPILE_OPTIONS -fmad=false)
  add_library(chorus_kernels_cuda STATIC ${sources})
  target_link_libraries(chorus_kernels_cuda PUBLIC chorus_kernels CUDA::cudart_static
                                                    ${CMAKE_DL_LIBS})
  target_include_directories(chorus_kernels_cuda PUBLIC ${CMAKE_SOURCE_DIR})
  if(hopper)
    add_library(chorus_kernels_hopper OBJECT ${hopper})
    target_include_directories(chorus_kernels_hopper PUBLIC ${CMAKE_SOURCE_DIR})
    set_target_properties(chorus_kernels_hopper PROPERTIES CUDA_ARCHITECTURES 90a-real)
    target_sources(chorus_kernels_cuda PRIVATE $<TARGET_OBJECTS:chorus_kernels_hopper>)
  endif()
  # With the names of source lines, kernels are five to ten times as large as compressed; every
  # driver that CUDA 13 runs on decompresses them.
  foreach(library chorus_kernels_cuda chorus_kernels_hopper)
    if(TARGET ${library})
      target_compile_options(${library} PRIVATE
        $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo;--compress-mode=size;--expt-relaxed-constexpr;-Xcompiler=-Wall,-Wextra>)
    endif()
  endforeach()
endfunction()

# chorus_device: what a program links to run on a GPU, with CHORUS_HAS_CUDA defined where the build
# can. chorus_backends: the same with the emulation (CHORUS_HAS_EMULATION), for tests and measuring.
function(chorus_backends)
  add_library(chorus_device INTERFACE)
  add_library(chorus_backends INTERFACE)
  target_link_libraries(chorus_backends INTERFACE chorus_device)
  if(CHORUS_CUDA)
    target_link_libraries(chorus_device INTERFACE chorus_kernels_cuda)
    target_compile_definitions(chorus_device INTERFACE CHORUS_HAS_CUDA)
  endif()
  if(CHORUS_EMULATION)
    target_link_libraries(chorus_backends INTERFACE chorus_kernels_emulated)
    target_compile_definitions(chorus_backends INTERFACE CHORUS_HAS_EMULATION)
  endif()
endfunction()
