// The `loop` variable: position in the running for, looking ahead one item at a time, as lazily as
// Jinja does it (a generator's items are drawn when asked for, not before).
#pragma once

#include <optional>

#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

struct Loop : Object {
  // loop(items) in a recursive loop; gives the text of its iterations.
  using Recurse = std::function<Value(const Value& items, int depth)>;

  Loop(Pull source, std::optional<int64_t> known_length, int depth0);

  bool advance(Value& item);
  std::optional<Value> attribute(const std::shared_ptr<Loop>& self, std::string_view name);
  int64_t length();
  int64_t index0() const { return index0_; }
  void set_recurse(Recurse recurse) { recurse_ = std::move(recurse); }
  Value recurse(const Value& items) const;  // Failure where the loop is not recursive

  // Lets go of every value, so that a loop kept by the template cannot keep itself alive.
  void close();

 private:
  bool peek();
  Pull source_;
  Recurse recurse_;
  std::optional<int64_t> length_;
  int64_t index0_ = -1;
  int depth0_ = 0;
  std::optional<Value> ahead_;
  bool exhausted_ = false;
  Value current_, before_;
  std::optional<std::vector<Value>> changed_;
};

}  // namespace chorus::text::jinja
