// Tokens are sorted by expert, so that each expert's are rows that stand together, and an expert's
// two products are matmul's with those rows. All experts' work is cut into chunks of the same
// phases: eight phases a layer, whatever the number of experts.
//
//   sort      where each (token, expert) pair stands among the sorted rows
//   gather    x's rows in that order
//   tiles, gate and up, activation, tiles, down
//   sum       a token's rows, in the order of its experts
#include "kernels/cpu/experts.h"

#include <cassert>
#include <cstring>

#include "kernels/cpu/matmul.h"
#include "kernels/rounding.h"

namespace chorus::kernels {
namespace {

constexpr int64_t kGateCols = 1024;  // of a row, at a time

// The sorted rows of one expert that some token has chosen.
struct Active {
  int64_t expert = 0;
  int64_t first = 0, count = 0;  // rows
  int64_t first_tile = 0;
};

struct ExpertsCall {
  ExpertsArgs args;
  std::vector<std::shared_ptr<const MatrixWeight>> gate_up, down;
  int64_t pairs_max = 0, ffn = 0;
  int64_t tile_bytes = 0;  // the widest of all products'

  // Written by the sort.
  std::vector<Active> active;
  std::vector<int64_t> place;  // [pair]: its sorted row
  std::vector<int64_t> pair;   // [sorted row]
  int64_t pairs = 0, tiles = 0, rows_most = 0;
};

// The sorted rows of what the phases hand on.
struct Stage {
  View x, gate_up, gated, down;
};

Stage stage_of(const ExpertsCall& call, const Backend& backend) {
  auto* at = reinterpret_cast<float*>(backend.scratch.stage());
  const auto next = [&](int64_t cols) {
    const View view{at, DType::f32, call.pairs_max, cols};
    at += call.pairs_max * cols;
    return view;
  };
  Stage stage;
  stage.x = next(call.args.x.cols);
  stage.gate_up = next(2 * call.ffn);
  stage.gated = next(call.ffn);
  stage.down = next(call.args.out.cols);
  return stage;
}

void sort_pairs(ExpertsCall& call) {
  const auto* ids = static_cast<const int32_t*>(call.args.experts.data);
  call.pairs = live_rows(call.args.x) * call.args.experts.cols;
  std::vector<int64_t> counts(call.gate_up.size());
  for (int64_t pair = 0; pair < call.pairs; ++pair) {
    assert(ids[pair] >= 0 && ids[pair] < static_cast<int64_t>(counts.size()));
    ++counts[static_cast<size_t>(ids[pair])];
  }
  call.active.clear();
  call.tiles = call.rows_most = 0;
  int64_t row = 0;
  for (size_t expert = 0; expert < counts.size(); ++expert) {
    const int64_t count = counts[expert];
    counts[expert] = row;  // from here on: where its next pair goes
    if (count == 0) continue;
    call.active.push_back({static_cast<int64_t>(expert), row, count, call.tiles});
    row += count;
    call.tiles += ceil_div(count, kTileRows);
    call.rows_most = std::max(call.rows_most, count);
  }
  for (int64_t pair = 0; pair < call.pairs; ++pair) {
    const int64_t to = counts[static_cast<size_t>(ids[pair])]++;
    call.place[static_cast<size_t>(pair)] = to;
    call.pair[static_cast<size_t>(to)] = pair;
  }
}

// One expert's product as matmul knows it.
MatmulCall product(const Active& active, const View& out, const View& x,
                   const std::vector<std::shared_ptr<const MatrixWeight>>& weights) {
  const auto rows = [&](const View& view) {
    return View{row_of<float>(view, active.first), DType::f32, active.count, view.cols};
  };
  return {rows(out), rows(x), weights[static_cast<size_t>(active.expert)], nullptr};
}

using Call = std::shared_ptr<ExpertsCall>;
using Weights = std::vector<std::shared_ptr<const MatrixWeight>> ExpertsCall::*;
using Rows = View Stage::*;

std::byte* tiles_of(const ExpertsCall& call, const Backend& backend, const Active& active) {
  return backend.scratch.shared() + active.first_tile * call.tile_bytes;
}

Phase tile_phase(const Call& call, Rows x, Weights weights, const Backend& backend) {
  const auto cut = [call] { return Cut{call->tiles, 1}; };
  return cut_phase(cut, [=, &backend](int64_t tile, int) {
    size_t i = call->active.size() - 1;
    while (call->active[i].first_tile > tile) --i;
    const Active& active = call->active[i];
    const View rows = stage_of(*call, backend).*x;
    make_tile(product(active, rows, rows, (*call).*weights), backend,
              tiles_of(*call, backend, active), tile - active.first_tile);
  });
}

// Every expert's groups in pieces of one size.
Phase product_phase(const Call& call, Rows out, Rows x, Weights weights, const Backend& backend) {
  const int64_t groups = group_count(*((*call).*weights).front());
  const auto size = [=, &backend] {
    return chunk_groups(*((*call).*weights).front(), backend, call->rows_most);
  };
  const auto cut = [=] {
    const auto experts = static_cast<int64_t>(call->active.size());
    return Cut{experts * ceil_div(groups, size()), 1};
  };
  return cut_phase(cut, [=, &backend](int64_t i, int worker) {
    const int64_t step = size(), pieces = ceil_div(groups, step);
    const Active& active = call->active[static_cast<size_t>(i / pieces)];
    const Stage stage = stage_of(*call, backend);
    const int64_t first = i % pieces * step;
    run_groups(product(active, stage.*out, stage.*x, (*call).*weights), backend, worker,
               {first, std::min(first + step, groups)}, tiles_of(*call, backend, active));
  });
}

// The products are linear, so an input's weight may as well meet what they put out.
Phase activation_phase(const Call& call, const Backend& backend) {
  const auto loop =
      call->args.gate == Gate::silu ? backend.kernels.silu_gate : backend.kernels.gelu_gate;
  const int64_t pieces = ceil_div(call->ffn, kGateCols);
  const auto cut = [=] { return Cut{call->pairs * pieces, 1}; };
  return cut_phase(cut, [=, &backend](int64_t i, int) {
    const Stage stage = stage_of(*call, backend);
    const int64_t row = i / pieces, begin = i % pieces * kGateCols;
    const int64_t cols = std::min(kGateCols, call->ffn - begin);
    float* gate = row_of<float>(stage.gate_up, row) + begin;
    float* up = gate + call->ffn;
    if (call->args.weigh_input) {
      const auto* weights = static_cast<const float*>(call->args.weights.data);
      const float weight = weights[call->pair[static_cast<size_t>(row)]];
      backend.kernels.scale(gate, gate, weight, cols);
      backend.kernels.scale(up, up, weight, cols);
    }
    loop(row_of<float>(stage.gated, row) + begin, gate, up, cols);
  });
}

void sum_row(const ExpertsCall& call, const Backend& backend, int64_t token) {
  const ExpertsArgs& args = call.args;
  const Stage stage = stage_of(call, backend);
  float* out = row_of<float>(args.out, token);
  if (!args.add) std::memset(out, 0, static_cast<size_t>(args.out.cols) * sizeof(float));
  const int64_t chosen = args.experts.cols;
  for (int64_t pair = token * chosen; pair < (token + 1) * chosen; ++pair) {
    float* part = row_of<float>(stage.down, call.place[static_cast<size_t>(pair)]);
    if (!args.weigh_input) {
      const float weight = static_cast<const float*>(args.weights.data)[pair];
      backend.kernels.scale(part, part, weight, args.out.cols);
    }
    backend.kernels.add(out, part, args.out.cols);
  }
}

Call make_call(const ExpertsArgs& args, const Backend& backend) {
  auto call = std::make_shared<ExpertsCall>();
  call->args = args;
  const auto unpack = [](const std::vector<Weight>& weights, auto& to) {
    for (const Weight& weight : weights) {
      to.push_back(std::dynamic_pointer_cast<const MatrixWeight>(weight));
      assert(to.back() != nullptr && group_count(*to.back()) == group_count(*to.front()));
    }
  };
  unpack(args.gate_up, call->gate_up);
  unpack(args.down, call->down);
  call->pairs_max = args.x.rows * args.experts.cols;
  call->ffn = args.down.front()->cols;
  call->place.resize(static_cast<size_t>(call->pairs_max));
  call->pair.resize(static_cast<size_t>(call->pairs_max));
  for (const auto* weights : {&call->gate_up, &call->down}) {
    for (const auto& weight : *weights) {
      call->tile_bytes = std::max(call->tile_bytes, tile_bytes(*weight));
      backend.scratch.want_own(own_bytes(*weight));
    }
  }
  // Each expert's rows begin a tile of their own.
  const auto experts = static_cast<int64_t>(args.gate_up.size());
  const int64_t tiles_max = call->pairs_max / kTileRows + std::min(experts, call->pairs_max);
  backend.scratch.want_shared(tiles_max * call->tile_bytes);
  backend.scratch.want_stage(call->pairs_max * (args.x.cols + 3 * call->ffn + args.out.cols) *
                             static_cast<int64_t>(sizeof(float)));
  return call;
}

}  // namespace

Phases experts_phases(const ExpertsArgs& args, const Backend& backend) {
  const Call call = make_call(args, backend);
  const auto one = [] { return Cut{1, 1}; };
  const auto pairs = [call] { return Cut{call->pairs, 1}; };
  const auto tokens = [x = args.x] { return Cut{live_rows(x), 1}; };
  return {
      cut_phase(one, [call](int64_t, int) { sort_pairs(*call); }),
      cut_phase(pairs,
                [call, &backend](int64_t row, int) {
                  const int64_t pair = call->pair[static_cast<size_t>(row)];
                  const View& x = call->args.x;
                  std::memcpy(row_of<float>(stage_of(*call, backend).x, row),
                              row_of<float>(x, pair / call->args.experts.cols),
                              static_cast<size_t>(x.cols) * sizeof(float));
                }),
      tile_phase(call, &Stage::x, &ExpertsCall::gate_up, backend),
      product_phase(call, &Stage::gate_up, &Stage::x, &ExpertsCall::gate_up, backend),
      activation_phase(call, backend),
      tile_phase(call, &Stage::gated, &ExpertsCall::down, backend),
      product_phase(call, &Stage::down, &Stage::gated, &ExpertsCall::down, backend),
      cut_phase(tokens, [call, &backend](int64_t token, int) { sum_row(*call, backend, token); }),
  };
}

}  // namespace chorus::kernels
