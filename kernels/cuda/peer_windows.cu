// By CUDA's handles for memory of other processes, which need no NCCL and no driver newer than the
// kernels do. A device reaches another's memory where the two are joined by NVLink or by PCIe that
// lets peers through. The driver is asked whether it says so, and then it is tried out: on machines
// whose IOMMU is in the way, what one GPU writes to another's memory never arrives, and a kernel
// that waited for it would wait for ever. So no kernel here waits: each rank leaves a word in every
// window, the ranks meet on the host, and each looks for all words.
//
// The emulation's ranks are threads of one process, which reach everything.
#include "kernels/cuda/peer_windows.h"

#ifndef __CUDACC__
#include <unistd.h>
#endif

#include "kernels/cuda/device.h"
#include "kernels/cuda/host_gather.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {

namespace {

constexpr int64_t kWordsAlign = 256;
constexpr uint32_t kWord = 0x43484f52;  // and the rank on top

int64_t words_at(int64_t bytes) {
  return round_up(bytes, kWordsAlign);
}

__global__ void leave_word_kernel(uint32_t* at, uint32_t word) {
  ptx::wait_for_predecessor();
  ptx::store_release<ptx::Scope::system>(at, word);
}
__global__ void look_for_word_kernel(const uint32_t* at, uint32_t word, uint32_t* missing) {
  ptx::wait_for_predecessor();
  if (ptx::load_acquire<ptx::Scope::system>(at) != word) *missing += 1;
}

}  // namespace

void PeerWindows::try_out(Collective& collective, int64_t bytes) {
  const auto word_of = [&](void* window, size_t rank) {
    return reinterpret_cast<uint32_t*>(static_cast<std::byte*>(window) + words_at(bytes)) + rank;
  };
  const Stream stream;
  const Memory missing = allocate(sizeof(uint32_t));
  const auto own = static_cast<size_t>(rank_);
  for (void* window : all_) {
    launch(leave_word_kernel, dim3(1), dim3(1), 0, stream.get(), word_of(window, own),
           kWord + static_cast<uint32_t>(own));
  }
  wait_for(stream.get());
  first_objection(collective, "");  // all words have been left
  for (void* window : all_) {
    for (size_t rank = 0; rank < all_.size(); ++rank) {
      launch(look_for_word_kernel, dim3(1), dim3(1), 0, stream.get(), word_of(window, rank),
             kWord + static_cast<uint32_t>(rank), static_cast<uint32_t*>(missing.get()));
    }
  }
  uint32_t count = 0;
  copy_to_host(&count, missing.get(), sizeof(count), stream.get());
  wait_for(stream.get());
  why_not_ = first_objection(
      collective,
      count == 0 ? "" : "what GPUs write to each other's memory does not arrive (an IOMMU?)");
}

#ifdef __CUDACC__

namespace {

// A small allocation may share its pages with others, and whole pages are what peers see.
constexpr int64_t kPageBytes = 2 << 20;

struct Shown {
  cudaIpcMemHandle_t handle{};
  char device[32] = {};  // on the bus, since processes may count devices differently
};

// The text of an error that does no harm to what follows.
std::string forget(cudaError_t error) {
  cudaGetLastError();
  return text_of(error);
}

// What other ranks need to reach `memory`; else fills `why_not`.
Shown show(void* memory, std::string& why_not) {
  Shown shown;
  int device = 0;
  cudaGetDevice(&device);
  cudaError_t error = cudaDeviceGetPCIBusId(shown.device, sizeof(shown.device), device);
  if (error == cudaSuccess) error = cudaIpcGetMemHandle(&shown.handle, memory);
  if (error != cudaSuccess) why_not = "its memory cannot be shared: " + forget(error);
  return shown;
}

// Null, with `why_not`, where it cannot be reached.
void* open(const Shown& shown, std::string& why_not) {
  int device = 0, peer = 0, can = 0;
  cudaGetDevice(&device);
  if (const cudaError_t error = cudaDeviceGetByPCIBusId(&peer, shown.device);
      error != cudaSuccess) {
    why_not = "does not see GPU " + std::string(shown.device) + ": " + forget(error);
    return nullptr;
  }
  if (cudaDeviceCanAccessPeer(&can, device, peer) != cudaSuccess || can == 0) {
    cudaGetLastError();
    why_not = "its GPU does not reach the memory of GPU " + std::string(shown.device);
    return nullptr;
  }
  void* memory = nullptr;
  if (const cudaError_t error =
          cudaIpcOpenMemHandle(&memory, shown.handle, cudaIpcMemLazyEnablePeerAccess);
      error != cudaSuccess) {
    why_not = "the memory of GPU " + std::string(shown.device) + " does not open: " + forget(error);
    return nullptr;
  }
  return memory;
}

}  // namespace

PeerWindows::PeerWindows(Collective& collective, int64_t bytes)
    : rank_(collective.rank()),
      own_(allocate(
          round_up(words_at(bytes) + collective.ranks() * int64_t{sizeof(uint32_t)}, kPageBytes))),
      all_(static_cast<size_t>(collective.ranks())) {
  std::string objection;
  const std::vector<Shown> shown = gather_on_host(collective, show(own_.get(), objection));
  all_[static_cast<size_t>(rank_)] = own_.get();
  why_not_ = first_objection(collective, objection);
  if (!why_not_.empty()) return;
  for (size_t rank = 0; rank < all_.size() && objection.empty(); ++rank) {
    if (static_cast<int>(rank) != rank_) all_[rank] = open(shown[rank], objection);
  }
  why_not_ = first_objection(collective, objection);
  if (why_not_.empty()) try_out(collective, bytes);
}

// The own window stays until the process ends: CUDA leaves open what becomes of memory that is
// freed while another process still has it mapped, and a destructor cannot wait for other ranks.
PeerWindows::~PeerWindows() {
  own_.release();
  for (size_t rank = 0; rank < all_.size(); ++rank) {
    if (static_cast<int>(rank) != rank_ && all_[rank] != nullptr) cudaIpcCloseMemHandle(all_[rank]);
  }
}

#else

PeerWindows::PeerWindows(Collective& collective, int64_t bytes)
    : rank_(collective.rank()),
      own_(allocate(words_at(bytes) + collective.ranks() * int64_t{sizeof(uint32_t)})) {
  struct Shown {
    void* memory;
    pid_t process;
  };
  bool together = true;
  for (const Shown& shown : gather_on_host(collective, Shown{own_.get(), getpid()})) {
    together = together && shown.process == getpid();
    all_.push_back(shown.memory);
  }
  why_not_ = first_objection(
      collective, together ? "" : "emulated devices reach each other within one process only");
  if (why_not_.empty()) try_out(collective, bytes);
}

PeerWindows::~PeerWindows() = default;

#endif

}  // namespace chorus::kernels::cuda
