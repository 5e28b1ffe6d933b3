// What the ranks of a group do together with their devices' memory, in the order of a stream. All
// ranks make the same calls with the same counts in the same order.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/collective.h"
#include "kernels/cuda/one_shot.h"
#include "kernels/cuda_ranks.h"

namespace chorus::kernels::cuda {

class DeviceGroup {
 public:
  virtual ~DeviceGroup() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;

  // data[i] = the sum over all ranks' data[i], the same bits on each of them.
  virtual void all_reduce(float* data, int64_t count, cudaStream_t stream) = 0;
  // data[r * count ...] = what rank r has there, for every r.
  virtual void all_gather(float* data, int64_t count, cudaStream_t stream) = 0;
  // What is faster than all_reduce for few rows; null where all_reduce does it all.
  virtual const OneShot* one_shot() const = 0;
  // All of a step has been queued: who watches the group expects it to end.
  virtual void step_queued(cudaStream_t stream) = 0;
};

// For the calling thread's device. `collective` is the same group on host memory, by which ranks
// find each other; it outlives this. Throws DeviceError.
std::unique_ptr<DeviceGroup> make_device_group(Collective& collective, const RanksWatch& watch);

// Can several devices form a group? `why_not` says what is missing.
bool can_form_groups(std::string& why_not);

// Every rank's range, in the order of ranks, found out through host memory.
std::vector<Range> ranges_of_ranks(Collective& collective, Range own);

}  // namespace chorus::kernels::cuda
