// Two phases. First the activations are put into tiles of 8 rows, quantised where the weights are;
// a single row is quantised by every worker for itself, which is cheaper than a phase. Then the
// groups of weight rows are taken in chunks. Up to 8 rows the product runs straight on the packed
// weights: it is bound by reading them. With more rows, a few groups are unpacked into a panel that
// stays in the second-level cache, and every tile goes over it.
#include "kernels/cpu/matmul.h"

#include <cassert>

#include "kernels/rounding.h"

namespace chorus::kernels {
namespace {

constexpr int64_t kPanelBytesMax = 256 << 10;  // leaves the rest of a 1 MiB L2 to the activations
constexpr int64_t kQuantiseBlocks = 16;        // of a tile, taken at a time
constexpr int64_t kChunksPerWorker = 8;

int64_t aligned(int64_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// Where the pieces of one tile of activations lie.
struct TileLayout {
  int64_t scales = 0;
  int64_t corrections[kCorrections] = {};  // 0: not wanted
  int64_t floats = 0;
  int64_t bytes = 0;
};

TileLayout layout_of(const MatrixWeight& weight, int width) {
  TileLayout layout;
  int64_t end = 0;
  if (weight.any_quantised) {
    end = aligned(2 * weight.blocks * kBlockCols * width);
    layout.scales = end;
    end += aligned(weight.blocks * width * 4);
    for (int i = 0; i < kCorrections; ++i) {
      if (!weight.corrections[i]) continue;
      layout.corrections[i] = end;
      end += aligned(weight.blocks * width * 4 * 2);
    }
  }
  layout.floats = end;
  if (weight.any_floats) end += aligned(weight.cols * width * 4);
  layout.bytes = end;
  return layout;
}

QuantisedTile tile_at(std::byte* base, const TileLayout& layout) {
  QuantisedTile tile;
  tile.values = reinterpret_cast<int8_t*>(base);
  tile.scales = reinterpret_cast<float*>(base + layout.scales);
  for (int i = 0; i < kCorrections; ++i) {
    if (layout.corrections[i] != 0) tile.corrections[i] = base + layout.corrections[i];
  }
  return tile;
}

// One tile's rows into `base`; the quantised blocks [block_begin, block_end) of it.
void fill_tile(const MatmulCall& call, const CpuKernels& kernels, std::byte* base, int64_t tile,
               Range blocks) {
  const MatrixWeight& weight = *call.weight;
  const int64_t rows = live_rows(call.x);
  const int width = rows == 1 ? 1 : kTileRows;
  const TileLayout layout = layout_of(weight, width);
  QuantiseArgs args;
  args.x = row_of<float>(call.x, tile * kTileRows);
  args.x_stride = call.x.cols;
  args.rows = static_cast<int>(std::min<int64_t>(rows - tile * kTileRows, kTileRows));
  args.width = width;
  args.cols = weight.cols;
  if (weight.any_quantised) {
    args.lead = weight.lead;
    args.block_begin = blocks.begin;
    args.block_end = blocks.end;
    args.tile = tile_at(base, layout);
    kernels.quantise(args);
  }
  if (weight.any_floats && blocks.begin == 0) {
    kernels.interleave(reinterpret_cast<float*>(base + layout.floats), args.x, args.x_stride,
                       args.rows, width, args.cols);
  }
}

// The first phase, for more than one row: all tiles, a stretch of blocks at a time.
Phase tile_phase(const MatmulCall& call, const Backend& backend) {
  const int64_t blocks = call.weight->blocks;
  const int64_t pieces = std::max<int64_t>(1, ceil_div(blocks, kQuantiseBlocks));
  const int64_t bytes = tile_bytes(*call.weight);
  const auto cut = [x = call.x, pieces] {
    const int64_t rows = live_rows(x);
    return Cut{rows <= 1 ? 0 : ceil_div(rows, kTileRows) * pieces, 1};
  };
  return cut_phase(cut, [=, &backend](int64_t i, int) {
    const int64_t tile = i / pieces;
    const int64_t begin = i % pieces * kQuantiseBlocks;
    fill_tile(call, backend.kernels, backend.scratch.shared() + tile * bytes, tile,
              {begin, std::min(begin + kQuantiseBlocks, blocks)});
  });
}

// Where the tiles lie for this worker in the second phase.
const std::byte* find_tiles(const MatmulCall& call, const Backend& backend, int worker) {
  if (live_rows(call.x) > 1) return backend.scratch.shared();
  std::byte* own = backend.scratch.own(worker);
  const uint64_t phase = backend.workers.phase_number();
  if (backend.scratch.stamp(worker) != phase) {
    fill_tile(call, backend.kernels, own, 0, {0, call.weight->blocks});
    backend.scratch.stamp(worker) = phase;
  }
  return own;
}

struct PanelFormat {
  DotKind kind;
  int64_t scale_bytes;  // a block of 16 rows
};

PanelFormat panel_format(Correction correction) {
  switch (correction) {
    case Correction::minimum:
      return {DotKind::panel_min, 128};
    case Correction::offset128:
    case Correction::offset8:
    case Correction::offset16:
      return {DotKind::panel_offset, 64};
    case Correction::offset32_halves:
      return {DotKind::panel_halves, 128};
  }
  assert(false);
  return {};
}

int64_t panel_bytes(const PackedSegment& segment) {
  return segment.blocks * (panel_format(segment.correction).scale_bytes + 512);
}

bool uses_panels(const CpuKernels& kernels, const PackedSegment& segment, int64_t rows) {
  return rows > kTileRows && kernels.unpack[static_cast<int>(segment.kind)] != nullptr;
}

// The groups [first, first + count) of one segment against all tiles.
struct Piece {
  const PackedSegment& segment;
  int64_t first, count;
};

void run_tiles(const MatmulCall& call, const Backend& backend, DotArgs args, DotKind kind,
               const Piece& piece, const std::byte* tiles) {
  const MatrixWeight& weight = *call.weight;
  const int64_t rows = live_rows(call.x);
  args.width = rows == 1 ? 1 : kTileRows;
  const TileLayout layout = layout_of(weight, args.width);
  const int64_t row_begin = piece.segment.row_begin + piece.first * kLaneRows;
  args.groups = piece.count;
  args.blocks = piece.segment.blocks;
  args.out_stride = call.out.cols;
  args.out_cols = piece.segment.rows - piece.first * kLaneRows;
  args.bias = call.bias ? call.bias->values.data() + row_begin : nullptr;
  const int correction = static_cast<int>(piece.segment.correction);
  for (int64_t row = 0; row < rows; row += kTileRows) {
    const std::byte* tile = tiles + row / kTileRows * layout.bytes;
    args.x = reinterpret_cast<const int8_t*>(tile + (piece.segment.quantised ? 0 : layout.floats));
    args.x_scales = reinterpret_cast<const float*>(tile + layout.scales);
    args.corrections = tile + layout.corrections[correction];
    args.rows = static_cast<int>(std::min<int64_t>(rows - row, kTileRows));
    args.out = row_of<float>(call.out, row) + row_begin;
    backend.kernels.dot[static_cast<int>(kind)](args);
  }
}

void run_piece(const MatmulCall& call, const Backend& backend, int worker, const Piece& piece,
               const std::byte* tiles) {
  const PackedSegment& segment = piece.segment;
  const uint8_t* group = segment.data + piece.first * segment.group_bytes;
  DotArgs args;
  if (!uses_panels(backend.kernels, segment, live_rows(call.x))) {
    args.scales = group;
    args.quants = group + segment.quants_offset;
    args.group_stride = segment.group_bytes;
    run_tiles(call, backend, args, segment.kind, piece, tiles);
    return;
  }
  const PanelFormat format = panel_format(segment.correction);
  const int64_t stride = panel_bytes(segment);
  auto* panels = reinterpret_cast<uint8_t*>(backend.scratch.own(worker));
  for (int64_t g = 0; g < piece.count; ++g, group += segment.group_bytes) {
    uint8_t* panel = panels + g * stride;
    backend.kernels.unpack[static_cast<int>(segment.kind)](
        group, group + segment.quants_offset, segment.blocks, panel,
        panel + segment.blocks * format.scale_bytes);
  }
  args.scales = panels;
  args.quants = panels + segment.blocks * format.scale_bytes;
  args.group_stride = stride;
  run_tiles(call, backend, args, format.kind, piece, tiles);
}

void plan_scratch(const MatmulCall& call, Scratch& scratch) {
  const int64_t tiles = ceil_div(call.x.rows, kTileRows);
  scratch.want_shared(tiles * tile_bytes(*call.weight));
  scratch.want_own(std::max(own_bytes(*call.weight), layout_of(*call.weight, 1).bytes));
}

}  // namespace

int64_t tile_bytes(const MatrixWeight& weight) {
  return layout_of(weight, kTileRows).bytes;
}

void make_tile(const MatmulCall& call, const Backend& backend, std::byte* tiles, int64_t tile) {
  const int width = live_rows(call.x) == 1 ? 1 : kTileRows;
  fill_tile(call, backend.kernels, tiles + tile * layout_of(*call.weight, width).bytes, tile,
            {0, call.weight->blocks});
}

int64_t group_count(const MatrixWeight& weight) {
  int64_t groups = 0;
  for (const PackedSegment& segment : weight.segments) groups += segment.groups;
  return groups;
}

int64_t chunk_groups(const MatrixWeight& weight, const Backend& backend, int64_t rows) {
  int64_t most = rows > kTileRows ? 8 : 64;
  for (const PackedSegment& segment : weight.segments) {
    if (uses_panels(backend.kernels, segment, rows)) {
      most = std::min(most, kPanelBytesMax / panel_bytes(segment));
    }
  }
  return std::clamp(group_count(weight) / (backend.workers.count() * kChunksPerWorker), int64_t{1},
                    std::max<int64_t>(most, 1));
}

int64_t own_bytes(const MatrixWeight& weight) {
  int64_t bytes = 0;
  for (const PackedSegment& segment : weight.segments) {
    if (segment.quantised) bytes = std::max({bytes, kPanelBytesMax, panel_bytes(segment)});
  }
  return bytes;
}

// The groups are counted through all segments.
void run_groups(const MatmulCall& call, const Backend& backend, int worker, Range groups,
                const std::byte* tiles) {
  int64_t begin = 0;
  for (const PackedSegment& segment : call.weight->segments) {
    const int64_t from = std::max(groups.begin, begin) - begin;
    const int64_t to = std::min(groups.end - begin, segment.groups);
    if (from < to) run_piece(call, backend, worker, {segment, from, to - from}, tiles);
    begin += segment.groups;
  }
}

Phases matmul_phases(const MatmulCall& call, const Backend& backend) {
  plan_scratch(call, backend.scratch);
  const auto cut = [call, &backend] {
    const int64_t rows = live_rows(call.x);
    return Cut{rows == 0 ? 0 : group_count(*call.weight),
               chunk_groups(*call.weight, backend, rows)};
  };
  const auto run = [call, &backend](const Range& groups, int worker) {
    run_groups(call, backend, worker, groups, find_tiles(call, backend, worker));
  };
  return {tile_phase(call, backend), range_phase(cut, run)};
}

}  // namespace chorus::kernels
