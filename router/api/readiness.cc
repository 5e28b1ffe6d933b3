// The texts that were ever said stay in a set, so that a reader may follow the pointer it has read
// at any time. They are few: the shards' names for the parts of loading.
#include "router/api/readiness.h"

#include <fmt/format.h>

#include <algorithm>

namespace chorus::api {

void Readiness::say(std::string_view what) {
  what_ = &*said_.emplace(what).first;
}

void Readiness::move_to(Phase phase) {
  Phase now = phase_;
  while (now != Phase::draining && !phase_.compare_exchange_weak(now, phase)) {
  }
}

void Readiness::loading(double progress, std::string_view what) {
  say(what);
  progress_ = std::clamp(progress, 0.0, 1.0);
  move_to(Phase::loading);
}

// A loss of the shards may be told before main says that they are ready.
void Readiness::ready() {
  Phase loading = Phase::loading;
  phase_.compare_exchange_strong(loading, Phase::ready);
}

void Readiness::draining() {
  phase_ = Phase::draining;
}

void Readiness::failed(std::string_view reason) {
  say(reason);
  move_to(Phase::failed);
}

Readiness::Snapshot Readiness::snapshot() const {
  const std::string* what = what_;
  return {.phase = phase_, .progress = progress_, .what = what ? *what : std::string()};
}

std::string_view phase_name(Readiness::Phase phase) {
  switch (phase) {
    case Readiness::Phase::loading:
      return "loading";
    case Readiness::Phase::ready:
      return "ready";
    case Readiness::Phase::draining:
      return "draining";
    case Readiness::Phase::failed:
      return "failed";
  }
  return "";
}

std::string refusal(const Readiness::Snapshot& state) {
  switch (state.phase) {
    case Readiness::Phase::loading:
      return fmt::format("the model is not ready yet: {} ({:.0f} %)",
                         state.what.empty() ? "starting" : state.what, state.progress * 100);
    case Readiness::Phase::draining:
      return "the server is draining and takes no new requests";
    case Readiness::Phase::failed:
      return "the model is not available: " + state.what;
    case Readiness::Phase::ready:
      break;
  }
  return "the model is not available right now";
}

}  // namespace chorus::api
