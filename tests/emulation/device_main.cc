// The kernel tests on a real GPU. They hand kernels the memory of vectors and of local variables,
// as the emulation allows; here all of it, the stack of the thread that runs the tests included, is
// pinned host memory, which a GPU reads and writes at the same addresses.
#define CATCH_CONFIG_RUNNER
#include <cuda_runtime_api.h>
#include <pthread.h>

#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <mutex>
#include <new>

namespace {

constexpr size_t kArenaBytes = size_t{6} << 30;
constexpr size_t kStackBytes = size_t{64} << 20;

// Blocks of a power of two bytes, kept in lists when they are freed. Before the arena exists, and
// for static objects that were made then, memory is malloc's.
class Arena {
 public:
  bool open() {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, kArenaBytes, cudaHostAllocMapped) != cudaSuccess) return false;
    begin_ = next_ = static_cast<char*>(memory);
    end_ = begin_ + kArenaBytes;
    return true;
  }
  void* take(size_t bytes) {
    const size_t size = std::bit_ceil(bytes < 256 ? size_t{256} : bytes);
    const std::lock_guard lock(mutex_);
    void*& list = free_[static_cast<size_t>(std::countr_zero(size))];
    if (list != nullptr) return std::exchange(list, *static_cast<void**>(list));
    if (next_ + size > end_) throw std::bad_alloc();
    return std::exchange(next_, next_ + size);
  }
  void give(void* memory, size_t bytes) {
    const size_t size = std::bit_ceil(bytes < 256 ? size_t{256} : bytes);
    const std::lock_guard lock(mutex_);
    void*& list = free_[static_cast<size_t>(std::countr_zero(size))];
    *static_cast<void**>(memory) = std::exchange(list, memory);
  }
  bool has(const void* memory) const { return memory >= begin_ && memory < end_; }
  bool is_open() const { return begin_ != nullptr; }

 private:
  char *begin_ = nullptr, *next_ = nullptr, *end_ = nullptr;
  std::mutex mutex_;
  std::array<void*, 64> free_ = {};
};
Arena arena;

// The size stands in front of a block, at a distance that keeps the alignment.
constexpr size_t kHead = 256;

void* take(size_t bytes) {
  char* memory = arena.is_open() ? static_cast<char*>(arena.take(bytes + kHead))
                                 : static_cast<char*>(std::malloc(bytes + kHead));
  if (memory == nullptr) throw std::bad_alloc();
  *reinterpret_cast<size_t*>(memory) = bytes + kHead;
  return memory + kHead;
}

void give(void* memory) {
  if (memory == nullptr) return;
  char* begin = static_cast<char*>(memory) - kHead;
  if (arena.has(begin)) {
    arena.give(begin, *reinterpret_cast<size_t*>(begin));
  } else {
    std::free(begin);
  }
}

struct Arguments {
  int argc;
  char** argv;
  int code;
};

void* run_tests(void* given) {
  auto& arguments = *static_cast<Arguments*>(given);
  arguments.code = Catch::Session().run(arguments.argc, arguments.argv);
  return nullptr;
}

}  // namespace

void* operator new(size_t bytes) {
  return take(bytes);
}
void* operator new[](size_t bytes) {
  return take(bytes);
}
void operator delete(void* memory) noexcept {
  give(memory);
}
void operator delete[](void* memory) noexcept {
  give(memory);
}
void operator delete(void* memory, size_t) noexcept {
  give(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  give(memory);
}

int main(int argc, char** argv) {
  // A test reads what a kernel wrote right behind its launch.
  setenv("CUDA_LAUNCH_BLOCKING", "1", 0);
  if (!arena.open()) {
    std::printf("chorus-skip: no CUDA device, or no pinned memory\n");
    return 69;
  }
  Arguments arguments{argc, argv, 0};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, arena.take(kStackBytes), kStackBytes);
  pthread_t thread{};
  if (pthread_create(&thread, &attributes, run_tests, &arguments) != 0) return 70;
  pthread_join(thread, nullptr);
  const cudaError_t error = cudaDeviceSynchronize();
  if (error != cudaSuccess) {
    std::printf("the device ends with %s\n", cudaGetErrorString(error));
    return 70;
  }
  return arguments.code;
}
