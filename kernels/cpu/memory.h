// Zeroed pages straight from the system: nothing is touched before it is used, so a large KV cache
// costs what it holds. Large areas ask for huge pages, which the matrix product's streams over
// weights need to reach the memory's bandwidth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace chorus::kernels {

class Memory {
 public:
  Memory() = default;
  // At least `bytes`, aligned to a page. Throws std::bad_alloc where the system refuses.
  explicit Memory(int64_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace chorus::kernels
