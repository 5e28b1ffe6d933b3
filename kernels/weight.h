// What a model tells the backend about a weight, once, at load. The packed form is the backend's
// own; models never see it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace chorus::kernels {

// How a source's elements are stored: plain; GGUF's blocks; or codes with scales beside them, as
// Hugging Face's quantised checkpoints have them (kernels/quant.h describes both kinds).
enum class WeightType : uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
  f8_e4m3,
  i8,
  u8,
  i4_gptq,
  i4_awq,
  i4_packed,
};

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

// What stands beside a matrix of codes: element (r, c) is scale(r, c) * code, of the 4-bit ones
// scale(r, c) * (code - zero(r, c)), with one scale and one zero for group_rows x group_cols
// elements. Sizes and strides count elements of the arrays.
struct WeightScales {
  const std::byte* scales = nullptr;
  WeightType type = WeightType::f32;  // of the scales: f32, f16 or bf16
  int64_t group_rows = 1, group_cols = 1;
  int64_t row_stride = 0, col_stride = 0;   // from one group to the next; 0: one for all
  const std::byte* zeros = nullptr;         // packed as the type's codes are; null: 8 everywhere
  int zero_add = 0;                         // GPTQ stores a zero minus one
  const std::byte* group_of_col = nullptr;  // i32 [source_cols]; null: column / group_cols
};

// A slice of one source matrix. Rows: an exact cut. Columns: may fall inside a quantised block;
// the block is then kept whole and the input's missing columns count as zeros.
struct WeightPart {
  const std::byte* data = nullptr;  // the whole source matrix; plain and blocks: row-major, rows
                                    // of whole blocks
  WeightType type = WeightType::f32;
  int64_t source_cols = 0;  // columns of the whole source matrix
  Range rows;               // of the source, after `order` has been applied
  Range cols;               // of the source
  RowOrder order = RowOrder::as_stored;
  int64_t head_dim = 0;     // for rope_pairs_to_halves: rows a head
  int64_t source_rows = 0;  // of the whole source matrix; the 4-bit types need it
  WeightScales scales = {};
  // Keeps `data` where it is no part of the mapped file; null there.
  std::shared_ptr<const std::byte[]> owner = nullptr;
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
