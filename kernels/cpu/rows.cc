#include "kernels/cpu/rows.h"

#include <cassert>
#include <cstring>

#include "kernels/quant.h"

namespace chorus::kernels {
namespace {

// Rows taken at a time: one where there are few, so that every worker has some.
int64_t chunk_rows(int64_t rows, const Backend& backend) {
  return std::clamp<int64_t>(rows / (backend.workers.count() * int64_t{4}), 1, 16);
}

}  // namespace

void run_embed(const EmbedCall& call, const Backend& backend) {
  const WeightPart& part = call.table->part;
  const int64_t stride = row_bytes(part.type, part.source_cols);
  const int64_t rows = live_rows(call.out);
  share(backend.workers, rows, chunk_rows(rows, backend), [&](int64_t row) {
    int32_t token = row_of<int32_t>(call.tokens, row)[0];
    if (token < 0) {
      token = row_of<int32_t>(call.last_tokens, row_of<int32_t>(call.slots, row)[0])[0];
    }
    assert(token >= 0 && token < part.rows.size());
    const int64_t stored = stored_row(part.rows.begin + token, part.order, part.head_dim);
    float* out = row_of<float>(call.out, row);
    dequantize_row(part.type, part.data + stored * stride, part.cols.begin, part.cols.end, out);
    if (call.scale != 1) backend.kernels.scale(out, out, call.scale, call.out.cols);
  });
}

void run_norm(const NormCall& call, const Backend& backend) {
  const int64_t rows = live_rows(call.x);
  const float* weight = call.weight->values.data();
  share(backend.workers, rows, chunk_rows(rows, backend), [&](int64_t row) {
    const float* x = row_of<float>(call.x, row);
    if (call.residual.data != nullptr) {
      float* residual = row_of<float>(call.residual, row);
      backend.kernels.add(residual, x, call.x.cols);
      x = residual;
    }
    backend.kernels.rms_norm(row_of<float>(call.out, row), x, weight, call.x.cols, call.eps);
  });
}

void run_gate(const View& out, const View& gate_up, Gate gate, const Backend& backend) {
  const int64_t rows = live_rows(gate_up);
  const auto loop = gate == Gate::silu ? backend.kernels.silu_gate : backend.kernels.gelu_gate;
  // Columns are cut as well: a single row is worth the second worker.
  const int64_t pieces = rows >= 4 * backend.workers.count() ? 1 : (out.cols + 1023) / 1024;
  share(backend.workers, rows * pieces, 1, [&](int64_t i) {
    const int64_t row = i / pieces;
    const int64_t begin = i % pieces * (out.cols / pieces / 16 * 16);
    const int64_t next = begin + out.cols / pieces / 16 * 16;
    const int64_t end = i % pieces + 1 == pieces ? out.cols : next;
    const float* x = row_of<float>(gate_up, row) + begin;
    loop(row_of<float>(out, row) + begin, x, x + out.cols, end - begin);
  });
}

void run_gather(const View& out, const View& x, const View& index, const Backend& backend) {
  const int64_t rows = live_rows(index);
  const int64_t bytes = x.cols * bytes_of(x.type);
  share(backend.workers, rows, chunk_rows(rows, backend), [&](int64_t row) {
    const int32_t from = row_of<int32_t>(index, row)[0];
    assert(from >= 0 && from < x.rows);
    std::memcpy(static_cast<std::byte*>(out.data) + row * bytes,
                static_cast<const std::byte*>(x.data) + from * bytes, bytes);
  });
}

}  // namespace chorus::kernels
