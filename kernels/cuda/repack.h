// Quantised weights from a checkpoint's layout into the planes of quantised_layout.h. Host code
// without CUDA: the backend copies the bytes to the device.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/device_weight.h"
#include "kernels/weight.h"

namespace chorus::kernels::cuda {

// Whether any part is of a quantised type; such a weight is repacked.
bool is_quantised(const WeightDescription& description);

struct Repacked {
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> bytes;              // all planes
  std::vector<QuantisedSegment> segments;  // one a part; their pointers point into `bytes`
};

// Throws std::invalid_argument where a part's type or grouping has no coding on the device.
Repacked repack(const WeightDescription& description, int threads);

// The segments as they are when `bytes` have been copied to `base` (aligned to 16 bytes).
std::vector<QuantisedSegment> placed_at(const Repacked& repacked, const void* base);

}  // namespace chorus::kernels::cuda
