// What /health says, and why requests are refused while they are. Written by the thread that
// brings the shards up (one at a time), read by every connection without a lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace chorus::api {

class Readiness {
 public:
  enum class Phase : uint8_t { loading, ready, draining, failed };
  struct Snapshot {
    Phase phase = Phase::loading;
    double progress = 0;  // 0..1, while loading
    std::string what;     // "loading weights"; the reason where it failed
  };

  Readiness() = default;
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  void loading(double progress, std::string_view what);
  void ready();                          // after loading; changes nothing else
  void draining();                       // for good
  void failed(std::string_view reason);  // the shards are gone: until loading() is called again
  Snapshot snapshot() const;

 private:
  void say(std::string_view what);
  void move_to(Phase phase);

  std::atomic<Phase> phase_{Phase::loading};
  std::atomic<double> progress_{0};
  std::set<std::string, std::less<>> said_;  // the writer's; what_ points into it
  std::atomic<const std::string*> what_{nullptr};
};

std::string_view phase_name(Readiness::Phase phase);
std::string refusal(const Readiness::Snapshot& state);  // for people: why not now

}  // namespace chorus::api
