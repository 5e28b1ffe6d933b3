// Methods of dicts, lists and tuples, and the table that finds methods of any type. Methods that
// would change their object are no rows here: the sandbox refuses them (expressions.cc).
#include <fmt/format.h>

#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/tables.h"

namespace chorus::text::jinja {
namespace {

template <ViewKind kind>
Value view_of(Engine&, const Value& self, const Arguments& arguments) {
  const Parameters none(arguments, "items", {});
  auto view = std::make_shared<View>();
  view->dict = std::static_pointer_cast<const Dict>(self.shared());
  view->kind = kind;
  view->take_in(self);
  return Value::of(Kind::view, std::move(view));
}

Value get(Engine& engine, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) fail("dict.get() takes no keyword arguments");
  const Parameters p(arguments, "get", {"key", "default"}, 1);
  engine.charge(p[0].weight() / 8);
  if (const Value* found = self.dict().find(p[0])) return *found;
  return p.has(1) ? p[1] : Value::none();
}

Value copy(Engine&, const Value& self, const Arguments& arguments) {
  const Parameters none(arguments, "copy", {});
  return self;
}

// Of lists, tuples and ranges.
Value count(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "count", {"value"}, 1);
  engine.charge(self.weight() / 8);
  int64_t found = 0;
  for (const Value& item : engine.collect(self)) found += equal(item, p[0]) ? 1 : 0;
  return Value::integer(found);
}

Value index(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "index", {"value", "start", "stop"}, 1);
  engine.charge(self.weight() / 8);
  const std::vector<Value> items = engine.collect(self);
  const auto size = static_cast<int64_t>(items.size());
  const auto bound = [&](int64_t at) {
    return std::min(std::max<int64_t>(at < 0 ? at + size : at, 0), size);
  };
  for (int64_t i = bound(p.integer(1, 0)); i < bound(p.integer(2, size)); ++i) {
    if (equal(items[static_cast<size_t>(i)], p[0])) return Value::integer(i);
  }
  fail("value is not in list");
}

Value is_integer(Engine&, const Value& self, const Arguments& arguments) {
  const Parameters none(arguments, "is_integer", {});
  return Value::boolean(self.as_real() == static_cast<double>(static_cast<int64_t>(
                                              std::min(std::max(self.as_real(), -9e18), 9e18))));
}

constexpr BuiltinRow kDictMethods[] = {
    {"items", view_of<ViewKind::items>},
    {"keys", view_of<ViewKind::keys>},
    {"values", view_of<ViewKind::values>},
    {"get", get},
    {"copy", copy},
};

constexpr BuiltinRow kListMethods[] = {{"count", count}, {"index", index}, {"copy", copy}};
constexpr BuiltinRow kTupleMethods[] = {{"count", count}, {"index", index}};
constexpr BuiltinRow kRealMethods[] = {{"is_integer", is_integer}};

}  // namespace

Builtin find_method(Kind kind, std::string_view name) {
  switch (kind) {
    case Kind::dict:
      return find_row(kDictMethods, name);
    case Kind::list:
      return find_row(kListMethods, name);
    case Kind::tuple:
    case Kind::range:
      return find_row(kTupleMethods, name);
    case Kind::real:
      return find_row(kRealMethods, name);
    case Kind::string: {
      const Builtin found = find_row(text_methods(), name);
      return found != nullptr ? found : find_row(text_class_methods(), name);
    }
    default:
      return nullptr;
  }
}

}  // namespace chorus::text::jinja
