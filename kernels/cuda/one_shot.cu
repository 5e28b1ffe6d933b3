// One-shot all-reduce. Each rank puts its rows where the others can read them, says so, waits until
// the others have, and adds up everybody's rows itself: one way over the wires instead of the
// 2 * (n - 1) of a ring, and (n - 1) times the bytes. The bound is latency: a flag there and a row
// back, a few microseconds over NVLink where NCCL takes ten. One block a row, as in norm_kernel,
// whose way the row then goes (norm_row.h).
//
// The protocol, per block b, whose rows are b, b + blocks, ...; blocks of one rank share nothing.
// In its round e (counted in the rank's device memory, so that a captured graph goes on counting)
//   1. it writes its rows to its region of buffer e % 2 in its own window;
//   2. it sets flag [b][own rank] in every window to e;
//   3. it waits until the flags [b][r] of its own window, of all ranks r, have come to e;
//   4. it reads the regions of block b of buffer e % 2 in all windows.
// All ranks launch the same grids in the same order, so their blocks b count alike.
//
// Why step 4 reads what step 1 of rank r wrote: the writes of r's threads are ordered before its
// flags by the block's barrier and the release at system scope, which covers what the releasing
// thread knows of by the barrier; the acquire that finds the flag at e, and the barrier behind it,
// order them before the reads of all threads here. A flag may have gone past e; then r's writes of
// round e came before as well, and the next paragraph says that they are still there.
//
// Why step 1 overwrites nothing that is still read: what stands in that region was written in round
// e - 2, and rank r read it in its step 4 of that round. Before writing, this block went through
// step 3 of round e - 1 (in an earlier kernel, or it would not be in round e), where it acquired
// r's flag of round e - 1. Rank r released that in a kernel that began after its kernel of round
// e - 2 had ended, reads and all. So two buffers are enough and no closing barrier is needed, with
// launches of other shapes in between as well: a region is always block b's. (One buffer is not
// enough: r's flag of round e - 1 says nothing of its reads in that round.)
//
// Why counting round 2^32 does no harm: a flag is never further than one round from what it is
// compared with, in either direction; a block that was not launched for long has flags and count as
// old as each other.
//
// Live rows: every block takes part in its round, whether its rows are live or not.
//
// A block waits for blocks b of other devices, never for one of its own device, but where not all
// blocks fit on the devices at once two of them could start with different ones and wait for each
// other for ever: launch_together refuses.
#include "kernels/cuda/one_shot.h"

#include <algorithm>
#include <cassert>

#include "kernels/cuda/norm_row.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kBuffers = 2;
constexpr int kBlocksMax = 32;
constexpr int64_t kRowsMax = 128, kBytesMax = 256 << 10;
// What a block's rows take at most: a row, or, of more rows than blocks, which have fewer than 2048
// columns, its share and what is left over.
constexpr int kRegionFloats = kNormThreadsMax * kNormGroupsMax * kGroup;
static_assert(2 * (kBytesMax / 4 / kBlocksMax) <= kRegionFloats);

struct Window {
  struct alignas(128) BlockFlags {
    uint32_t from[kOneShotRanksMax];
  };
  BlockFlags flags[kBlocksMax];
  alignas(256) float regions[kBuffers][kBlocksMax][kRegionFloats];
};

template <typename Out>
struct OneShotArgs {
  Window* windows[kOneShotRanksMax];
  int rank, ranks;
  uint32_t* epochs;  // rounds that each block of this rank has behind it
  float* x;
  Out* out;
  float* residual;
  const float* weight;
  const int32_t* live_rows;
  int cols;
  float eps;
  int rows;
  int blocks;      // that take part; those behind them bring
  Prefetch ahead;  // this into L2
};

// Steps 1 to 3 for this block's rows; answers where in a window the first of them stands, behind
// which the others follow.
template <typename Out, int kGroups>
__device__ inline int exchange(const OneShotArgs<Out>& args) {
  const int block = static_cast<int>(blockIdx.x);
  const uint32_t epoch = args.epochs[block] + 1;
  const int region = (static_cast<int>(epoch % kBuffers) * kBlocksMax + block) * kRegionFloats;
  float* own = &args.windows[args.rank]->regions[0][0][0] + region;
  for (int row = block; row < args.rows; row += args.blocks, own += args.cols) {
    if (!is_live(row, args.live_rows)) break;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int place = group_place(g);
      if (place >= args.cols) continue;
      float x[kGroup];
      load(x, args.x + row * args.cols + place);
      store(own + place, x);
    }
  }
  __syncthreads();  // all of the block's rows stand there before a flag says so
  if (static_cast<int>(threadIdx.x) < args.ranks) {
    const auto peer = static_cast<int>(threadIdx.x);
    ptx::store_release<ptx::Scope::system>(&args.windows[peer]->flags[block].from[args.rank],
                                           epoch);
    ptx::wait_for_flag<ptx::Scope::system>(&args.windows[args.rank]->flags[block].from[peer],
                                           epoch);
  }
  __syncthreads();  // each thread knows of all ranks' rows, and has read the count of rounds
  if (threadIdx.x == 0) args.epochs[block] = epoch;
  return region;
}

// x = this thread's groups of the row at `at` in all windows, added rank after rank. As many loads
// are under way at once as registers are free.
template <typename Out, int kGroups>
__device__ inline void add_ranks(float (&x)[kGroups][kGroup], const OneShotArgs<Out>& args,
                                 int at) {
  constexpr int kAtOnce = kGroups == 1 ? 4 : 1;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int place = group_place(g);
    if (place >= args.cols) continue;
    for (int first = 0; first < args.ranks; first += kAtOnce) {
      float part[kAtOnce][kGroup] = {};
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (first + k >= args.ranks) continue;
        load(part[k], &args.windows[first + k]->regions[0][0][0] + at + place);
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (first + k >= args.ranks) continue;
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
          x[g][i] = first + k == 0 ? part[k][i] : x[g][i] + part[k][i];
        }
      }
    }
  }
}

template <int kGroups>
__global__ void __launch_bounds__(kNormThreadsMax) one_shot_kernel(OneShotArgs<float> args) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  int at = exchange<float, kGroups>(args);
  for (int row = static_cast<int>(blockIdx.x); row < args.rows;
       row += args.blocks, at += args.cols) {
    if (!is_live(row, args.live_rows)) break;
    float x[kGroups][kGroup] = {};
    add_ranks(x, args, at);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int place = group_place(g);
      if (place < args.cols) store(args.x + row * args.cols + place, x[g]);
    }
  }
}

template <typename Out, int kGroups>
__global__ void __launch_bounds__(kNormThreadsMax) one_shot_norm_kernel(OneShotArgs<Out> args) {
  ptx::let_successor_start();
  if (static_cast<int>(blockIdx.x) >= args.blocks) {
    ptx::prefetch_share(args.ahead, static_cast<int>(blockIdx.x) - args.blocks);
    ptx::wait_for_predecessor();
    return;
  }
  auto& shared = shared_memory<NormShared>();
  // The weights come near now and into registers last: until then the ranks' rows need these.
  if (threadIdx.x == 0) {
    ptx::prefetch_l2(args.weight, static_cast<uint32_t>(args.cols * sizeof(float)));
  }
  ptx::wait_for_predecessor();
  int at = exchange<Out, kGroups>(args);
  for (int row = static_cast<int>(blockIdx.x); row < args.rows;
       row += args.blocks, at += args.cols) {
    if (!is_live(row, args.live_rows)) break;
    const int first = row * args.cols;
    float x[kGroups][kGroup] = {};
    float weight[kGroups][kGroup] = {};
    add_ranks(x, args, at);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int place = group_place(g);
      if (place >= args.cols) continue;
      float residual[kGroup];
      load(residual, args.residual + first + place);
      load(weight[g], args.weight + place);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) x[g][i] = residual[i] + x[g][i];
    }
    const NormedRow<Out> normed{.out = args.out + first,
                                .residual = args.residual + first,
                                .cols = args.cols,
                                .eps = args.eps,
                                .packed = true};
    norm_row(normed, x, weight, true, shared);
    __syncthreads();  // the next row's sums go where this one's are read
  }
}

// Rows begin at 16 bytes; those of the windows do.
template <typename T>
void check_packs(const T* data, int64_t cols) {
  if (!packs_fit<T, kGroup>(data, cols)) {
    throw std::invalid_argument("one-shot all-reduce: rows that do not begin at 16 bytes");
  }
}

// What both kernels take from the views.
template <typename Out>
OneShotArgs<Out> arguments(const View& x, int rank, const std::vector<void*>& windows,
                           const Memory& epochs) {
  if (x.type != DType::f32) throw std::invalid_argument("one-shot all-reduce: x is not f32");
  assert(OneShot::takes(x.rows, x.cols));
  OneShotArgs<Out> args{};
  for (size_t r = 0; r < windows.size(); ++r) args.windows[r] = static_cast<Window*>(windows[r]);
  args.rank = rank;
  args.ranks = static_cast<int>(windows.size());
  args.epochs = static_cast<uint32_t*>(epochs.get());
  args.x = static_cast<float*>(x.data);
  args.live_rows = x.live_rows;
  args.cols = static_cast<int>(x.cols);
  check_packs(args.x, x.cols);
  args.rows = static_cast<int>(x.rows);
  args.blocks = std::min(args.rows, kBlocksMax);
  return args;
}

}  // namespace

int64_t OneShot::window_bytes() {
  return static_cast<int64_t>(sizeof(Window));
}

bool OneShot::takes(int64_t rows, int64_t cols) {
  return cols > 0 && cols % kGroup == 0 && cols <= kRegionFloats && rows <= kRowsMax &&
         rows * cols * static_cast<int64_t>(sizeof(float)) <= kBytesMax;
}

OneShot::OneShot(int rank, const std::vector<void*>& windows)
    : rank_(rank), windows_(windows), epochs_(allocate(kBlocksMax * sizeof(uint32_t))) {
  assert(std::ssize(windows) <= kOneShotRanksMax);
}

void OneShot::all_reduce(View x, cudaStream_t stream) const {
  if (x.rows == 0) return;
  const auto args = arguments<float>(x, rank_, windows_, epochs_);
  const int threads = whole_warps(groups_of(x.cols), kNormThreadsMax);
  const auto kernel =
      groups_of(x.cols) <= threads ? one_shot_kernel<1> : one_shot_kernel<kNormGroupsMax>;
  launch_together(kernel, dim3(static_cast<unsigned>(args.blocks)),
                  dim3(static_cast<unsigned>(threads)), 0, stream, args);
}

void OneShot::all_reduce_add_rms_norm(View out, View residual, View x, const float* weight,
                                      float eps, cudaStream_t stream, const Prefetch& ahead) const {
  if (x.rows == 0) return;
  with_float_type(out.type, "one-shot all-reduce", [&](auto element) {
    using Out = typename decltype(element)::type;
    auto args = arguments<Out>(x, rank_, windows_, epochs_);
    args.out = static_cast<Out*>(out.data);
    args.residual = static_cast<float*>(residual.data);
    args.weight = weight;
    args.eps = eps;
    check_packs(args.out, x.cols);
    check_packs(args.residual, x.cols);
    check_packs(weight, x.cols);
    args.ahead = ahead;
    const int threads = whole_warps(groups_of(x.cols), kNormThreadsMax);
    const auto kernel = groups_of(x.cols) <= threads ? one_shot_norm_kernel<Out, 1>
                                                     : one_shot_norm_kernel<Out, kNormGroupsMax>;
    launch_together(kernel, dim3(static_cast<unsigned>(args.blocks) + ahead.blocks()),
                    dim3(static_cast<unsigned>(threads)), sizeof(NormShared), stream, args);
  });
}

}  // namespace chorus::kernels::cuda
