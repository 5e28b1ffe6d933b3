#include "router/text/jinja/loop.h"

#include <algorithm>

namespace chorus::text::jinja {
namespace {

// loop.cycle(a, b, ...) and loop.changed(value, ...).
struct LoopMethod : Function {
  LoopMethod(std::string method, std::function<Value(const Arguments&)> body)
      : Function(std::move(method)), body_(std::move(body)) {}
  Value call(Engine&, const Arguments& arguments) override { return body_(arguments); }

 private:
  std::function<Value(const Arguments&)> body_;
};

}  // namespace

Loop::Loop(Pull source, std::optional<int64_t> known_length, int depth0)
    : source_(std::move(source)), length_(known_length), depth0_(depth0) {}

bool Loop::peek() {
  if (ahead_ || exhausted_) return ahead_.has_value();
  Value item;
  if (source_ && source_(item)) {
    ahead_ = std::move(item);
  } else {
    exhausted_ = true;
  }
  return ahead_.has_value();
}

bool Loop::advance(Value& item) {
  if (!peek()) return false;
  item = std::move(*ahead_);
  ahead_.reset();
  ++index0_;
  before_ = std::move(current_);
  current_ = item;
  return true;
}

int64_t Loop::length() {
  if (length_) return *length_;
  std::vector<Value> rest;
  if (peek()) rest.push_back(*ahead_);
  Value item;
  while (!exhausted_ && source_ && source_(item)) rest.push_back(std::move(item));
  length_ = index0_ + 1 + static_cast<int64_t>(rest.size());
  const bool had_ahead = ahead_.has_value();
  const Value remaining = Value::list(std::move(rest));
  source_ = iterate(remaining);
  if (had_ahead) source_(item);  // already in ahead_
  return *length_;
}

std::optional<Value> Loop::attribute(const std::shared_ptr<Loop>& self, std::string_view name) {
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(!peek());
  if (name == "length") return Value::integer(length());
  if (name == "revindex") return Value::integer(length() - index0_);
  if (name == "revindex0") return Value::integer(length() - index0_ - 1);
  if (name == "depth") return Value::integer(depth0_ + 1);
  if (name == "depth0") return Value::integer(depth0_);
  if (name == "previtem") {
    return index0_ == 0 ? Value::undefined("there is no previous item") : before_;
  }
  if (name == "nextitem") return peek() ? *ahead_ : Value::undefined("there is no next item");
  if (name == "cycle") {
    return Value::of(Kind::function,
                     std::make_shared<LoopMethod>("cycle", [self](const Arguments& arguments) {
                       const auto& values = arguments.positional;
                       if (values.empty()) fail("no items for cycling given");
                       return values[static_cast<size_t>(self->index0_) % values.size()];
                     }));
  }
  if (name == "changed") {
    return Value::of(
        Kind::function, std::make_shared<LoopMethod>("changed", [self](const Arguments& arguments) {
          const auto& values = arguments.positional;
          const bool same =
              self->changed_ && std::equal(values.begin(), values.end(), self->changed_->begin(),
                                           self->changed_->end(), equal);
          if (!same) self->changed_ = values;
          return Value::boolean(!same);
        }));
  }
  return std::nullopt;
}

Value Loop::recurse(const Value& items) const {
  if (!recurse_) {
    fail("The loop must have the 'recursive' marker to be called recursively.");
  }
  const Recurse alive = recurse_;
  return alive(items, depth0_ + 1);
}

void Loop::close() {
  recurse_ = nullptr;
  source_ = nullptr;
  ahead_.reset();
  exhausted_ = true;
  current_ = before_ = Value();
  changed_.reset();
}

}  // namespace chorus::text::jinja
