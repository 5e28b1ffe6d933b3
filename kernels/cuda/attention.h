// Causal attention over paged keys and values; contract: AttentionArgs in kernels/ops.h.
//
// A step runs attention_plan once per KV group, before its layers: it lists the step's work in
// device memory, because the host does not know lengths when the launches are captured. Then
// attention() runs once per layer, with the same workspace.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

namespace chorus::kernels::cuda {

// What a workspace is made for: rows of `qkv` and of `spans`, and how many partial results (of one
// query row and head over kSpanTokens keys) may wait to be merged. Where these do not suffice, long
// sequences are walked by one block each: slower where few sequences run, the same bits.
struct AttentionRoom {
  int64_t tokens_max = 0;
  int64_t spans_max = 0;
  int64_t partials_max = 1 << 16;
};

struct AttentionContext {
  void* workspace = nullptr;  // zeroed before its first use; one per KV group
  AttentionRoom room;
  int capability = 0;  // of the device: 90 for 9.0
  int multiprocessors = 0;
  bool deterministic = false;  // decode and prefill give a position the same bits
};

// For recorded views: all rows, and partial results for all of them where these are few.
AttentionRoom attention_room(const AttentionArgs& args);
// Throws std::invalid_argument for shapes there is no kernel for: head_dim is a multiple of 8 up to
// 256 (of 16 where keys and values are fp8), kv_head_of does not fall, there are at most 128 KV
// heads.
int64_t attention_workspace_bytes(const AttentionArgs& args, const AttentionRoom& room);

// Reads args.spans; of the other fields it needs those that do not differ between the layers of a
// group. args.out.rows is the bucket of token rows, args.spans.rows that of spans: the same values
// in the calls of attention() that follow.
void attention_plan(const AttentionArgs& args, const AttentionContext& context,
                    cudaStream_t stream);

// For arguments that attention_workspace_bytes took.
void attention(const AttentionArgs& args, const AttentionContext& context, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
