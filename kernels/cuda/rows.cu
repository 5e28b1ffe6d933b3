// Operations on rows. All are bound by bytes where there are many rows and by latency where there
// is one, so all do the same: 8 neighbours a thread (16-byte accesses), as many threads as a row
// has groups of 8, everything that does not depend on another load asked for at once.
//
// Rows whose length or place does not allow that (an odd number of columns) take the same threads
// and the same order of sums with one access an element.
//
// Norms: one block a row, the row in registers between the two uses (norm_row.h). A row that is not
// live goes all the way with what stands there and is not stored: the count of live rows need not
// be known before the row is loaded.
#include "kernels/cuda/rows.h"

#include <cmath>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/gate.h"
#include "kernels/cuda/norm_row.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kThreadsMax = 256;  // of the operations that need no sums

// --- norms

template <typename Out>
struct NormKernelArgs {
  Out* out;
  float* residual;  // null: x is normed as it is
  const float* x;
  const float* weight;
  const int32_t* live_rows;
  int cols;
  float eps;
  bool packed;
  int64_t rows;    // a block each; the blocks behind them bring
  Prefetch ahead;  // this into L2
};

template <typename Out, int kGroups>
__global__ void __launch_bounds__(kNormThreadsMax) norm_kernel(NormKernelArgs<Out> args) {
  ptx::let_successor_start();
  if (blockIdx.x >= args.rows) {
    ptx::prefetch_share(args.ahead, static_cast<int>(blockIdx.x - args.rows));
    ptx::wait_for_predecessor();
    return;
  }
  auto& shared = shared_memory<NormShared>();
  const int64_t row = blockIdx.x;
  const int64_t first = row * args.cols;

  float weight[kGroups][kGroup] = {};
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    if (group_place(g) < args.cols) {
      load_group(weight[g], args.weight, group_place(g), args.cols, args.packed);
    }
  }
  ptx::wait_for_predecessor();
  const bool live = is_live(row, args.live_rows);

  float x[kGroups][kGroup] = {};
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int place = group_place(g);
    if (place >= args.cols) continue;
    load_group(x[g], args.x + first, place, args.cols, args.packed);
    if (args.residual != nullptr) {
      float residual[kGroup];
      load_group(residual, args.residual + first, place, args.cols, args.packed);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) x[g][i] = residual[i] + x[g][i];
    }
  }
  const NormedRow<Out> normed{
      .out = args.out + first,
      .residual = args.residual == nullptr ? nullptr : args.residual + first,
      .cols = args.cols,
      .eps = args.eps,
      .packed = args.packed};
  norm_row(normed, x, weight, live, shared);
}

void launch_norm(const View& out, float* residual, const View& x, const float* weight, float eps,
                 const Prefetch& ahead, cudaStream_t stream) {
  if (x.type != DType::f32) throw std::invalid_argument("rms_norm: x is not f32");
  if (x.cols > int64_t{kNormThreadsMax} * kNormGroupsMax * kGroup) {
    throw std::invalid_argument("rms_norm: rows of " + std::to_string(x.cols) +
                                " columns; at most 16384 are served");
  }
  if (x.rows == 0 || x.cols == 0) return;
  with_float_type(out.type, "rms_norm", [&](auto element) {
    using Out = typename decltype(element)::type;
    NormKernelArgs<Out> args{.out = static_cast<Out*>(out.data),
                             .residual = residual,
                             .x = static_cast<const float*>(x.data),
                             .weight = weight,
                             .live_rows = x.live_rows,
                             .cols = static_cast<int>(x.cols),
                             .eps = eps,
                             .packed = false,
                             .rows = x.rows,
                             .ahead = ahead};
    args.packed =
        packs_fit<Out, kGroup>(args.out, x.cols) && packs_fit<float, kGroup>(args.x, x.cols) &&
        packs_fit<float, kGroup>(weight, x.cols) && packs_fit<float, kGroup>(residual, x.cols);
    const int threads = whole_warps(groups_of(x.cols), kNormThreadsMax);
    const auto kernel =
        groups_of(x.cols) <= threads ? norm_kernel<Out, 1> : norm_kernel<Out, kNormGroupsMax>;
    launch(kernel, dim3(static_cast<unsigned>(x.rows) + ahead.blocks()),
           dim3(static_cast<unsigned>(threads)), sizeof(NormShared), stream, args);
  });
}

// --- copies: a row of the embedding table, a chosen row, the same row in another type

template <typename Out, typename In>
struct CopyKernelArgs {
  Out* out = nullptr;
  const In* from = nullptr;
  int64_t stride = 0;  // of `from`
  // out's row r is from's row index[r], or last_tokens[slots[r]] where that is negative, or r where
  // there is no index.
  const int32_t* index = nullptr;
  const int32_t* slots = nullptr;
  const int32_t* last_tokens = nullptr;
  const int32_t* live_rows = nullptr;
  int64_t from_rows = 0;
  int cols = 0;
  float scale = 1;
  bool packed = false;
};

// What stands at `row`, which is live, of the index.
template <typename Args>
__device__ inline int64_t source_row(const Args& args, int64_t row) {
  if (args.index == nullptr) return row;
  const int32_t from = args.index[row];
  return from >= 0 || args.last_tokens == nullptr ? from : args.last_tokens[args.slots[row]];
}

template <typename Out, typename In>
__global__ void __launch_bounds__(kThreadsMax) copy_kernel(CopyKernelArgs<Out, In> args) {
  ptx::let_successor_start();
  const int64_t row = blockIdx.x;
  const int64_t at = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kGroup;
  ptx::wait_for_predecessor();
  if (at >= args.cols || !is_live(row, args.live_rows)) return;
  const int64_t from = source_row(args, row);
  // No such row: an id from outside the vocabulary. Nothing is read, and NaN shows it.
  const bool exists = from >= 0 && from < args.from_rows;
  float x[kGroup];
#pragma unroll
  for (int i = 0; i < kGroup; ++i) x[i] = NAN;
  if (exists) load_group(x, args.from + from * args.stride, at, args.cols, args.packed);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) x[i] *= args.scale;
  store_group(args.out + row * args.cols, at, x, args.cols, args.packed);
}

dim3 grid_of(int64_t rows, int64_t cols, int threads) {
  const int64_t pieces = ceil_div(groups_of(cols), threads);
  return dim3(static_cast<unsigned>(rows), static_cast<unsigned>(pieces));
}

// Fills in what the views do not say, and launches for out's rows.
template <typename Out, typename In>
void launch_copy(const View& out, CopyKernelArgs<Out, In> args, cudaStream_t stream) {
  if (out.rows == 0 || out.cols == 0) return;
  args.out = static_cast<Out*>(out.data);
  args.cols = static_cast<int>(out.cols);
  args.packed =
      packs_fit<Out, kGroup>(args.out, out.cols) && packs_fit<In, kGroup>(args.from, args.stride);
  const int threads = whole_warps(groups_of(out.cols), kThreadsMax);
  launch(copy_kernel<Out, In>, grid_of(out.rows, out.cols, threads),
         dim3(static_cast<unsigned>(threads)), 0, stream, args);
}

// --- gates

template <typename Out>
struct GateKernelArgs {
  Out* out;
  const float* gate_up;
  const int32_t* live_rows;
  int cols;  // of out
  bool packed;
};

template <typename Out, Gate gate>
__global__ void __launch_bounds__(kThreadsMax) gate_kernel(GateKernelArgs<Out> args) {
  ptx::let_successor_start();
  const int64_t row = blockIdx.x;
  const int64_t at = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kGroup;
  ptx::wait_for_predecessor();
  if (at >= args.cols || !is_live(row, args.live_rows)) return;
  const float* gates = args.gate_up + row * 2 * args.cols;
  float x[kGroup], up[kGroup];
  load_group(x, gates, at, args.cols, args.packed);
  load_group(up, gates + args.cols, at, args.cols, args.packed);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) x[i] = activate(gate, x[i]) * up[i];
  store_group(args.out + row * args.cols, at, x, args.cols, args.packed);
}

// --- caps

__global__ void __launch_bounds__(kThreadsMax)
    cap_kernel(float* x, const int32_t* live_rows, int cols, float cap, bool packed) {
  ptx::let_successor_start();
  const int64_t row = blockIdx.x;
  const int64_t at = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kGroup;
  ptx::wait_for_predecessor();
  if (at >= cols || !is_live(row, live_rows)) return;
  float capped[kGroup];
  load_group(capped, x + row * cols, at, cols, packed);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) capped[i] = cap * tanhf(capped[i] / cap);
  store_group(x + row * cols, at, capped, cols, packed);
}

// --- slices of rows

constexpr int kRanksMax = 64;

struct JoinKernelArgs {
  float* out;
  const float* gathered;
  int64_t rank_stride;
  const int32_t* live_rows;
  int cols;
  int begin[kRanksMax + 1];  // of the ranks' columns
};

__global__ void __launch_bounds__(kThreadsMax) join_kernel(JoinKernelArgs args) {
  ptx::let_successor_start();
  const int64_t row = blockIdx.x;
  ptx::wait_for_predecessor();
  if (!is_live(row, args.live_rows)) return;
  int rank = 0;
  for (int i = 0; i < kGroup; ++i) {  // neighbours are of neighbouring threads
    const int col = static_cast<int>((blockIdx.y * kGroup + i) * blockDim.x + threadIdx.x);
    if (col >= args.cols) return;
    while (col >= args.begin[rank + 1]) ++rank;
    const int64_t slice = args.begin[rank + 1] - args.begin[rank];
    args.out[row * args.cols + col] =
        args.gathered[rank * args.rank_stride + row * slice + col - args.begin[rank]];
  }
}

}  // namespace

void embed(View out, const Weight& table, View tokens, View slots, View last_tokens, float scale,
           cudaStream_t stream) {
  const DeviceWeight& rows = matrix(table);
  with_float_type(out.type, "embed", [&](auto out_element) {
    with_float_type(type_of(rows.format), "embed", [&](auto in_element) {
      using Out = typename decltype(out_element)::type;
      using In = typename decltype(in_element)::type;
      launch_copy<Out, In>(out,
                           {.from = static_cast<const In*>(rows.data),
                            .stride = rows.stride,
                            .index = static_cast<const int32_t*>(tokens.data),
                            .slots = static_cast<const int32_t*>(slots.data),
                            .last_tokens = static_cast<const int32_t*>(last_tokens.data),
                            .live_rows = out.live_rows,
                            .from_rows = rows.rows,
                            .scale = scale},
                           stream);
    });
  });
}

void rms_norm(View out, View x, const float* weight, float eps, cudaStream_t stream,
              const Prefetch& ahead) {
  launch_norm(out, nullptr, x, weight, eps, ahead, stream);
}

void add_rms_norm(View out, View residual, View x, const float* weight, float eps,
                  cudaStream_t stream, const Prefetch& ahead) {
  if (residual.type != DType::f32) throw std::invalid_argument("rms_norm: residual is not f32");
  launch_norm(out, static_cast<float*>(residual.data), x, weight, eps, ahead, stream);
}

void gated_activation(View out, View gate_up, Gate gate, cudaStream_t stream) {
  if (gate_up.type != DType::f32) {
    throw std::invalid_argument("gated_activation: gate_up is not f32");
  }
  if (gate_up.rows == 0 || out.cols == 0) return;
  with_float_type(out.type, "gated_activation", [&](auto element) {
    using Out = typename decltype(element)::type;
    GateKernelArgs<Out> args{.out = static_cast<Out*>(out.data),
                             .gate_up = static_cast<const float*>(gate_up.data),
                             .live_rows = gate_up.live_rows,
                             .cols = static_cast<int>(out.cols),
                             .packed = false};
    args.packed = packs_fit<Out, kGroup>(args.out, out.cols) &&
                  packs_fit<float, kGroup>(args.gate_up, out.cols);
    const int threads = whole_warps(groups_of(out.cols), kThreadsMax);
    const auto kernel =
        gate == Gate::silu ? gate_kernel<Out, Gate::silu> : gate_kernel<Out, Gate::gelu_tanh>;
    launch(kernel, grid_of(gate_up.rows, out.cols, threads), dim3(static_cast<unsigned>(threads)),
           0, stream, args);
  });
}

void soft_cap(View x, float cap, cudaStream_t stream) {
  if (x.type != DType::f32) throw std::invalid_argument("soft_cap: x is not f32");
  if (x.rows == 0 || x.cols == 0) return;
  auto* data = static_cast<float*>(x.data);
  const int threads = whole_warps(groups_of(x.cols), kThreadsMax);
  launch(cap_kernel, grid_of(x.rows, x.cols, threads), dim3(static_cast<unsigned>(threads)), 0,
         stream, data, x.live_rows, static_cast<int>(x.cols), cap,
         packs_fit<float, kGroup>(data, x.cols));
}

void gather_rows(View out, View x, View index, cudaStream_t stream) {
  View rows = out;
  rows.rows = index.rows;
  with_float_type(x.type, "gather_rows", [&](auto element) {
    using T = typename decltype(element)::type;
    if (out.type != x.type) throw std::invalid_argument("gather_rows: out has another type than x");
    launch_copy<T, T>(rows,
                      {.from = static_cast<const T*>(x.data),
                       .stride = x.cols,
                       .index = static_cast<const int32_t*>(index.data),
                       .live_rows = index.live_rows,
                       .from_rows = x.rows,
                       .scale = 1},
                      stream);
  });
}

void join_columns(View out, const float* gathered, int64_t rank_stride,
                  std::span<const Range> slices, cudaStream_t stream) {
  if (out.type != DType::f32) throw std::invalid_argument("join_columns: out is not f32");
  if (slices.size() > kRanksMax) throw std::invalid_argument("join_columns: more than 64 ranks");
  if (out.rows == 0 || out.cols == 0) return;
  JoinKernelArgs args{.out = static_cast<float*>(out.data),
                      .gathered = gathered,
                      .rank_stride = rank_stride,
                      .live_rows = out.live_rows,
                      .cols = static_cast<int>(out.cols),
                      .begin = {}};
  for (size_t rank = 0; rank < slices.size(); ++rank) {
    args.begin[rank] = static_cast<int>(slices[rank].begin);
    args.begin[rank + 1] = static_cast<int>(slices[rank].end);
  }
  const int threads = whole_warps(groups_of(out.cols), kThreadsMax);
  launch(join_kernel, grid_of(out.rows, out.cols, threads), dim3(static_cast<unsigned>(threads)), 0,
         stream, args);
}

}  // namespace chorus::kernels::cuda
