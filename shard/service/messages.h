// Between the wire and the executor: protobuf messages to plain plans and back. What the contract
// has room for and this shard does not execute yet is refused here, by the field's name.
#pragma once

#include <string>
#include <tl/expected.hpp>

#include "proto/chorus/v1/shard.pb.h"
#include "shard/step/plan.h"

namespace chorus::service {

tl::expected<step::Step, std::string> read_step(const v1::Step& message);
void write_result(const step::StepResult& result, v1::StepResult& message);

}  // namespace chorus::service
