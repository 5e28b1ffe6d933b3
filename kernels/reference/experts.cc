#include "kernels/reference/experts.h"

namespace chorus::kernels::reference {
namespace {

int64_t chosen(const ExpertsArgs& args) {
  return args.experts.cols;
}
int64_t pair_count(const ExpertsArgs& args) {
  return live_rows(args.x) * chosen(args);
}
int64_t ffn(const ExpertsArgs& args) {
  return args.down.front()->cols;
}

// out[pair] = W x(pair) for the pairs of every expert, W its weight; this worker's rows of W.
template <class Input>
void multiply(const ExpertsArgs& args, const std::vector<Weight>& weights, std::vector<float>& out,
              Share share, const Input& input) {
  const auto* ids = static_cast<const int32_t*>(args.experts.data);
  std::vector<int64_t> pairs;
  std::vector<float> weight_row;
  for (size_t expert = 0; expert < weights.size(); ++expert) {
    pairs.clear();
    for (int64_t pair = 0; pair < pair_count(args); ++pair) {
      if (ids[pair] == static_cast<int32_t>(expert)) pairs.push_back(pair);
    }
    if (pairs.empty()) continue;
    const MatrixWeight& weight = *matrix(weights[expert]);
    weight_row.resize(static_cast<size_t>(weight.cols));
    const Range rows = share.of(weight.rows);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      weight.read_row(row, weight_row.data());
      for (const int64_t pair : pairs) {
        out[static_cast<size_t>(pair * weight.rows + row)] =
            dot(weight_row.data(), input(pair), weight.cols);
      }
    }
  }
}

}  // namespace

void ExpertsScratch::reserve(const ExpertsArgs& args) {
  const auto grow = [pairs = args.x.rows * chosen(args)](std::vector<float>& floats, int64_t cols) {
    floats.resize(std::max(floats.size(), static_cast<size_t>(pairs * cols)));
  };
  grow(gate_up, 2 * ffn(args));
  grow(gated, ffn(args));
  grow(down, args.out.cols);
}

void experts_gate_up(const ExpertsArgs& args, ExpertsScratch& scratch, Share share) {
  multiply(args, args.gate_up, scratch.gate_up, share,
           [&](int64_t pair) { return row_of<float>(args.x, pair / chosen(args)); });
}

// The products are linear, so an input's weight may as well meet what they put out.
void experts_activation(const ExpertsArgs& args, ExpertsScratch& scratch, Share share) {
  const auto* weights = static_cast<const float*>(args.weights.data);
  const int64_t cols = ffn(args);
  const Range pairs = share.of(pair_count(args));
  for (int64_t pair = pairs.begin; pair < pairs.end; ++pair) {
    const float factor = args.weigh_input ? weights[pair] : 1;
    const float* x = scratch.gate_up.data() + pair * 2 * cols;
    float* out = scratch.gated.data() + pair * cols;
    for (int64_t i = 0; i < cols; ++i) {
      out[i] = activate(factor * x[i], args.gate) * (factor * x[cols + i]);
    }
  }
}

void experts_down(const ExpertsArgs& args, ExpertsScratch& scratch, Share share) {
  multiply(args, args.down, scratch.down, share,
           [&](int64_t pair) { return scratch.gated.data() + pair * ffn(args); });
}

void experts_sum(const ExpertsArgs& args, const ExpertsScratch& scratch, Share share) {
  const auto* weights = static_cast<const float*>(args.weights.data);
  const int64_t cols = args.out.cols;
  const Range rows = share.of(live_rows(args.x));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* out = row_of<float>(args.out, row);
    if (!args.add) std::fill_n(out, cols, 0.0F);
    for (int64_t pair = row * chosen(args); pair < (row + 1) * chosen(args); ++pair) {
      const float factor = args.weigh_input ? 1 : weights[pair];
      const float* part = scratch.down.data() + pair * cols;
      for (int64_t i = 0; i < cols; ++i) out[i] += factor * part[i];
    }
  }
}

}  // namespace chorus::kernels::reference
