#include "kernels/cpu/rows.h"

#include <cassert>
#include <cstring>

#include "kernels/quant.h"
#include "kernels/rounding.h"
#include "kernels/route.h"

namespace chorus::kernels {
namespace {

// Rows in chunks: of one where there are few, so that every worker has some.
Cut cut_rows(const View& view, const Backend& backend) {
  const int64_t rows = live_rows(view);
  return {rows, std::clamp<int64_t>(rows / (backend.workers.count() * int64_t{4}), 1, 16)};
}

constexpr int64_t kGateCols = 1024;  // of a row, at a time

void embed_row(const EmbedCall& call, const Backend& backend, int64_t row) {
  const WeightPart& part = call.table->part;
  int32_t token = row_of<int32_t>(call.tokens, row)[0];
  if (token < 0) {
    token = row_of<int32_t>(call.last_tokens, row_of<int32_t>(call.slots, row)[0])[0];
  }
  assert(token >= 0 && token < part.rows.size());
  float* out = row_of<float>(call.out, row);
  dequantize_row(part, part.rows.begin + token, part.cols, out);
  if (call.scale != 1) backend.kernels.scale(out, out, call.scale, call.out.cols);
}

}  // namespace

Phase embed_phase(const EmbedCall& call, const Backend& backend) {
  return cut_phase([&backend, out = call.out] { return cut_rows(out, backend); },
                   [&backend, call](int64_t row, int) { embed_row(call, backend, row); });
}

Phase norm_phase(const NormCall& call, const Backend& backend) {
  const auto norm_row = [&backend, call](int64_t row, int) {
    const float* x = row_of<float>(call.x, row);
    if (call.residual.data != nullptr) {
      float* residual = row_of<float>(call.residual, row);
      backend.kernels.add(residual, x, call.x.cols);
      x = residual;
    }
    backend.kernels.rms_norm(row_of<float>(call.out, row), x, call.weight->values.data(),
                             call.x.cols, call.eps);
  };
  return cut_phase([&backend, x = call.x] { return cut_rows(x, backend); }, norm_row);
}

Phase gate_phase(const View& out, const View& gate_up, Gate gate, const Backend& backend) {
  const auto loop = gate == Gate::silu ? backend.kernels.silu_gate : backend.kernels.gelu_gate;
  const int64_t pieces = ceil_div(out.cols, kGateCols);
  const auto cut = [&backend, gate_up, pieces] {
    const Cut rows = cut_rows(gate_up, backend);
    return Cut{rows.count * pieces, rows.size};
  };
  return cut_phase(cut, [=](int64_t i, int) {
    const int64_t begin = i % pieces * kGateCols;
    const float* x = row_of<float>(gate_up, i / pieces) + begin;
    loop(row_of<float>(out, i / pieces) + begin, x, x + out.cols,
         std::min(kGateCols, out.cols - begin));
  });
}

Phase soft_cap_phase(const View& x, float cap, const Backend& backend) {
  const int64_t pieces = ceil_div(x.cols, kGateCols);
  const auto cut = [&backend, x, pieces] {
    const Cut rows = cut_rows(x, backend);
    return Cut{rows.count * pieces, rows.size};
  };
  return cut_phase(cut, [=, &backend](int64_t i, int) {
    const int64_t begin = i % pieces * kGateCols;
    backend.kernels.soft_cap(row_of<float>(x, i / pieces) + begin, cap,
                             std::min(kGateCols, x.cols - begin));
  });
}

Phase route_phase(const RouteArgs& args, const Backend& backend) {
  return cut_phase([&backend, logits = args.logits] { return cut_rows(logits, backend); },
                   [args](int64_t row, int) { route_row(args, row); });
}

Phase gather_phase(const View& out, const View& x, const View& index, const Backend& backend) {
  const int64_t bytes = x.cols * bytes_of(x.type);
  return cut_phase([&backend, index] { return cut_rows(index, backend); },
                   [=](int64_t row, int) {
                     const int32_t from = row_of<int32_t>(index, row)[0];
                     assert(from >= 0 && from < x.rows);
                     std::memcpy(static_cast<std::byte*>(out.data) + row * bytes,
                                 static_cast<const std::byte*>(x.data) + from * bytes, bytes);
                   });
}

}  // namespace chorus::kernels
