#include "shard/models/families/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "modelfile/error.h"

namespace chorus::models {

using modelfile::Config;
using modelfile::FileError;

namespace {

[[noreturn]] void fail(FileError::Kind kind, const Config& config, const std::string& message) {
  throw FileError(kind, config.source() + ": " + message);
}

// Where config.json keeps the scaling: the path of its keys.
std::string place_of(const Config& config, std::string_view layer_type) {
  const std::string typed = fmt::format("rope_parameters.{}.", layer_type);
  if (!layer_type.empty() && config.find_text(typed + "rope_type", "")) return typed;
  if (config.find_text("rope_parameters.rope_type", "")) return "rope_parameters.";
  return "rope_scaling.";
}

std::string type_of(const Config& config, const std::string& place) {
  auto type = config.find_text(place + "rope_type", ".rope.scaling.type");
  if (!type) type = config.find_text(place + "type", "");
  return type.value_or("default");
}

// Llama 3's scaling (its reference implementation, and "rope_type": "llama3" in config.json): long
// wavelengths are stretched by `factor`, short ones kept, those between blended.
void scale_llama3(const Config& config, const std::string& place, std::vector<float>& frequencies) {
  const double factor = config.number(place + "factor", ".rope.scaling.factor");
  const double low = config.number(place + "low_freq_factor", "");
  const double high = config.number(place + "high_freq_factor", "");
  const double trained = config.number(place + "original_max_position_embeddings", "");
  for (float& frequency : frequencies) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > trained / low) {
      frequency = static_cast<float>(frequency / factor);
    } else if (wavelength > trained / high) {
      const double blend = (trained / wavelength - low) / (high - low);
      frequency = static_cast<float>((1 - blend) * frequency / factor + blend * frequency);
    }
  }
}

// YaRN (Peng et al. 2023): frequencies that turn less than `slow` times within the trained context
// are stretched, those that turn more than `fast` times kept, those between blended; queries and
// keys grow a little.
void scale_yarn(const Config& config, const std::string& place, double base,
                kernels::RopeDescription& rope) {
  const double factor = config.number(place + "factor", ".rope.scaling.factor");
  const double trained = config
                             .find_number(place + "original_max_position_embeddings",
                                          ".rope.scaling.original_context_length")
                             .value_or(config.number("max_position_embeddings", ".context_length"));
  const double fast =
      config.find_number(place + "beta_fast", ".rope.scaling.yarn_beta_fast").value_or(32);
  const double slow =
      config.find_number(place + "beta_slow", ".rope.scaling.yarn_beta_slow").value_or(1);
  const auto count = static_cast<double>(rope.frequencies.size());
  const auto index_of = [&](double turns) {
    return count * std::log(trained / (turns * 2 * std::numbers::pi)) / std::log(base);
  };
  const bool whole = config.find_flag(place + "truncate", "").value_or(true);
  double low = index_of(fast), high = index_of(slow);
  if (whole) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, 2 * count - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double stretch = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double kept = rope.frequencies[i];
    rope.frequencies[i] = static_cast<float>(kept / factor * stretch + kept * (1 - stretch));
  }
  const auto growth = [&](double by) { return factor <= 1 ? 1 : 0.1 * by * std::log(factor) + 1; };
  const auto named = config.find_number(place + "attention_factor", "");
  const double scale = config.find_number(place + "mscale", "").value_or(0);
  const double all = config.find_number(place + "mscale_all_dim", "").value_or(0);
  const double inferred = scale > 0 && all > 0 ? growth(scale) / growth(all) : growth(1);
  rope.magnitude = static_cast<float>(named.value_or(inferred));
}

// How many elements of a head are rotated.
int64_t rotated_part(const Config& config, const std::string& place, int64_t head_dim) {
  auto share = config.find_number("partial_rotary_factor", "");
  if (!share) share = config.find_number(place + "partial_rotary_factor", "");
  const auto count =
      config.find_integer("", ".rope.dimension_count")
          .value_or(static_cast<int64_t>(static_cast<double>(head_dim) * share.value_or(1)));
  if (count >= 2 && count <= head_dim && count % 2 == 0) return count;
  fail(FileError::Kind::corrupt, config,
       fmt::format("{} of a head's {} elements would be rotated", count, head_dim));
}

// The plain frequencies over the divisors of config.json's list. GGUF has them as tensors, which
// describe() divides by.
std::vector<float> divided(const Config& config, const std::string& key,
                           std::vector<float> frequencies) {
  if (config.format() == modelfile::Format::gguf) return frequencies;
  const std::vector<double> divisors = config.find_numbers(key, "");
  if (divisors.size() != frequencies.size()) {
    fail(FileError::Kind::corrupt, config,
         fmt::format("key {} has {} numbers, expected {}", key, divisors.size(),
                     frequencies.size()));
  }
  for (size_t i = 0; i < divisors.size(); ++i) {
    frequencies[i] = static_cast<float>(frequencies[i] / divisors[i]);
  }
  return frequencies;
}

}  // namespace

double rope_base(const Config& config, double otherwise, std::string_view layer_type) {
  auto base = config.find_number("rope_theta", ".rope.freq_base");
  if (!base) base = config.find_number(place_of(config, layer_type) + "rope_theta", "");
  return base.value_or(otherwise);
}

kernels::RopeDescription plain_rope(double base, int64_t rotated) {
  kernels::RopeDescription description;
  for (int64_t i = 0; i < rotated / 2; ++i) {
    description.frequencies.push_back(static_cast<float>(
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotated))));
  }
  return description;
}

kernels::RopeDescription rope(const Config& config, double base, int64_t head_dim,
                              std::string_view layer_type) {
  const std::string place = place_of(config, layer_type);
  if (rotated_part(config, place, head_dim) != head_dim) {
    fail(FileError::Kind::unsupported, config,
         "partial_rotary_factor is not 1, which this architecture has no use for");
  }
  kernels::RopeDescription description = plain_rope(base, head_dim);
  const std::string type = type_of(config, place);
  if (type == "linear") {
    const double factor = config.number(place + "factor", ".rope.scaling.factor");
    for (float& frequency : description.frequencies) {
      frequency = static_cast<float>(frequency / factor);
    }
  } else if (type == "llama3") {
    scale_llama3(config, place, description.frequencies);
  } else if (type == "yarn") {
    scale_yarn(config, place, base, description);
  } else if (type != "none" && type != "default") {
    fail(FileError::Kind::unsupported, config,
         fmt::format("rope scaling of type \"{}\" is not built yet (linear, llama3 and yarn are)",
                     type));
  }
  return description;
}

void use_long_rope(const Config& config, KvGroupSpec& group, double base, int64_t head_dim) {
  const bool gguf = config.format() == modelfile::Format::gguf;
  const std::string place = place_of(config, "");
  group.rope = plain_rope(base, rotated_part(config, place, head_dim));
  const std::string type = type_of(config, place);
  auto trained = config.find_number("original_max_position_embeddings",
                                    ".rope.scaling.original_context_length");
  if (!trained) trained = config.find_number(place + "original_max_position_embeddings", "");
  const bool longrope = gguf ? trained.has_value() : type == "longrope" || type == "su";
  if (!longrope) {
    if (type == "none" || type == "default") return;
    fail(FileError::Kind::unsupported, config,
         fmt::format("rope scaling of type \"{}\" is not built for this architecture (longrope is)",
                     type));
  }
  const double longest = config.number("max_position_embeddings", ".context_length");
  const double stretch = longest / trained.value_or(longest);
  auto magnitude = config.find_number(place + "attention_factor", ".rope.scaling.attn_factor");
  if (!magnitude && !gguf && stretch > 1) {
    magnitude = std::sqrt(1 + std::log(stretch) / std::log(*trained));
  }
  group.rope.magnitude = static_cast<float>(magnitude.value_or(1));
  group.short_context = static_cast<int64_t>(trained.value_or(longest));
  group.long_rope = group.rope;
  group.long_rope.frequencies = divided(config, place + "long_factor", group.rope.frequencies);
  group.rope.frequencies = divided(config, place + "short_factor", group.rope.frequencies);
}

}  // namespace chorus::models
