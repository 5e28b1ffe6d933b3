// Rotations as configurations describe them: a base, and one of the scalings that stretch a trained
// context. config.json keeps them under "rope_theta" and "rope_scaling", since transformers 5 all
// under "rope_parameters", there by the layers' type where types differ.
#pragma once

#include <string_view>

#include "shard/models/decoder_spec.h"

namespace chorus::models {

// The base that the configuration names for layers of a type ("full_attention"; "" where the model
// has but one).
double rope_base(const modelfile::Config& config, double otherwise,
                 std::string_view layer_type = "");

// frequency[i] = base^(-2i / rotated) for the first `rotated` elements of a head, as they are.
kernels::RopeDescription plain_rope(double base, int64_t rotated);

// The same with the configuration's scaling: linear, llama3 or yarn. Throws
// modelfile::FileError(unsupported) for scalings that Chorus does not know, and where the
// configuration has a part of a head rotated.
kernels::RopeDescription rope(const modelfile::Config& config, double base, int64_t head_dim,
                              std::string_view layer_type = "");

// Rotates the part of each head that the configuration names, by "longrope" where it says so: one
// divisor a frequency, others for contexts that are longer than the trained one.
void use_long_rope(const modelfile::Config& config, KvGroupSpec& group, double base,
                   int64_t head_dim);

}  // namespace chorus::models
