#include "kernels/cpu/memory.h"

#include <sys/mman.h>

#include <new>

#include "kernels/rounding.h"

namespace chorus::kernels {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

Memory::Memory(int64_t bytes) {
  if (bytes == 0) return;
  const int64_t unit = bytes >= 2 * kHugePage ? kHugePage : kPage;
  bytes_ = round_up(bytes, unit);
  void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(mapped);
  // A wish: where the system knows no huge pages the area works as well, only slower.
  if (unit == kHugePage) (void)madvise(mapped, bytes_, MADV_HUGEPAGE);
}

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace chorus::kernels
