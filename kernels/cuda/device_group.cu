// Groups of ranks over NCCL, which is loaded when a group is made: a build needs nothing of it, and
// a program that runs on one device does not look for it.
//
// Collectives of NCCL do not end when a rank is missing, and neither does the wait for a step that
// holds one. So a thread watches. Five times a second it asks the group on host memory whether that
// has been aborted, NCCL whether it has failed, and an event whether the last step that was queued
// has ended: from one step's queuing to the next's, or to its end, there are 20 s. The start of the
// group is watched alike, with no event and 120 s.
//
// Few rows go past NCCL where the devices reach each other's memory (group_one_shot.h); where not,
// the outside is told why, once. A rank that does not come to such a sum is found out as with
// NCCL's: the device waits, the step does not end, and the thread that watches says so.
//
// The emulation's device memory is host memory, so its group is the host's.
#include "kernels/cuda/device_group.h"

#ifdef __CUDACC__
#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#endif

#include "kernels/cuda/device.h"
#include "kernels/cuda/group_one_shot.h"
#include "kernels/cuda/host_gather.h"

namespace chorus::kernels::cuda {
namespace {

#ifdef __CUDACC__

// --- NCCL, as far as it is used, declared by hand: a build needs no header of it, and none of this
// has changed since 2.14

struct NcclUniqueId {
  char bytes[128];
};
using NcclComm = void*;
constexpr int kNcclSuccess = 0, kNcclInProgress = 7, kNcclFloat32 = 7, kNcclSum = 0;

struct Nccl {
  const char* (*error_text)(int) = nullptr;
  int (*unique_id)(NcclUniqueId*) = nullptr;
  int (*init_rank)(NcclComm*, int ranks, NcclUniqueId, int rank) = nullptr;
  int (*async_error)(NcclComm, int*) = nullptr;
  int (*all_reduce)(const void*, void*, size_t, int type, int op, NcclComm, cudaStream_t) = nullptr;
  int (*all_gather)(const void*, void*, size_t, int type, NcclComm, cudaStream_t) = nullptr;

  void check(int result, const char* what) const {
    if (result == kNcclSuccess) return;
    throw DeviceError(std::string("NCCL: ") + what + ": " + error_text(result) +
                      "; NCCL_DEBUG=INFO tells more");
  }
};

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr) throw DeviceError(std::string("libnccl.so.2 has no ") + name);
}

// Stays loaded until the process ends. Throws DeviceError where there is none.
const Nccl& nccl() {
  static const Nccl loaded = [] {
    constexpr const char* kPlaces[] = {"libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2",
                                       "/usr/lib/x86_64-linux-gnu/libnccl.so.2",
                                       "/usr/lib64/libnccl.so.2", "/usr/local/lib/libnccl.so.2"};
    void* library = nullptr;
    std::string why;
    for (const char* place : kPlaces) {
      library = dlopen(place, RTLD_NOW | RTLD_LOCAL);
      if (library != nullptr) break;
      if (why.empty()) why = dlerror();
    }
    if (library == nullptr) throw DeviceError("NCCL cannot be loaded: " + why);
    Nccl found;
    find(library, "ncclGetErrorString", found.error_text);
    find(library, "ncclGetUniqueId", found.unique_id);
    find(library, "ncclCommInitRank", found.init_rank);
    find(library, "ncclCommGetAsyncError", found.async_error);
    find(library, "ncclAllReduce", found.all_reduce);
    find(library, "ncclAllGather", found.all_gather);
    return found;
  }();
  return loaded;
}

// --- the thread that watches

class Watch {
 public:
  using Clock = std::chrono::steady_clock;

  Watch(int rank, const RanksWatch& ranks) : rank_(rank), ranks_(ranks) {
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaEventCreateWithFlags(&end_, cudaEventDisableTiming) != cudaSuccess) {
      throw DeviceError("no event to watch the group with");
    }
    thread_ = std::thread([this, device] { look(device); });
  }
  ~Watch() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
    cudaEventDestroy(end_);
  }

  // `what` begins, and has `seconds` until is_over() is called, something else is expected, or,
  // after queued(), the stream's work is done.
  void expect(std::string what, int seconds) {
    const std::lock_guard lock(mutex_);
    what_ = std::move(what);
    deadline_ = Clock::now() + std::chrono::seconds(seconds);
    queued_ = false;
  }
  // What is expected is over when the work is that `stream` now holds.
  void queued(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    if (cudaEventRecord(end_, stream) != cudaSuccess) throw DeviceError("an event of the watch");
    queued_ = true;
  }
  void is_over() {
    const std::lock_guard lock(mutex_);
    what_.clear();
  }
  void watch_errors_of(const Nccl& library, NcclComm comm) {
    const std::lock_guard lock(mutex_);
    library_ = &library;
    comm_ = comm;
  }

 private:
  void look(int device) {
    cudaSetDevice(device);
    std::unique_lock lock(mutex_);
    while (!ends_) {
      changed_.wait_for(lock, std::chrono::milliseconds(200));
      const std::string why = ends_ ? "" : what_is_wrong();
      if (why.empty()) continue;
      if (ranks_.on_lost) ranks_.on_lost(why);
      std::abort();
    }
  }

  std::string what_is_wrong() {
    if (ranks_.is_lost && ranks_.is_lost()) return "another rank of the group is gone";
    const std::string rank = "rank " + std::to_string(rank_);
    if (comm_ != nullptr) {
      int error = kNcclSuccess;
      library_->async_error(comm_, &error);
      if (error != kNcclSuccess && error != kNcclInProgress) {
        return rank + ": NCCL: " + library_->error_text(error);
      }
    }
    if (what_.empty()) return "";
    // An error ends it as well: the thread that waits for the step is told.
    if (queued_ && cudaEventQuery(end_) != cudaErrorNotReady) {
      what_.clear();
      return "";
    }
    if (Clock::now() < deadline_) return "";
    return rank + ": " + what_ + " does not end: a collective waits for another rank";
  }

  int rank_;
  RanksWatch ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;
  std::string what_;  // is under way; empty: nothing
  Clock::time_point deadline_;
  bool queued_ = false;
  cudaEvent_t end_ = nullptr;
  const Nccl* library_ = nullptr;
  NcclComm comm_ = nullptr;
  std::thread thread_;
};

// --- the group

// Connections are made and all ranks have to come: the weights are loaded later.
constexpr int kStartSecondsMax = 120;
constexpr int kStepSecondsMax = 20;

class NcclGroup final : public DeviceGroup {
 public:
  NcclGroup(Collective& collective, const RanksWatch& watch)
      : rank_(collective.rank()), ranks_(collective.ranks()), nccl_(nccl()), watch_(rank_, watch) {
    watch_.expect("the start of the group", kStartSecondsMax);
    NcclUniqueId own{};
    if (rank_ == 0) nccl_.check(nccl_.unique_id(&own), "ncclGetUniqueId");
    const NcclUniqueId id = gather_on_host(collective, own).front();
    nccl_.check(nccl_.init_rank(&comm_, ranks_, id, rank_), "ncclCommInitRank");
    watch_.watch_errors_of(nccl_, comm_);
    try_out();
    watch_.expect("the self-check of the one-shot all-reduce", kStartSecondsMax);
    one_shot_ = std::make_unique<GroupOneShot>(collective);
    watch_.is_over();
    if (rank_ == 0 && one_shot_->get() == nullptr && watch.on_fallback) {
      watch.on_fallback("all-reduces of few rows go through NCCL too: " + one_shot_->why_not());
    }
  }
  // The communicator stays until the process ends: ncclCommDestroy waits for the other ranks, of
  // which one may just have failed.
  ~NcclGroup() override { watch_.watch_errors_of(nccl_, nullptr); }

  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }

  void all_reduce(float* data, int64_t count, cudaStream_t stream) override {
    nccl_.check(nccl_.all_reduce(data, data, static_cast<size_t>(count), kNcclFloat32, kNcclSum,
                                 comm_, stream),
                "ncclAllReduce");
  }
  void all_gather(float* data, int64_t count, cudaStream_t stream) override {
    nccl_.check(nccl_.all_gather(data + rank_ * count, data, static_cast<size_t>(count),
                                 kNcclFloat32, comm_, stream),
                "ncclAllGather");
  }
  const OneShot* one_shot() const override { return one_shot_->get(); }
  void step_queued(cudaStream_t stream) override {
    watch_.expect("step " + std::to_string(++step_), kStepSecondsMax);
    watch_.queued(stream);
  }

 private:
  // Makes the connections, which is not to happen while a graph is captured, and compares what an
  // all-reduce and an all-gather of whole numbers give with what is right: such sums are exact in
  // any order. Throws where they differ.
  void try_out() {
    constexpr int64_t kCount = 1 << 16;
    Stream stream;
    const auto bytes = static_cast<int64_t>(kCount * sizeof(float));
    const Memory sums = allocate(bytes), parts = allocate(ranks_ * bytes);
    auto* gathered = static_cast<float*>(parts.get());
    std::vector<float> values(static_cast<size_t>(kCount));
    for (size_t i = 0; i < values.size(); ++i) values[i] = value_of(i, rank_);
    copy_to_device(sums.get(), values.data(), bytes, stream.get());
    copy_to_device(gathered + rank_ * kCount, values.data(), bytes, stream.get());
    all_reduce(static_cast<float*>(sums.get()), kCount, stream.get());
    all_gather(gathered, kCount, stream.get());
    std::vector<float> sum(values.size()), all(values.size() * static_cast<size_t>(ranks_));
    copy_to_host(sum.data(), sums.get(), bytes, stream.get());
    copy_to_host(all.data(), gathered, ranks_ * bytes, stream.get());
    wait_for(stream.get());
    for (size_t i = 0; i < values.size(); ++i) {
      float expected = 0;
      for (int rank = 0; rank < ranks_; ++rank) {
        expected += value_of(i, rank);
        if (all[static_cast<size_t>(rank) * values.size() + i] == value_of(i, rank)) continue;
        throw DeviceError("NCCL: an all-gather at the start gave wrong numbers");
      }
      if (sum[i] != expected) {
        throw DeviceError("NCCL: an all-reduce at the start gave wrong numbers");
      }
    }
  }
  static float value_of(size_t i, int rank) {
    return static_cast<float>((i * 7 + static_cast<size_t>(rank) * 13) % 1021) - 500;
  }

  int rank_, ranks_;
  const Nccl& nccl_;
  NcclComm comm_ = nullptr;
  uint64_t step_ = 0;
  std::unique_ptr<GroupOneShot> one_shot_;
  Watch watch_;
};

#else

class HostGroup final : public DeviceGroup {
 public:
  explicit HostGroup(Collective& collective) : collective_(collective), one_shot_(collective) {}
  int rank() const override { return collective_.rank(); }
  int ranks() const override { return collective_.ranks(); }
  void all_reduce(float* data, int64_t count, cudaStream_t) override {
    emulate::catch_up();
    collective_.all_reduce(data, count, 0, alone_);
  }
  void all_gather(float* data, int64_t count, cudaStream_t) override {
    emulate::catch_up();
    collective_.all_gather(reinterpret_cast<std::byte*>(data),
                           reinterpret_cast<const std::byte*>(data + rank() * count),
                           count * static_cast<int64_t>(sizeof(float)), 0, alone_);
  }
  const OneShot* one_shot() const override { return one_shot_.get(); }
  void step_queued(cudaStream_t) override {}

 private:
  Collective& collective_;
  OneWorker alone_;
  GroupOneShot one_shot_;
};

#endif

}  // namespace

#ifdef __CUDACC__

bool can_form_groups(std::string& why_not) {
  try {
    nccl();
    return true;
  } catch (const DeviceError& error) {
    why_not = error.what();
    return false;
  }
}

std::unique_ptr<DeviceGroup> make_device_group(Collective& collective, const RanksWatch& watch) {
  return std::make_unique<NcclGroup>(collective, watch);
}

#else

bool can_form_groups(std::string&) {
  return true;
}
std::unique_ptr<DeviceGroup> make_device_group(Collective& collective, const RanksWatch&) {
  return std::make_unique<HostGroup>(collective);
}

#endif

std::vector<Range> ranges_of_ranks(Collective& collective, Range own) {
  return gather_on_host(collective, own);
}

}  // namespace chorus::kernels::cuda
