#include "kernels/reference/operations.h"

#include <cmath>
#include <cstring>
#include <vector>

namespace chorus::kernels::reference {
namespace {

constexpr int kPartialSums = 16;
constexpr int64_t kTileRows = 8;  // weight rows that are held as floats while all inputs pass by

}  // namespace

float dot(const float* a, const float* b, int64_t count) {
  float sums[kPartialSums] = {};
  const int64_t whole = count / kPartialSums * kPartialSums;
  for (int64_t i = 0; i < whole; i += kPartialSums) {
    for (int j = 0; j < kPartialSums; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (int64_t i = whole; i < count; ++i) sums[i - whole] += a[i] * b[i];
  for (int width = kPartialSums / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) sums[j] += sums[j + width];
  }
  return sums[0];
}

void normalize(float* out, const float* x, const VectorWeight& weight, int64_t count, float eps) {
  assert(weight.rows == count);
  const float mean_square = dot(x, x, count) / static_cast<float>(count);
  const float factor = 1 / std::sqrt(mean_square + eps);
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * factor * weight.values[i];
}

float activate(float x, Gate gate) {
  switch (gate) {
    case Gate::silu:
      return x / (1 + std::exp(-x));
    case Gate::gelu_tanh: {
      constexpr float kSqrtTwoOverPi = 0.7978845608F;
      return 0.5F * x * (1 + std::tanh(kSqrtTwoOverPi * (x + 0.044715F * x * x * x)));
    }
  }
  assert(false);
  return 0;
}

void embed(const EmbedCall& call, Share share) {
  const Range rows = share.of(live_rows(call.out));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    int32_t token = *row_of<int32_t>(call.tokens, row);
    if (token < 0) token = *row_of<int32_t>(call.last_tokens, *row_of<int32_t>(call.slots, row));
    float* out = row_of<float>(call.out, row);
    matrix(call.table)->read_row(token, out);
    for (int64_t i = 0; i < call.out.cols; ++i) out[i] *= call.scale;
  }
}

void norm(const NormCall& call, Share share) {
  const VectorWeight& weight = *vector(call.weight);
  const Range rows = share.of(live_rows(call.x));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* x = row_of<float>(call.x, row);
    if (call.residual.data != nullptr) {
      float* residual = row_of<float>(call.residual, row);
      for (int64_t i = 0; i < call.x.cols; ++i) residual[i] += x[i];
      x = residual;
    }
    normalize(row_of<float>(call.out, row), x, weight, call.x.cols, call.eps);
  }
}

void matmul(const MatmulCall& call, Share share) {
  const MatrixWeight& weight = *matrix(call.weight);
  const VectorWeight* bias = vector(call.bias);
  const int64_t inputs = live_rows(call.x);
  if (inputs == 0) return;
  const Range outputs = share.of(weight.rows);
  std::vector<float> tile(static_cast<size_t>(kTileRows * weight.cols));
  for (int64_t begin = outputs.begin; begin < outputs.end; begin += kTileRows) {
    const int64_t end = std::min(begin + kTileRows, outputs.end);
    for (int64_t row = begin; row < end; ++row) {
      weight.read_row(row, tile.data() + (row - begin) * weight.cols);
    }
    for (int64_t input = 0; input < inputs; ++input) {
      const float* x = row_of<float>(call.x, input);
      float* out = row_of<float>(call.out, input);
      for (int64_t row = begin; row < end; ++row) {
        out[row] = dot(tile.data() + (row - begin) * weight.cols, x, weight.cols);
        if (bias != nullptr) out[row] += bias->values[row];
      }
    }
  }
}

void gated_activation(const View& out, const View& gate_up, Gate gate, Share share) {
  const Range rows = share.of(live_rows(gate_up));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* x = row_of<float>(gate_up, row);
    float* y = row_of<float>(out, row);
    for (int64_t i = 0; i < out.cols; ++i) y[i] = activate(x[i], gate) * x[out.cols + i];
  }
}

void soft_cap(const View& x, float cap, Share share) {
  const Range rows = share.of(live_rows(x));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* values = row_of<float>(x, row);
    for (int64_t i = 0; i < x.cols; ++i) values[i] = capped(values[i], cap);
  }
}

void gather_rows(const View& out, const View& x, const View& index, Share share) {
  const int64_t bytes = x.cols * bytes_of(x.type);
  const Range rows = share.of(live_rows(index));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int32_t from = *row_of<int32_t>(index, row);
    assert(from >= 0 && from < x.rows);
    std::memcpy(static_cast<std::byte*>(out.data) + row * bytes,
                static_cast<const std::byte*>(x.data) + from * bytes, static_cast<size_t>(bytes));
  }
}

}  // namespace chorus::kernels::reference
