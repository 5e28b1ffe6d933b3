// Making, comparing, hashing and iterating values by Python's rules.
#include "router/text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/loop.h"

namespace chorus::text::jinja {
namespace {

struct WideInteger : Object {
  Wide number = 0;
};

struct String : Object {
  MarkedText text;
};

Value sequence(Kind kind, std::vector<Value> items) {
  auto object = std::make_shared<List>();
  for (const Value& item : items) object->take_in(item);
  object->items = std::move(items);
  return Value::of(kind, std::move(object));
}

template <class T>
uint64_t hash_of(const T& value) {
  return std::hash<T>()(value) * 0x9E3779B97F4A7C15U;
}

bool ordered(const Value& value) {
  return value.is_number() || value.is(Kind::string);
}

}  // namespace

void Object::take_in(const Value& child) {
  depth = std::max(depth, child.depth() + 1);
  weight += child.weight();
  origin = joined_origin(origin, child.origin());
  if (depth > kDepthMax) fail("values are nested too deeply");
  if (weight > kWeightMax) fail("a value has too many parts");
}

void fail(std::string message) {
  throw Failure(message);
}

void fail_undefined(const Value& value) {
  fail(value.undefined_message());
}

Value Value::undefined(std::string message) {
  auto object = std::make_shared<String>();
  object->text.bytes = std::move(message);
  return of(Kind::undefined, std::move(object));
}

Value Value::none() {
  return of(Kind::none, nullptr);
}

Value Value::boolean(bool value) {
  Value result = of(Kind::boolean, nullptr);
  result.number_.integer = value ? 1 : 0;
  return result;
}

Value Value::integer(int64_t value) {
  Value result = of(Kind::integer, nullptr);
  result.number_.integer = value;
  return result;
}

Value Value::wide(Wide value) {
  const auto narrow = static_cast<int64_t>(value);
  if (narrow == value) return integer(narrow);
  auto object = std::make_shared<WideInteger>();
  object->number = value;
  return of(Kind::wide, std::move(object));
}

Value Value::real(double value) {
  Value result = of(Kind::real, nullptr);
  result.number_.real = value;
  return result;
}

Value Value::string(MarkedText text) {
  auto object = std::make_shared<String>();
  object->origin = origin_of(text);
  object->weight = 1 + static_cast<int64_t>(text.bytes.size() / 64 + text.outside.size() / 4);
  object->text = std::move(text);
  return of(Kind::string, std::move(object));
}

Value Value::list(std::vector<Value> items) {
  return sequence(Kind::list, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return sequence(Kind::tuple, std::move(items));
}

Value Value::of(Kind kind, std::shared_ptr<Object> object) {
  Value result;
  result.kind_ = kind;
  result.object_ = std::move(object);
  return result;
}

Value Value::dict(std::shared_ptr<Dict> dict) {
  return of(Kind::dict, std::move(dict));
}

Value Value::generator(Pull pull, const Value& source) {
  auto object = std::make_shared<Generator>();
  object->pull = std::move(pull);
  object->take_in(source);
  return of(Kind::generator, std::move(object));
}

Wide Value::as_wide() const {
  return kind_ == Kind::wide ? static_cast<const WideInteger&>(*object_).number : number_.integer;
}

double Value::as_real() const {
  return kind_ == Kind::real ? number_.real : static_cast<double>(as_wide());
}

const MarkedText& Value::text() const {
  return static_cast<const String&>(*object_).text;
}
const std::vector<Value>& Value::items() const {
  return static_cast<const List&>(*object_).items;
}
const Dict& Value::dict() const {
  return static_cast<const Dict&>(*object_);
}
const View& Value::view() const {
  return static_cast<const View&>(*object_);
}
const Range& Value::range() const {
  return static_cast<const Range&>(*object_);
}
Generator& Value::generator() const {
  return static_cast<Generator&>(*object_);
}
Namespace& Value::attributes() const {
  return static_cast<Namespace&>(*object_);
}
Loop& Value::loop() const {
  return static_cast<Loop&>(*object_);
}
Function& Value::function() const {
  return static_cast<Function&>(*object_);
}

const std::string& Value::undefined_message() const {
  static const std::string unnamed = "value is undefined";
  return object_ ? text().bytes : unnamed;
}

template <class Match>
int64_t Dict::search(uint64_t hash, Match match) const {
  if (slots_.empty()) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (hashes_[i] == hash && match(items[i].first)) return static_cast<int64_t>(i);
    }
    return -1;
  }
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const size_t i = slots_[slot] - 1;
    if (hashes_[i] == hash && match(items[i].first)) return static_cast<int64_t>(i);
  }
  return -1;
}

void Dict::grow() {
  if (items.size() <= 8) return;
  if (items.size() * 2 <= slots_.size()) {
    const size_t mask = slots_.size() - 1;
    size_t slot = hashes_.back() & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<uint32_t>(items.size());
    return;
  }
  slots_.assign(std::max<size_t>(slots_.size() * 2, 32), 0);
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < items.size(); ++i) {
    size_t slot = hashes_[i] & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<uint32_t>(i + 1);
  }
}

const Value* Dict::find(const Value& key) const {
  const int64_t at = search(hash(key), [&](const Value& other) { return equal(key, other); });
  return at < 0 ? nullptr : &items[static_cast<size_t>(at)].second;
}

const Value* Dict::find(std::string_view key) const {
  const int64_t at = search(hash_of(key), [&](const Value& other) {
    return other.is(Kind::string) && other.bytes() == key;
  });
  return at < 0 ? nullptr : &items[static_cast<size_t>(at)].second;
}

void Dict::set(const Value& key, const Value& value) {
  const uint64_t key_hash = hash(key);
  take_in(key);
  take_in(value);
  const int64_t at = search(key_hash, [&](const Value& other) { return equal(key, other); });
  if (at >= 0) {
    items[static_cast<size_t>(at)].second = value;
    return;
  }
  items.emplace_back(key, value);
  hashes_.push_back(key_hash);
  grow();
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
    case Kind::wide:
      return "int";
    case Kind::real:
      return "float";
    case Kind::string:
      return value.text().markup ? "Markup" : "str";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::dict:
      return "dict";
    case Kind::view:
      return value.view().kind == ViewKind::keys     ? "dict_keys"
             : value.view().kind == ViewKind::values ? "dict_values"
                                                     : "dict_items";
    case Kind::range:
      return "range";
    case Kind::generator:
      return "generator";
    case Kind::attributes:
      return "Namespace";
    case Kind::loop:
      return "LoopContext";
    case Kind::function:
      return "function";
  }
  return "object";
}

std::string described_type(const Value& value) {
  if (value.is(Kind::none)) return "None";
  return fmt::format("{} object", type_name(value));
}

bool truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return value.as_integer() != 0;
    case Kind::wide:
      return true;
    case Kind::real:
      return value.as_real() != 0;
    case Kind::string:
      return !value.bytes().empty();
    case Kind::loop:  // LoopContext has a length, never 0 while it runs
    case Kind::generator:
    case Kind::attributes:
    case Kind::function:
      return true;
    default:
      return length(value).value() != 0;
  }
}

bool equal(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    if (left.is_whole() && right.is_whole()) return left.as_wide() == right.as_wide();
    return left.as_real() == right.as_real();
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::string:
      return left.bytes() == right.bytes();
    case Kind::list:
    case Kind::tuple:
      return std::equal(left.items().begin(), left.items().end(), right.items().begin(),
                        right.items().end(), equal);
    case Kind::dict: {
      const auto& items = left.dict().items;
      return items.size() == right.dict().items.size() &&
             std::all_of(items.begin(), items.end(), [&](const auto& item) {
               const Value* other = right.dict().find(item.first);
               return other != nullptr && equal(item.second, *other);
             });
    }
    case Kind::range: {
      const Range& a = left.range();
      const Range& b = right.range();
      return a.count == b.count && (a.count == 0 || a.start == b.start) &&
             (a.count <= 1 || a.step == b.step);
    }
    default:
      return left.object() == right.object();
  }
}

bool less(const Value& left, const Value& right, const char* symbol) {
  if (left.is(Kind::undefined)) fail_undefined(left);
  if (right.is(Kind::undefined)) fail_undefined(right);
  if (left.is_whole() && right.is_whole()) return left.as_wide() < right.as_wide();
  if (left.is_number() && right.is_number()) return left.as_real() < right.as_real();
  if (left.kind() == right.kind() && ordered(left)) return left.bytes() < right.bytes();
  if (left.kind() == right.kind() && left.is_sequence()) {
    const auto& a = left.items();
    const auto& b = right.items();
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equal(a[i], b[i])) return less(a[i], b[i], symbol);
    }
    return a.size() < b.size();
  }
  fail(fmt::format("'{}' not supported between instances of '{}' and '{}'", symbol, type_name(left),
                   type_name(right)));
}

bool same_object(const Value& left, const Value& right) {
  if (left.kind() != right.kind()) return false;
  if (left.is(Kind::none)) return true;
  if (left.is_integral()) return left.as_integer() == right.as_integer();
  return left.object() != nullptr && left.object() == right.object();
}

uint64_t hash(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::none:
      return static_cast<uint64_t>(value.kind()) + 1;
    case Kind::boolean:
    case Kind::integer:
      return hash_of(static_cast<double>(value.as_integer()));
    case Kind::wide:
    case Kind::real:
      return hash_of(value.as_real());
    case Kind::string:
      return hash_of(std::string_view(value.bytes()));
    case Kind::tuple: {
      uint64_t all = value.items().size();
      for (const Value& item : value.items()) all = (all ^ hash(item)) * 0x100000001B3U;
      return all;
    }
    case Kind::list:
    case Kind::dict:
    case Kind::view:
      fail(fmt::format("unhashable type: '{}'", type_name(value)));
    default:
      return hash_of(value.object());
  }
}

std::optional<int64_t> length(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::string:
      return static_cast<int64_t>(code_point_count(value.bytes()));
    case Kind::list:
    case Kind::tuple:
      return static_cast<int64_t>(value.items().size());
    case Kind::dict:
      return static_cast<int64_t>(value.dict().items.size());
    case Kind::view:
      return static_cast<int64_t>(value.view().dict->items.size());
    case Kind::range:
      return value.range().count;
    case Kind::loop:
      return value.loop().length();
    default:
      return std::nullopt;
  }
}

namespace {

Pull iterate_string(const Value& value) {
  return [value, at = size_t{0}](Value& item) mutable {
    const std::string& bytes = value.bytes();
    if (at >= bytes.size()) return false;
    const size_t begin = at;
    decode(bytes, at);
    item = Value::string(slice(value.text(), begin, at));
    return true;
  };
}

Pull iterate_dict(std::shared_ptr<const Dict> dict, ViewKind kind) {
  return [dict = std::move(dict), kind, at = size_t{0}](Value& item) mutable {
    if (at >= dict->items.size()) return false;
    const auto& [key, value] = dict->items[at++];
    item = kind == ViewKind::keys     ? key
           : kind == ViewKind::values ? value
                                      : Value::tuple({key, value});
    return true;
  };
}

}  // namespace

Pull iterate(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return [](Value&) { return false; };
    case Kind::string:
      return iterate_string(value);
    case Kind::list:
    case Kind::tuple:
      return [value, at = size_t{0}](Value& item) mutable {
        if (at >= value.items().size()) return false;
        item = value.items()[at++];
        return true;
      };
    case Kind::dict:
      return iterate_dict(std::static_pointer_cast<const Dict>(value.shared()), ViewKind::keys);
    case Kind::view:
      return iterate_dict(value.view().dict, value.view().kind);
    case Kind::range:
      return [value, at = int64_t{0}](Value& item) mutable {
        const Range& range = value.range();
        if (at >= range.count) return false;
        item = Value::integer(range.start + at++ * range.step);
        return true;
      };
    case Kind::generator:
      return [value](Value& item) { return value.generator().pull(item); };
    default:
      fail(fmt::format("'{}' object is not iterable", type_name(value)));
  }
}

bool iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
    case Kind::boolean:
    case Kind::integer:
    case Kind::wide:
    case Kind::real:
    case Kind::attributes:
    case Kind::function:
    case Kind::loop:
      return false;
    default:
      return true;
  }
}

}  // namespace chorus::text::jinja
