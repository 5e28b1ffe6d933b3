// map, select and reject: generators that apply a filter or a test by name to each item drawn.
#include <fmt/format.h>

#include "router/text/jinja/attribute_path.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/tables.h"

namespace chorus::text::jinja {
namespace {

// Takes the first positional argument away.
Value take_first(Arguments& arguments, const char* missing) {
  if (arguments.positional.empty()) fail(missing);
  Value value = arguments.positional.front();
  arguments.positional.erase(arguments.positional.begin());
  return value;
}

std::string name_of(const Value& value, const char* what) {
  if (!value.is(Kind::string)) fail(fmt::format("No {} named {}.", what, type_name(value)));
  return value.bytes();
}

Value nothing(const Value& input) {
  return Value::generator([](Value&) { return false; }, input);
}

Value map_attribute(Engine& engine, const Value& input, const Arguments& arguments) {
  Value attribute, otherwise = Value::none();
  for (const auto& [name, value] : arguments.named) {
    if (name == "attribute") {
      attribute = value;
    } else if (name == "default") {
      otherwise = value;
    } else {
      fail(fmt::format("Unexpected keyword argument '{}'", name));
    }
  }
  const AttributePath path(attribute);
  auto pull = [&engine, path, otherwise, source = iterate(input)](Value& item) {
    Value next;
    if (!source(next)) return false;
    item = path.of(engine, next, &otherwise);
    return true;
  };
  return Value::generator(std::move(pull), input);
}

// Jinja checks arguments when the first item is drawn, and never where there is none.
Value map(Engine& engine, const Value& input, const Arguments& arguments) {
  if (!truthy(input)) return nothing(input);
  auto pull = [&engine, input, arguments, mapped = Value(), begun = false](Value& item) mutable {
    if (!begun) {
      begun = true;
      bool by_attribute = false;
      for (const auto& entry : arguments.named) {
        by_attribute = by_attribute || entry.first == "attribute";
      }
      if (arguments.positional.empty() && by_attribute) {
        mapped = map_attribute(engine, input, arguments);
      } else {
        Arguments rest = arguments;
        const Value filter = take_first(rest, "map requires a filter argument");
        auto apply = [&engine, rest, name = name_of(filter, "filter"),
                      source = iterate(input)](Value& result) {
          Value next;
          if (!source(next)) return false;
          result = engine.call_filter(name, next, rest);
          return true;
        };
        mapped = Value::generator(std::move(apply), Value::none());
      }
    }
    return mapped.generator().pull(item);
  };
  return Value::generator(std::move(pull), input);
}

struct Selection {
  AttributePath path;
  std::string test;  // empty: truth
  Arguments rest;
};

Selection selection(const Arguments& arguments, bool of_attribute) {
  Selection chosen{.path = {}, .test = {}, .rest = arguments};
  if (of_attribute) {
    chosen.path = AttributePath(take_first(chosen.rest, "Missing parameter for attribute name"));
  }
  if (!chosen.rest.positional.empty()) {
    chosen.test = name_of(take_first(chosen.rest, "Missing test"), "test");
  }
  return chosen;
}

template <bool keep, bool of_attribute>
Value choose(Engine& engine, const Value& input, const Arguments& arguments) {
  if (!truthy(input)) return nothing(input);
  auto pull = [&engine, input, arguments, chosen = std::optional<Selection>(),
               source = Pull()](Value& item) mutable {
    if (!chosen) {
      chosen = selection(arguments, of_attribute);
      source = iterate(input);
    }
    while (source(item)) {
      const Value value = chosen->path.of(engine, item);
      const bool passes = chosen->test.empty()
                              ? truthy(value)
                              : engine.call_test(chosen->test, value, chosen->rest);
      if (passes == keep) return true;
    }
    return false;
  };
  return Value::generator(std::move(pull), input);
}

constexpr BuiltinRow kFilters[] = {
    {"map", map},
    {"select", choose<true, false>},
    {"reject", choose<false, false>},
    {"selectattr", choose<true, true>},
    {"rejectattr", choose<false, true>},
};

}  // namespace

std::span<const BuiltinRow> selection_filters() {
  return kFilters;
}

}  // namespace chorus::text::jinja
