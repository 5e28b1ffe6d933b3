// Filters on sequences. Like Jinja's, some give lists (sort, groupby), some generators that can be
// run through once (reverse, unique, batch, slice).
#include <fmt/format.h>

#include <algorithm>

#include "router/text/jinja/attribute_path.h"
#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/printing.h"
#include "router/text/jinja/tables.h"

namespace chorus::text::jinja {
namespace {

Value optional_argument(const Parameters& p, size_t i) {
  return p.has(i) ? p[i] : Value::none();
}

Value first(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "first", {});
  Value item;
  if (iterate(input)(item)) return item;
  return Value::undefined("No first item, sequence was empty.");
}

// Items back to front; Failure where Python's reversed() has none.
std::vector<Value> reversed(Engine& engine, const Value& input) {
  const bool possible = length(input).has_value() && iterable(input);
  if (!possible) fail(fmt::format("'{}' object is not reversible", type_name(input)));
  std::vector<Value> items = engine.collect(input);
  std::reverse(items.begin(), items.end());
  return items;
}

Value last(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "last", {});
  if (input.is_sequence() && !input.items().empty()) return input.items().back();
  const std::vector<Value> items = reversed(engine, input);
  if (!items.empty()) return items.front();
  return Value::undefined("No last item, sequence was empty.");
}

Value reverse(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "reverse", {});
  if (input.is(Kind::string)) {
    return slice_of(engine, input, Value::none(), Value::none(), Value::integer(-1));
  }
  if (!iterable(input)) fail("argument must be iterable");
  std::vector<Value> items = engine.collect(input);
  std::reverse(items.begin(), items.end());
  if (input.is(Kind::generator)) return engine.list(std::move(items));
  const Value list = engine.list(std::move(items));
  return Value::generator(iterate(list), list);
}

Value to_list(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "list", {});
  return engine.list(engine.collect(input));
}

Value join(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "join", {"d", "attribute"});
  const MarkedText separator = p.has(0) ? engine.text_of(p[0]) : MarkedText();
  const AttributePath path = p.has(1) ? AttributePath(p[1]) : AttributePath();
  MarkedText text;
  bool begun = false;
  const Pull pull = iterate(input);
  for (Value item; pull(item);) {
    engine.charge(1);
    if (begun) append(text, separator);
    begun = true;
    append(text, engine.text_of(path.of(engine, item)));
    if (text.bytes.size() > kOutputMax) fail("a string in the template grows too long");
  }
  return engine.string(std::move(text));
}

struct Keyed {
  std::vector<Value> key;
  Value item;
};

bool key_less(const Keyed& a, const Keyed& b) {
  for (size_t i = 0; i < a.key.size(); ++i) {
    if (!equal(a.key[i], b.key[i])) return less(a.key[i], b.key[i]);
  }
  return false;
}

// Stable, and with Python's meaning of reverse: equal items keep their order.
std::vector<Value> sorted(Engine& engine, std::vector<Keyed> items, bool reverse) {
  engine.charge(static_cast<int64_t>(items.size()) * 4);
  if (reverse) std::reverse(items.begin(), items.end());
  std::stable_sort(items.begin(), items.end(), [&](const Keyed& a, const Keyed& b) {
    engine.charge(1 + std::min(a.item.weight(), b.item.weight()) / 8);
    return key_less(a, b);
  });
  if (reverse) std::reverse(items.begin(), items.end());
  std::vector<Value> result;
  for (Keyed& item : items) result.push_back(std::move(item.item));
  return result;
}

Value sort(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  const auto paths = attribute_paths(optional_argument(p, 2));
  const bool sensitive = p.flag(1, false);
  std::vector<Keyed> items;
  for (Value& item : engine.collect(input)) {
    Keyed keyed;
    for (const AttributePath& path : paths) {
      const Value key = path.of(engine, item);
      keyed.key.push_back(sensitive ? key : without_case(key));
    }
    keyed.item = std::move(item);
    items.push_back(std::move(keyed));
  }
  return engine.list(sorted(engine, std::move(items), p.flag(0, false)));
}

Value dict_sort(Engine& engine, const Value& input, const Arguments& arguments) {
  static const MarkedText by_key = plain("key");
  const Parameters p(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string& by = p.text(1, by_key).bytes;
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  if (input.is(Kind::undefined)) fail_undefined(input);
  if (!input.is(Kind::dict)) {
    fail(fmt::format("'{}' object has no attribute 'items'", type_name(input)));
  }
  std::vector<Keyed> items;
  for (const auto& [key, value] : input.dict().items) {
    const Value& chosen = by == "key" ? key : value;
    items.push_back(
        {{p.flag(0, false) ? chosen : without_case(chosen)}, Value::tuple({key, value})});
  }
  return engine.list(sorted(engine, std::move(items), p.flag(2, false)));
}

Value unique(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "unique", {"case_sensitive", "attribute"});
  const bool sensitive = p.flag(0, false);
  const AttributePath path(optional_argument(p, 1));
  auto seen = std::make_shared<Dict>();
  auto pull = [&engine, sensitive, path, seen, source = iterate(input)](Value& item) {
    while (source(item)) {
      Value key = path.of(engine, item);
      if (!sensitive) key = without_case(key);
      engine.charge(1 + key.weight() / 8);
      if (seen->find(key) != nullptr) continue;
      seen->set(key, Value::none());
      return true;
    }
    return false;
  };
  return Value::generator(std::move(pull), input);
}

template <bool greatest>
Value extreme(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, greatest ? "max" : "min", {"case_sensitive", "attribute"});
  const AttributePath path(optional_argument(p, 1));
  std::optional<Value> best, best_key;
  const Pull pull = iterate(input);
  for (Value item; pull(item);) {
    engine.charge(1);
    Value key = path.of(engine, item);
    if (!p.flag(0, false)) key = without_case(key);
    const bool better = !best || (greatest ? less(*best_key, key, ">") : less(key, *best_key));
    if (!better) continue;
    best = item;
    best_key = key;
  }
  return best ? *best : Value::undefined("No aggregated item, sequence was empty.");
}

Value sum(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "sum", {"attribute", "start"});
  const AttributePath path(optional_argument(p, 0));
  Value total = p.has(1) ? p[1] : Value::integer(0);
  if (total.is(Kind::string)) fail("sum() can't sum strings [use ''.join(seq) instead]");
  const Pull pull = iterate(input);
  for (Value item; pull(item);) {
    engine.charge(1);
    total = arithmetic(engine, Operator::add, total, path.of(engine, item));
  }
  return total;
}

Value batch(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "batch", {"linecount", "fill_with"}, 1);
  const int64_t size = p.integer(0, 1);
  const Value fill = optional_argument(p, 1);
  auto pull = [&engine, size, fill, source = iterate(input),
               ahead = std::optional<Value>()](Value& item) mutable {
    std::vector<Value> row;
    if (ahead) row.push_back(*std::exchange(ahead, std::nullopt));
    for (Value next; source(next);) {
      engine.charge(1);
      if (static_cast<int64_t>(row.size()) == size) {
        ahead = next;
        item = engine.list(std::move(row));
        return true;
      }
      row.push_back(next);
    }
    if (row.empty()) return false;
    while (!fill.is(Kind::none) && static_cast<int64_t>(row.size()) < size) {
      engine.charge(1);
      row.push_back(fill);
    }
    item = engine.list(std::move(row));
    return true;
  };
  return Value::generator(std::move(pull), input);
}

Value slice_rows(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "slice", {"slices", "fill_with"}, 1);
  const int64_t slices = p.integer(0, 1);
  if (slices == 0) fail("integer division or modulo by zero");
  const std::vector<Value> items = engine.collect(input);
  const auto count = static_cast<int64_t>(items.size());
  std::vector<Value> rows;
  int64_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    engine.charge(1);
    const int64_t end = begin + count / slices + (i < count % slices ? 1 : 0);
    std::vector<Value> row(items.begin() + begin, items.begin() + end);
    if (p.has(1) && !p[1].is(Kind::none) && i >= count % slices) row.push_back(p[1]);
    rows.push_back(engine.list(std::move(row)));
    begin = end;
  }
  const Value list = engine.list(std::move(rows));
  return Value::generator(iterate(list), list);
}

Value group(const Value& key, std::vector<Value> items) {
  auto pair = std::make_shared<List>();
  pair->items = {key, Value::list(std::move(items))};
  for (const Value& item : pair->items) pair->take_in(item);
  pair->group = true;
  return Value::of(Kind::tuple, std::move(pair));
}

Value group_by(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const AttributePath path(p[0]);
  const bool sensitive = p.flag(2, false);
  const Value otherwise = optional_argument(p, 1);
  const auto key_of = [&](const Value& item) {
    const Value key = path.of(engine, item, &otherwise);
    return sensitive ? key : without_case(key);
  };
  std::vector<Keyed> items;
  for (const Value& item : engine.collect(input)) items.push_back({{key_of(item)}, item});
  for (size_t i = 1; i < items.size(); ++i) {
    // Python compares the keys themselves, and undefined ones cannot be; sort() finds equal ones
    // first.
    for (const Keyed* each : {&items[i - 1], &items[i]}) {
      if (each->key[0].is(Kind::undefined)) fail_undefined(each->key[0]);
    }
  }
  std::vector<Value> groups, members;
  const auto finish = [&] {
    if (members.empty()) return;
    const Value key = path.of(engine, members.front(), &otherwise);
    groups.push_back(group(key, std::exchange(members, {})));
  };
  for (const Value& item : sorted(engine, std::move(items), false)) {
    if (!members.empty() && !equal(key_of(members.front()), key_of(item))) finish();
    members.push_back(item);
  }
  finish();
  return engine.list(std::move(groups));
}

constexpr BuiltinRow kFilters[] = {
    {"first", first},        {"last", last},        {"reverse", reverse}, {"list", to_list},
    {"join", join},          {"sort", sort},        {"unique", unique},   {"min", extreme<false>},
    {"max", extreme<true>},  {"sum", sum},          {"batch", batch},     {"slice", slice_rows},
    {"dictsort", dict_sort}, {"groupby", group_by},
};

}  // namespace

std::span<const BuiltinRow> sequence_filters() {
  return kFilters;
}

}  // namespace chorus::text::jinja
