// The one-shot all-reduce of a group, tried out when the group starts.
#pragma once

#include <memory>
#include <string>

#include "kernels/collective.h"
#include "kernels/cuda/one_shot.h"
#include "kernels/cuda/peer_windows.h"

namespace chorus::kernels::cuda {

class GroupOneShot {
 public:
  // By all ranks together, for the calling thread's device. Throws DeviceError.
  explicit GroupOneShot(Collective& collective);
  // Null where the devices do not reach each other's memory or a sum came out wrong: on all ranks
  // or on none, for the reason why_not().
  const OneShot* get() const { return one_shot_.get(); }
  const std::string& why_not() const { return why_not_; }

 private:
  std::unique_ptr<PeerWindows> windows_;
  std::unique_ptr<OneShot> one_shot_;
  std::string why_not_;
};

}  // namespace chorus::kernels::cuda
