// What a model tells the backend about a weight, once, at load. The packed form is the backend's
// own; models never see it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace chorus::kernels {

// How a source row's elements are stored. The quantised ones are GGUF's blocks (kernels/quant.h).
enum class WeightType : uint8_t { f32, f16, bf16, q8_0, q4_1, q5_0, q4_k, q6_k };

// Half-open range of rows, columns, heads or vocabulary entries.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// GGUF's converter permutes the rows of Llama's Q and K so that rope acts on neighbours; Chorus'
// rope acts on the two halves of a head, so those rows are put back when they are packed.
enum class RowOrder : uint8_t { as_stored, rope_pairs_to_halves };

// A slice of one source matrix. Rows: an exact cut. Columns: may fall inside a quantised block;
// the block is then kept whole and the input's missing columns count as zeros.
struct WeightPart {
  const std::byte* data = nullptr;  // the whole source matrix, row-major, rows of whole blocks
  WeightType type = WeightType::f32;
  int64_t source_cols = 0;  // columns of the whole source matrix
  Range rows;               // of the source, after `order` has been applied
  Range cols;               // of the source
  RowOrder order = RowOrder::as_stored;
  int64_t head_dim = 0;  // for rope_pairs_to_halves: rows a head
};

// A matrix W [rows, cols] made of parts stacked by rows (q, k and v; gate and up; or one alone).
struct WeightDescription {
  std::vector<WeightPart> parts;  // all with the same column range
};

// A vector held in f32: norm weights, biases. `add` is added to each element (checkpoints of
// Gemma store the norm's weight minus one).
struct VectorDescription {
  struct Part {
    const std::byte* data = nullptr;
    WeightType type = WeightType::f32;  // f32, f16 or bf16
    Range range;
    RowOrder order = RowOrder::as_stored;
    int64_t head_dim = 0;
  };
  std::vector<Part> parts;
  float add = 0;
};

// Opaque to models; each backend derives its own. Immutable once made.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  int64_t rows = 0;
  int64_t cols = 0;   // of the slice, without block padding
  int64_t bytes = 0;  // in device memory, for load reports and bandwidth figures
};
using Weight = std::shared_ptr<const PackedWeight>;

}  // namespace chorus::kernels
