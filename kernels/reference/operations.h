// The reference backend's operations that go row by row, as plain functions: `share.worker` of
// `share.workers` computes its part of the output. Every sum runs in f32, in one order.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/reference/team.h"
#include "kernels/reference/weights.h"

namespace chorus::kernels::reference {

struct Share {
  int worker = 0;
  int workers = 1;
  Range of(int64_t count) const { return share(count, worker, workers); }
};

inline int64_t live_rows(const View& view) {
  if (view.live_rows == nullptr) return view.rows;
  assert(*view.live_rows >= 0 && *view.live_rows <= view.rows);
  return *view.live_rows;
}

template <class T>
T* row_of(const View& view, int64_t row) {
  assert(row >= 0 && row < view.rows && bytes_of(view.type) == sizeof(T));
  return static_cast<T*>(view.data) + row * view.cols;
}

// Sum of a[i] * b[i] in sixteen partial sums, which a compiler can keep in vector registers, then
// in a tree.
float dot(const float* a, const float* b, int64_t count);

// out[i] = x[i] / rms(x) * weight[i]; `out` may be `x`.
void normalize(float* out, const float* x, const VectorWeight& weight, int64_t count, float eps);

inline float capped(float x, float cap) {
  return cap * std::tanh(x / cap);
}

// gate(x) of a gated feed-forward layer.
float activate(float x, Gate gate);

struct EmbedCall {
  View out;
  Weight table;
  View tokens, slots, last_tokens;
  float scale = 1;
};
void embed(const EmbedCall& call, Share share);

struct NormCall {
  View out;
  View residual;  // without data: the norm of x alone
  View x;
  Weight weight;
  float eps = 0;
};
void norm(const NormCall& call, Share share);

struct MatmulCall {
  View out, x;
  Weight weight, bias;
};
void matmul(const MatmulCall& call, Share share);

void gated_activation(const View& out, const View& gate_up, Gate gate, Share share);
void soft_cap(const View& x, float cap, Share share);
void gather_rows(const View& out, const View& x, const View& index, Share share);

}  // namespace chorus::kernels::reference
