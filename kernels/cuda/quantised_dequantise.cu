// A quantised weight as a plain one, for matmuls of so many rows that writing and reading 16 bits a
// weight costs little beside the products: bound by bytes, the codes read and the numbers written.
// One warp a tile. Here weights are rounded once, to the operands' type.
#include <cassert>

#include "kernels/cuda/quantised.h"
#include "kernels/cuda/quantised_codes.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kWarps = 8;

template <Coding coding, typename T>
__global__ void __launch_bounds__(kWarps * 32)
    dequantise_kernel(const __grid_constant__ QuantisedSegment segment, T* out, int64_t cols) {
  constexpr int kGroup = facts_of(coding).group;
  ptx::let_successor_start();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t index = int64_t(blockIdx.x) * kWarps + warp;
  const bool any = index < segment.row_tiles * segment.col_tiles;
  const int64_t row_tile = index / segment.col_tiles, col_tile = index % segment.col_tiles;
  TileCodes<coding> codes;
  if (any) codes.load(segment, row_tile, col_tile, lane);
  ptx::wait_for_predecessor();  // an earlier matmul may still read `out`
  if (!any) return;
  const bool in_fours = segment.columns == nullptr && segment.lead % 4 == 0 && cols % 4 == 0;
#pragma unroll
  for (int step = 0; step < kTileSteps; ++step) {
    const int group = step * 16 / kGroup;
    const ptx::Fragment4 a =
        codes.template fragment<T>(step, codes.zero(0, group), codes.zero(1, group));
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t row = row_tile * kTileRows + g + 8 * r;
      if (row >= segment.rows) continue;
      const float scale = codes.scale(segment, r, group);
      float minimum = 0;
      if constexpr (TileCodes<coding>::kHasMinima) minimum = codes.minimum(r, group);
      const float2 low = ptx::unpack<T>(a.x[r]), high = ptx::unpack<T>(a.x[r + 2]);
      const uint32_t words[2] = {ptx::pack<T>(scale * low.x + minimum, scale * low.y + minimum),
                                 ptx::pack<T>(scale * high.x + minimum, scale * high.y + minimum)};
      T* to = out + (segment.row_begin + row) * cols;
      const int64_t column = col_tile * kTileCols + column_in_tile(kGroup, step, t, 0, 0);
      if (in_fours) {
        const int64_t at = column - segment.lead;
        if (at >= 0 && at < cols) *reinterpret_cast<uint2*>(to + at) = {words[0], words[1]};
        continue;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t at =
            segment.columns != nullptr ? segment.columns[column + i] : column + i - segment.lead;
        if (at < 0 || at >= cols) continue;
        const auto bits = uint16_t(words[i / 2] >> (16 * (i % 2)));
        memcpy(static_cast<void*>(to + at), &bits, 2);
      }
    }
  }
}

template <Coding coding>
void dequantise_segment(const QuantisedSegment& segment, DType type, void* out, int64_t cols,
                        cudaStream_t stream) {
  const int64_t tiles = segment.row_tiles * segment.col_tiles;
  const dim3 blocks(unsigned(ceil_div(tiles, kWarps)));
  if (type == DType::bf16) {
    launch(dequantise_kernel<coding, __nv_bfloat16>, blocks, dim3(kWarps * 32), 0, stream, segment,
           static_cast<__nv_bfloat16*>(out), cols);
  } else {
    launch(dequantise_kernel<coding, __half>, blocks, dim3(kWarps * 32), 0, stream, segment,
           static_cast<__half*>(out), cols);
  }
}

}  // namespace

void dequantise(const DeviceWeight& weight, DType type, void* out, cudaStream_t stream) {
  assert(type == DType::bf16 || type == DType::f16);
  for (const QuantisedSegment& segment : weight.segments) {
    const auto with = [&](auto dequantise_one) {
      dequantise_one(segment, type, out, weight.cols, stream);
    };
    switch (segment.coding) {
      case Coding::q8_0:
        with(dequantise_segment<Coding::q8_0>);
        break;
      case Coding::q4_0:
        with(dequantise_segment<Coding::q4_0>);
        break;
      case Coding::q4_1:
        with(dequantise_segment<Coding::q4_1>);
        break;
      case Coding::q5_0:
        with(dequantise_segment<Coding::q5_0>);
        break;
      case Coding::q5_1:
        with(dequantise_segment<Coding::q5_1>);
        break;
      case Coding::q4_k:
        with(dequantise_segment<Coding::q4_k>);
        break;
      case Coding::q5_k:
        with(dequantise_segment<Coding::q5_k>);
        break;
      case Coding::q6_k:
        with(dequantise_segment<Coding::q6_k>);
        break;
      case Coding::i4_by_32:
        with(dequantise_segment<Coding::i4_by_32>);
        break;
      case Coding::i4_by_128:
        with(dequantise_segment<Coding::i4_by_128>);
        break;
      case Coding::e4m3:
        with(dequantise_segment<Coding::e4m3>);
        break;
      case Coding::i8:
        with(dequantise_segment<Coding::i8>);
        break;
    }
  }
}

}  // namespace chorus::kernels::cuda
