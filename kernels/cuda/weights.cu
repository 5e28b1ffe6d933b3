#include "kernels/cuda/weights.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>
#include <thread>

#include "kernels/cuda/repack.h"
#include "kernels/half.h"
#include "kernels/quant.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int64_t kPiecesOfAThread = 16;
constexpr int64_t kBytesOfAPiece = 64 << 10;

// task(begin, end) over [0, count) in pieces, on as many threads as help.
void in_parallel(int64_t count, const std::function<void(int64_t, int64_t)>& task) {
  const auto cores = static_cast<int64_t>(std::max(1U, std::thread::hardware_concurrency()));
  const int64_t threads =
      std::clamp<int64_t>(count / kPiecesOfAThread, 1, std::min<int64_t>(cores, 8));
  std::vector<std::thread> others;
  for (int64_t t = 1; t < threads; ++t) {
    others.emplace_back([&, t] { task(count * t / threads, count * (t + 1) / threads); });
  }
  task(0, count / threads);
  for (std::thread& other : others) other.join();
}

// All that a slice needs of the source, into `host`. A piece is a share of every set of runs.
void copy_slice(const RepackSlice& slice, std::byte* host) {
  const int64_t pieces = std::max<int64_t>(1, slice.bytes / kBytesOfAPiece);
  in_parallel(pieces, [&](int64_t begin, int64_t end) {
    for (const Runs* runs :
         {&slice.codes, &slice.scales, &slice.zeros, &slice.groups, &slice.columns}) {
      for (int64_t i = runs->count * begin / pieces; i < runs->count * end / pieces; ++i) {
        std::memcpy(host + runs->at + i * runs->staged_pitch, runs->from + i * runs->pitch,
                    static_cast<size_t>(runs->bytes));
      }
    }
  });
}

bool copied_as_it_is(WeightType type, DType operand) {
  return (type == WeightType::f32 && operand == DType::f32) ||
         (type == WeightType::f16 && operand == DType::f16) ||
         (type == WeightType::bf16 && operand == DType::bf16);
}

// One row of the slice in the operand's type.
void read_row(const WeightPart& part, int64_t row, DType operand, std::byte* out,
              std::vector<float>& scratch) {
  const int64_t cols = part.cols.size();
  if (copied_as_it_is(part.type, operand)) {
    const int64_t size = bytes_of(operand);
    const std::byte* source =
        part.data + stored_row(part.rows.begin + row, part.order, part.head_dim) *
                        row_bytes(part.type, part.source_cols);
    std::memcpy(out, source + part.cols.begin * size, static_cast<size_t>(cols * size));
    return;
  }
  scratch.resize(static_cast<size_t>(cols));
  dequantize_row(part, part.rows.begin + row, part.cols, scratch.data());
  if (operand == DType::f32) {
    std::memcpy(out, scratch.data(), static_cast<size_t>(cols) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < cols; ++i) {
    const float value = scratch[static_cast<size_t>(i)];
    const uint16_t bits = operand == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
    std::memcpy(out + i * 2, &bits, 2);
  }
}

}  // namespace

WeightLoader::WeightLoader(DType operand, cudaStream_t stream, int64_t buffer_bytes)
    : operand_(operand), stream_(stream), buffer_bytes_(buffer_bytes) {}
WeightLoader::~WeightLoader() = default;

WeightLoader::Buffer& WeightLoader::next_buffer() {
  Buffer& buffer = buffers_[current_];
  current_ = (current_ + 1) % buffers_.size();
  if (!buffer.host) buffer.host = allocate_host(buffer_bytes_);
  if (buffer.used) buffer.sent.wait();
  buffer.used = true;
  return buffer;
}

void WeightLoader::send(Buffer& buffer, void* to, int64_t bytes) {
  assert(bytes <= buffer_bytes_);
  copy_to_device(to, buffer.host.get(), bytes, stream_);
  buffer.sent.record(stream_);
}

void WeightLoader::finish() {
  wait_for(stream_);
  for (Buffer& buffer : buffers_) {
    buffer.host = {};
    buffer.used = false;
  }
  staged_ = {};
  staged_bytes_ = 0;
}

Weight WeightLoader::matrix(const std::vector<WeightPart>& parts) {
  const WeightPart& first = parts.front();
  const auto key = std::tuple(first.data, first.rows.begin, first.rows.end, first.cols.begin);
  // Memory that was made for one weight may be the next one's later.
  const bool lasting = parts.size() == 1 && first.owner == nullptr;
  if (lasting) {
    const auto found = known_.find(key);
    if (found != known_.end()) {
      if (auto weight = found->second.lock(); weight && weight->cols == first.cols.size()) {
        return weight;
      }
    }
  }
  auto weight = std::make_shared<DeviceWeight>();
  weight->format = format_of(operand_);
  weight->cols = first.cols.size();
  for (const WeightPart& part : parts) weight->rows += part.rows.size();
  const int64_t element = bytes_of(operand_);
  const int64_t row_size = (weight->cols * element + 15) / 16 * 16;
  weight->stride = row_size / element;
  weight->bytes = weight->rows * row_size;
  memory_.push_back(allocate(weight->bytes));
  weight->data = memory_.back().get();

  const int64_t chunk = std::max<int64_t>(1, buffer_bytes_ / row_size);
  assert(row_size <= buffer_bytes_);
  int64_t done = 0;
  for (const WeightPart& part : parts) {
    for (int64_t begin = 0; begin < part.rows.size(); begin += chunk) {
      const int64_t rows = std::min(chunk, part.rows.size() - begin);
      Buffer& buffer = next_buffer();
      auto* host = static_cast<std::byte*>(buffer.host.get());
      in_parallel(rows, [&](int64_t from, int64_t to) {
        std::vector<float> scratch;
        for (int64_t row = from; row < to; ++row) {
          std::byte* out = host + row * row_size;
          read_row(part, begin + row, operand_, out, scratch);
          const int64_t used = weight->cols * element;
          std::memset(out + used, 0, static_cast<size_t>(row_size - used));
        }
      });
      send(buffer, static_cast<std::byte*>(weight->data) + done * row_size, rows * row_size);
      done += rows;
    }
  }
  if (lasting) known_[key] = weight;
  return weight;
}

Weight WeightLoader::product_matrix(const std::vector<WeightPart>& parts) {
  const WeightDescription description{.parts = parts};
  if (!has_codings(description)) return matrix(parts);
  const RepackPlan plan = plan_repack(description);
  auto weight = std::make_shared<DeviceWeight>();
  weight->format = WeightFormat::quantised;
  weight->rows = plan.rows;
  weight->cols = plan.cols;
  weight->bytes = plan.bytes;
  memory_.push_back(allocate(weight->bytes));
  weight->data = memory_.back().get();
  for (const PartPlan& part : plan.parts) {
    weight->segments.push_back(placed_at(part, weight->data));
    send_part(part, weight->data);
  }
  return weight;
}

void WeightLoader::send_part(const PartPlan& plan, void* weight) {
  for (int64_t tile = 0; tile < plan.segment.row_tiles;) {
    const RepackSlice slice = slice_from(plan, tile, buffer_bytes_);
    if (slice.bytes > staged_bytes_) {
      wait_for(stream_);
      staged_ = {};
      staged_ = allocate(slice.bytes);
      staged_bytes_ = slice.bytes;
    }
    Buffer& buffer = next_buffer();
    auto* host = static_cast<std::byte*>(buffer.host.get());
    copy_slice(slice, host);
    if (slice.columns.count > 0) {
      copy_to_device(static_cast<std::byte*>(weight) + plan.at.columns, host + slice.columns.at,
                     slice.columns.bytes, stream_);
    }
    send(buffer, staged_.get(), slice.bytes);
    repack(plan, slice, staged_.get(), weight, stream_);
    tile += slice.tiles;
  }
}

Weight WeightLoader::vector(const VectorDescription& description) {
  auto weight = std::make_shared<DeviceVector>();
  for (const auto& part : description.parts) weight->rows += part.range.size();
  weight->cols = 1;
  weight->bytes = weight->rows * int64_t{sizeof(float)};
  assert(weight->bytes <= buffer_bytes_);
  Buffer& buffer = next_buffer();
  auto* value = static_cast<float*>(buffer.host.get());
  for (const auto& part : description.parts) {
    const int64_t element = row_bytes(part.type, 1);
    for (int64_t i = part.range.begin; i < part.range.end; ++i, ++value) {
      dequantize_row(part.type, part.data + stored_row(i, part.order, part.head_dim) * element, 0,
                     1, value);
      *value += description.add;
    }
  }
  // Kernels read whole 16-byte pieces.
  memory_.push_back(allocate((weight->bytes + 15) / 16 * 16));
  send(buffer, memory_.back().get(), weight->bytes);
  weight->data = static_cast<const float*>(memory_.back().get());
  return weight;
}

}  // namespace chorus::kernels::cuda
