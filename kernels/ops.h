// The operations that a model is made of. At load, allocate, prepare and make_kv act at once. The
// operations proper are queued into a Program between record() and end_record(); run() executes
// that list for the step whose inputs stand in the fixed buffers. On a CPU the workers are woken
// once per run and meet at barriers; on CUDA the list becomes a graph for steps of at most 256 rows
// and is launched one by one for longer ones. So no operation may depend on a host value that
// changes from step to step: such values (live row counts, positions, block tables, sampling
// parameters) are read from device memory.
//
// Determinism: an output row depends on its own inputs only, with one order of summation, whatever
// the number of rows, of workers, or the path chosen for the instruction set. On CUDA only with
// CudaOptions::deterministic: without, the number of rows chooses among orders.
//
// Thread rules: one thread owns an Ops. Errors while running throw (the shard ends).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/collective.h"
#include "kernels/sampling.h"
#include "kernels/view.h"
#include "kernels/weight.h"

namespace chorus::kernels {

enum class Gate : uint8_t { silu, gelu_tanh };

// What a router makes of its logits: the softmax over all experts, or the sigmoid of each.
enum class RouterScore : uint8_t { softmax, sigmoid };

// Keys and values of one KV group (the layers that share a block table). Opaque: the backend
// chooses type and layout. Blocks hold `block_tokens` positions each.
struct KvShape {
  int layers = 0;
  int kv_heads = 0;  // on this rank
  int head_dim = 0;
  int64_t blocks = 0;
};
class KvStore {
 public:
  virtual ~KvStore() = default;
  KvShape shape;
};

// Tokens of one sequence that stand together in a step: rows [row, row + count) are the positions
// [position, position + count) of the sequence in `slot`.
struct Span {
  int32_t row = 0;
  int32_t count = 0;
  int32_t slot = 0;
  int32_t position = 0;
};

// Rotary embedding over the two halves of a head, or of its first 2 * n elements where there are
// n < head_dim / 2 frequencies: angle(position, i) = position * frequency[i]. `frequencies` come
// ready (scaling such as Llama 3's or linear is the family's).
struct RopeDescription {
  std::vector<float> frequencies;
  float magnitude = 1;  // cos and sin are multiplied by it (YaRN); 1 otherwise
};
class Rope {  // tables for all positions up to the context's length; opaque
 public:
  virtual ~Rope() = default;
};

struct QkvArgs {  // split the projection, norm, rotate, store keys and values
  View qkv;       // f32 [tokens, (q_heads + 2 * kv_heads) * head_dim], changed in place
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  Weight q_norm, k_norm;  // [head_dim] or null: RMS norm per head before the rotation
  float norm_eps = 0;
  const Rope* rope = nullptr;  // null: nothing is rotated
  float q_scale = 1;  // applied to q after the rotation (1 / sqrt(head_dim) or the family's)
  // q is also multiplied by 1 + q_growth * log(1 + floor((position + 1) / q_growth_positions)).
  float q_growth = 0;
  float q_growth_positions = 1;
  View spans;        // i32 [rows, 4]: Span
  View block_table;  // i32 [slots, blocks_max] of this KV group
  KvStore* kv = nullptr;
  int layer = 0;  // within the KV group
};

struct AttentionArgs {  // causal attention over paged keys and values
  View out;             // f32 or operand_type() [tokens, q_heads * head_dim]
  View qkv;             // as left by QkvArgs; q is already scaled
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  std::vector<int> kv_head_of;  // [q_heads]: local KV head of each local query head
  int64_t window = 0;           // 0: all earlier positions; else position p sees (p - window, p]
  int64_t chunk = 0;            // 0, or position p sees [p - p % chunk, p]; not with a window
  float soft_cap = 0;           // 0, or a score s becomes soft_cap * tanh(s / soft_cap)
  View spans;
  View block_table;
  const KvStore* kv = nullptr;
  int layer = 0;
};

struct RouteArgs {  // choose each token's experts
  View logits;      // f32 [tokens, experts]
  View experts;     // i32 [tokens, chosen]: of the largest logits (of equal ones the first), rising
  View weights;     // f32 [tokens, chosen]: their scores
  RouterScore score = RouterScore::softmax;
  bool normalised = false;  // the scores are divided by the sum of the chosen ones
};

// A gated feed-forward layer for each chosen expert:
// out[t] = sum over i, in order, of weights[t][i] * down(gate(gate_up(x[t]))) of experts[t][i].
struct ExpertsArgs {
  View out;                     // f32 [tokens, down's rows]; not `x`
  View x;                       // [tokens, hidden], as matmul reads it
  View experts, weights;        // as route_experts leaves them
  std::vector<Weight> gate_up;  // per expert [2 * ffn, hidden]
  std::vector<Weight> down;     // per expert [hidden, ffn]
  Gate gate = Gate::silu;
  bool weigh_input = false;  // x is multiplied by the weight, not what the expert makes of it
  bool add = false;          // to what stands in `out` (a shared expert's); else it is overwritten
};

struct SampleArgs {        // choose one token per wanted row
  View logits;             // f32 [wanted, vocab slice of this rank]; the same again afterwards
  Range vocab;             // the slice
  int64_t vocab_size = 0;  // of the whole model
  View params;             // u8 [wanted, sizeof(SamplingParams)]
  View results;            // u8 [wanted, sizeof(Sampled)]; the same on every rank
  View last_tokens;        // i32 [slots, 1]: results[r].token is stored at params[r].slot
  // Per slot the list of adjustments, for rows whose params say `adjusted`, the same on every rank.
  // A penalised row's token is counted there: a list must have room for all tokens to come.
  View adjustments = {};        // u8 [slots, room * sizeof(Adjustment)]
  View adjustment_counts = {};  // i32 [slots, 1]: entries of each list
};

class Program {  // a recorded list of operations
 public:
  virtual ~Program() = default;
};

class Ops {
 public:
  virtual ~Ops() = default;
  virtual std::string description() const = 0;  // "cpu avx512-vnni, 2 threads"
  virtual int block_tokens() const = 0;         // KV positions a block
  // What matmul reads fastest: the type to allocate its inputs in. Norms, attention and gates write
  // either this type or f32; all else is f32.
  virtual DType operand_type() const { return DType::f32; }

  // --- at load
  // Zeroed memory that lives as long as this Ops. `live_rows` as in View.
  virtual View allocate(DType type, int64_t rows, int64_t cols,
                        const int32_t* live_rows = nullptr) = 0;
  virtual Weight prepare(const WeightDescription& description) = 0;
  virtual Weight prepare_vector(const VectorDescription& description) = 0;
  // A table to gather rows from (the token embedding): stays in the mapped file where it can.
  virtual Weight prepare_table(const WeightPart& part) = 0;
  virtual std::unique_ptr<Rope> make_rope(const RopeDescription&, int64_t positions_max) = 0;
  virtual int64_t kv_block_bytes(const KvShape& shape) const = 0;  // one block, all layers
  // What a device with memory of its own can still give to keys and values; null where they stand
  // in the host's memory.
  virtual std::optional<int64_t> kv_bytes_max() const { return std::nullopt; }
  virtual std::unique_ptr<KvStore> make_kv(const KvShape& shape) = 0;

  // --- between the host and the fixed buffers; outside run()
  virtual void upload(View to, const void* bytes, int64_t byte_offset, int64_t count_bytes) = 0;
  virtual void download(void* bytes, View from, int64_t byte_offset, int64_t count_bytes) = 0;
  virtual void copy_block(KvStore& kv, int32_t from, int32_t to) = 0;

  // --- recording and running
  virtual void record() = 0;
  virtual std::unique_ptr<Program> end_record() = 0;
  virtual void run(const Program& program) = 0;

  // --- operations; `out` has x's live rows unless said otherwise. Sizes that a backend has no
  // kernel for throw std::invalid_argument, which names them.

  // out[t] = scale * table[id], id = tokens[t], or last_tokens[slots[t]] where tokens[t] < 0.
  virtual void embed(View out, Weight table, View tokens, View slots, View last_tokens,
                     float scale) = 0;
  // out[r] = x[r] / rms(x[r]) * weight; `out` may be `x`.
  virtual void rms_norm(View out, View x, Weight weight, float eps) = 0;
  // residual += x, then out = rms_norm(residual).
  virtual void add_rms_norm(View out, View residual, View x, Weight weight, float eps) = 0;
  // out[r] = W x[r] + bias; bias [W.rows] or null.
  virtual void matmul(View out, View x, Weight weight, Weight bias) = 0;
  // out[r][i] = gate(x[r][i]) * x[r][n + i], n = out.cols; `out` is not `x`. Where a matmul made
  // `gate_up` and is the call before, a backend may join the two and leave `gate_up` unwritten.
  virtual void gated_activation(View out, View gate_up, Gate gate) = 0;
  virtual void split_qkv(const QkvArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void route_experts(const RouteArgs& args) = 0;
  virtual void experts(const ExpertsArgs& args) = 0;
  // x[r][i] = cap * tanh(x[r][i] / cap), in place.
  virtual void soft_cap(View x, float cap) = 0;
  // out[i] = x[index[i]]; out has index's live rows.
  virtual void gather_rows(View out, View x, View index) = 0;
  // Sum over ranks, the same bits on each. Where add_rms_norm of x is the call behind, a backend
  // may join the two and leave in x what it likes.
  virtual void all_reduce(View x) = 0;
  virtual void sample(const SampleArgs& args) = 0;
};

// Instruction sets of the CPU backend; all agree bit for bit.
enum class Isa : uint8_t { scalar, avx2, avx512 };
bool supported(Isa isa);
Isa best_isa();
std::string_view name_of(Isa isa);

struct CpuOptions {
  int threads = 0;  // 0: as many as cores this process may use
  Isa isa = best_isa();
  Collective* collective = nullptr;  // nullptr: a group of one
};
std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options);
// Plain loops in f32 over dequantised weights, f32 keys and values: what the others are held to.
std::unique_ptr<Ops> make_reference_ops(const CpuOptions& options);
struct CudaOptions {
  int device = 0;
  DType operand = DType::bf16;  // what weights that are not quantised and activations become:
                                // bf16, f16 or f32 (exact, slow)
  // Of keys and values: f16, bf16, e4m3 or f32. Unset: f16; f32 where the operand is.
  std::optional<DType> kv = {};
  // One order of sums for all row counts, the same for decode and prefill.
  bool deterministic = false;
  Collective* collective = nullptr;  // nullptr: a group of one
};
// How many devices the CUDA backend can use; where there is none, `why_none` says why. Only where
// the build has it (CHORUS_CUDA), as make_cuda_ops.
int cuda_device_count(std::string& why_none);
// Throws std::runtime_error naming what is missing.
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options);
// The same backend over the emulation of its kernels on a CPU, for tests.
std::unique_ptr<Ops> make_emulated_ops(const CudaOptions& options);
// Checks shapes, types, aliasing and, with `nan_checks`, results; then calls the wrapped one.
std::unique_ptr<Ops> make_checked_ops(std::unique_ptr<Ops> ops, bool nan_checks);

}  // namespace chorus::kernels
