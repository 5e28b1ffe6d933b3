#include "kernels/cuda/upload_queue.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int64_t kArenaBytes = 1 << 20;
constexpr int64_t kPiecesMax = 4096;
constexpr int64_t kDataBytes = kArenaBytes - kPiecesMax * 24;
constexpr int kThreads = 128;

struct DevicePiece {  // as it lies behind the data
  unsigned char* to;
  int64_t from;
  int64_t bytes;
};
static_assert(sizeof(DevicePiece) == 24);

// One block a piece. All pieces are multiples of 4 bytes but for odd tails.
__global__ void __launch_bounds__(kThreads)
    scatter_pieces_kernel(const unsigned char* arena, int64_t table) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const DevicePiece piece = reinterpret_cast<const DevicePiece*>(arena + table)[blockIdx.x];
  const unsigned char* from = arena + piece.from;
  const int64_t words = piece.bytes / 4;
  const bool aligned = reinterpret_cast<uintptr_t>(piece.to) % 4 == 0;
  if (aligned) {
    for (int64_t i = threadIdx.x; i < words; i += kThreads) {
      reinterpret_cast<uint32_t*>(piece.to)[i] = reinterpret_cast<const uint32_t*>(from)[i];
    }
  }
  for (int64_t i = (aligned ? words * 4 : 0) + threadIdx.x; i < piece.bytes; i += kThreads) {
    piece.to[i] = from[i];
  }
}

}  // namespace

UploadQueue::UploadQueue(cudaStream_t stream) : stream_(stream) {
  for (Arena& arena : arenas_) {
    arena.host = allocate_host(kArenaBytes);
    arena.device = allocate(kArenaBytes);
  }
}

bool UploadQueue::overlaps(const void* to, int64_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(to);
  return std::any_of(pieces_.begin(), pieces_.end(), [&](const Piece& piece) {
    const auto* other = static_cast<const std::byte*>(piece.to);
    return begin < other + piece.bytes && other < begin + bytes;
  });
}

void UploadQueue::add(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  const int64_t room = (bytes + 15) / 16 * 16;
  if (filled_ + room > kDataBytes || std::ssize(pieces_) == kPiecesMax || overlaps(to, bytes)) {
    flush();
  }
  if (room > kDataBytes) {  // the host's memory may change once this returns
    copy_to_device(to, from, bytes, stream_);
    wait_for(stream_);
    return;
  }
  Arena& arena = arenas_[current_];
  if (pieces_.empty() && arena.used) arena.sent.wait();
  std::memcpy(static_cast<std::byte*>(arena.host.get()) + filled_, from,
              static_cast<size_t>(bytes));
  pieces_.push_back({.to = to, .from = filled_, .bytes = bytes});
  filled_ += room;
}

void UploadQueue::flush() {
  if (pieces_.empty()) return;
  Arena& arena = arenas_[current_];
  auto* host = static_cast<std::byte*>(arena.host.get());
  const int64_t table = filled_;
  std::memcpy(host + table, pieces_.data(), pieces_.size() * sizeof(Piece));
  static_assert(sizeof(Piece) == sizeof(DevicePiece));
  copy_to_device(arena.device.get(), host, table + std::ssize(pieces_) * int64_t{sizeof(Piece)},
                 stream_);
  arena.sent.record(stream_);
  arena.used = true;
  launch(scatter_pieces_kernel, dim3(static_cast<unsigned>(pieces_.size())), dim3(kThreads), 0,
         stream_, static_cast<const unsigned char*>(arena.device.get()), table);
  pieces_.clear();
  filled_ = 0;
  current_ = (current_ + 1) % arenas_.size();
}

}  // namespace chorus::kernels::cuda
