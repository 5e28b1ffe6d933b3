// SIGINT, SIGTERM and SIGHUP while a model is fetched: taken at points where everything is in
// order, so that a container's first process, which the kernel spares default actions, ends too.
#pragma once

#include <csignal>
#include <exception>

#include "launcher/processes/descriptor.h"

namespace chorus::launcher {

struct Interrupted : std::exception {
  explicit Interrupted(int number) : signal(number) {}
  const char* what() const noexcept override { return "interrupted"; }
  int signal;
};

// The signals are blocked for as long as this lives.
class Interruption {
 public:
  Interruption();
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  int fd() const { return fd_.get(); }  // readable once a signal has come
  void check() const;                   // throws Interrupted once one has

 private:
  sigset_t before_;
  Descriptor fd_;
};

}  // namespace chorus::launcher
