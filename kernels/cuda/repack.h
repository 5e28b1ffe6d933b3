// Quantised weights from a checkpoint's layout into the planes of quantised_layout.h. Host code
// without CUDA: the backend copies the bytes to the device.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/device_weight.h"
#include "kernels/weight.h"

namespace chorus::kernels::cuda {

// Whether every part is quantised in a way that has a coding on the device. What has not (a weight
// with plain parts among them, groups of 16 columns) can still be dequantised.
bool has_codings(const WeightDescription& description);

struct Repacked {
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> bytes;              // all planes
  std::vector<QuantisedSegment> segments;  // one a part; their pointers point into `bytes`
};

// Every part must have a coding.
Repacked repack(const WeightDescription& description, int threads);

// The segments as they are when `bytes` have been copied to `base` (aligned to 16 bytes).
std::vector<QuantisedSegment> placed_at(const Repacked& repacked, const void* base);

}  // namespace chorus::kernels::cuda
