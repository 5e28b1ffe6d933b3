// Which launches a quantised matmul is made of: one for each coding among the weight's segments
// (GGUF's mixes have two or three at most). The activation is in the epilogue where gate rows and
// up rows have one coding and stand in like tiles, as all checkpoints of today have them; otherwise
// the product goes through the workspace.
//
// Many rows, unless sums must have the order that few rows have, take the way of plain weights: the
// weight is dequantised into the workspace first.
#include "kernels/cuda/quantised.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/cuda/quantised_few.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

// What the workspace may take for a plain copy of a weight: the gate and up rows of a model of 70B
// fit. Larger ones (outputs of large vocabularies, which see few rows) are multiplied in turns.
constexpr int64_t kPlainBytesMax = int64_t{1} << 30;

bool goes_plain(const DeviceWeight& weight, int64_t rows) {
  return rows > kFewRowsMax && weight.cols % 8 == 0 &&
         weight.rows * weight.cols * 2 <= kPlainBytesMax;
}

int64_t plain_bytes(const DeviceWeight& weight) {
  return round_up(weight.rows * weight.cols * 2, 256);
}

// What the weight becomes for many rows.
DeviceWeight plain_of(const DeviceWeight& weight, DType type) {
  DeviceWeight plain;
  plain.format = format_of(type);
  plain.rows = weight.rows;
  plain.cols = plain.stride = weight.cols;
  return plain;
}

void multiply_plain(const MatmulArgs& args, void* workspace, cudaStream_t stream) {
  DeviceWeight plain = plain_of(*args.weight, args.x.type);
  plain.data = workspace;
  dequantise(*args.weight, args.x.type, workspace, stream);
  MatmulArgs call = args;
  call.weight = &plain;
  matmul(call, static_cast<uint8_t*>(workspace) + plain_bytes(plain), false, stream);
}

// The rows [rows / 2, rows) of a segment whose first half ends on a tile's border.
bool halves(const QuantisedSegment& whole, QuantisedSegment& first, QuantisedSegment& second) {
  if (whole.rows % (2 * kTileRows) != 0) return false;
  const CodingFacts facts = facts_of(whole.coding);
  const int64_t tiles = whole.row_tiles / 2 * whole.col_tiles;
  first = second = whole;
  first.rows = second.rows = whole.rows / 2;
  first.row_tiles = second.row_tiles = whole.row_tiles / 2;
  second.row_begin += first.rows;
  second.codes += tiles * code_bytes(facts);
  if (facts.high > 0) second.high_bits += tiles * high_bytes(facts);
  second.scales += facts.scale_bytes == 0 ? 4 * first.row_tiles * whole.scale_row_tile_stride
                                          : tiles * kTileRows * facts.scale_bytes;
  if (facts.block_scale_bytes > 0) {
    second.block_scales +=
        first.row_tiles * ((whole.col_tiles + 1) / 2) * kTileRows * facts.block_scale_bytes;
  }
  return true;
}

// Gate rows and up rows as two segments with like tiles, if they are that.
bool gate_and_up(const DeviceWeight& weight, QuantisedSegment (&pair)[kSegmentsMax]) {
  if (weight.segments.size() == 1) return halves(weight.segments[0], pair[0], pair[1]);
  if (weight.segments.size() != 2) return false;
  pair[0] = weight.segments[0];
  pair[1] = weight.segments[1];
  return pair[0].coding == pair[1].coding && pair[0].rows == pair[1].rows;
}

LaunchFew* few_kernel(Coding coding) {
  switch (coding) {
    case Coding::q8_0:
      return launch_few_q8_0;
    case Coding::q4_0:
      return launch_few_q4_0;
    case Coding::q4_1:
      return launch_few_q4_1;
    case Coding::q5_0:
      return launch_few_q5_0;
    case Coding::q5_1:
      return launch_few_q5_1;
    case Coding::q4_k:
      return launch_few_q4_k;
    case Coding::q5_k:
      return launch_few_q5_k;
    case Coding::q6_k:
      return launch_few_q6_k;
    case Coding::i4_by_32:
      return launch_few_i4_by_32;
    case Coding::i4_by_128:
      return launch_few_i4_by_128;
    case Coding::e4m3:
      return launch_few_e4m3;
    case Coding::i8:
      return launch_few_i8;
  }
  assert(false);
  return nullptr;
}

void launch_segments(FewRowsArgs& few, const MatmulArgs& args, cudaStream_t stream) {
  few.row_tiles = 0;
  for (int i = 0; i < (few.epilogue.gated ? 1 : few.segment_count); ++i) {
    few.row_tiles += int(few.segments[i].row_tiles);
  }
  few_kernel(few.segments[0].coding)(few, args.x.type, args.limits, stream);
  few.segment_count = 0;
}

// Segments of one coding together, wherever they stand among the others.
void multiply(FewRowsArgs few, const MatmulArgs& args, cudaStream_t stream) {
  const DeviceWeight& weight = *args.weight;
  std::vector<bool> done(weight.segments.size());
  for (size_t i = 0; i < weight.segments.size(); ++i) {
    for (size_t j = i; j < weight.segments.size(); ++j) {
      if (done[j] || weight.segments[j].coding != weight.segments[i].coding) continue;
      done[j] = true;
      few.segments[few.segment_count++] = weight.segments[j];
      if (few.segment_count == kSegmentsMax) launch_segments(few, args, stream);
    }
    if (few.segment_count > 0) launch_segments(few, args, stream);
  }
}

// The epilogue for a product that is already there, of a gated weight without a bias left to add.
__global__ void gate_kernel(const float* product, const Epilogue epilogue) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t row = blockIdx.x, column = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (row >= live_rows(epilogue) || column >= epilogue.columns) return;
  const float* both = product + row * 2 * epilogue.columns;
  store(epilogue, row, column, both[column], both[epilogue.columns + column]);
}

}  // namespace

int64_t quantised_workspace_bytes(const DeviceWeight& weight, int64_t rows_max,
                                  const DeviceLimits& limits, bool deterministic) {
  QuantisedSegment pair[kSegmentsMax];
  const int64_t product = gate_and_up(weight, pair) ? 0 : rows_max * weight.rows * 4;
  if (deterministic || !goes_plain(weight, rows_max)) return product;
  // The product of the plain weight has a workspace of its own behind it.
  const DeviceWeight plain = plain_of(weight, DType::bf16);
  return std::max(product, plain_bytes(weight) +
                               matmul_workspace_bytes(plain, rows_max, limits, deterministic));
}

void matmul_quantised(const MatmulArgs& args, void* workspace, bool deterministic,
                      cudaStream_t stream) {
  const DeviceWeight& weight = *args.weight;
  assert(weight.format == WeightFormat::quantised && args.x.cols == weight.cols);
  if (args.x.rows == 0) return;
  if (!deterministic && args.x.type != DType::f32 && goes_plain(weight, args.x.rows)) {
    return multiply_plain(args, workspace, stream);
  }
  FewRowsArgs few;
  few.x = args.x.data;
  few.cols = args.x.cols;
  few.epilogue = epilogue_of(args);
  if (!args.gated) return multiply(few, args, stream);
  if (gate_and_up(weight, few.segments)) {
    few.segment_count = 2;
    return launch_segments(few, args, stream);
  }
  Epilogue gate = few.epilogue;
  gate.bias = nullptr;
  few.epilogue.gated = false;
  few.epilogue.out = workspace;
  few.epilogue.type = DType::f32;
  few.epilogue.columns = weight.rows;
  multiply(few, args, stream);
  launch(gate_kernel, dim3(unsigned(gate.rows), unsigned(ceil_div(gate.columns, 256))), dim3(256),
         0, stream, static_cast<const float*>(workspace), gate);
}

}  // namespace chorus::kernels::cuda
