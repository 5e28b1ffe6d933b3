// Values of the template language, after Python's: what a variable, an expression or an argument
// holds. Containers are immutable and shared (the sandbox refuses every method that would change
// one); only namespaces, loops and generators have state.
//
// No container is nested deeper than kDepthMax or holds more than kWeightMax values: makers refuse
// it, so printing, comparing and destroying a value may recurse.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/text/jinja/marked.h"
#include "router/text/jinja/wide.h"

namespace chorus::text::jinja {

class Engine;
class Value;

constexpr int kDepthMax = 200;
constexpr int64_t kWeightMax = 4'000'000;

// Thrown inside the engine, caught by ChatTemplate alone: a tree of forty small evaluation
// functions reads badly with an expected<> in each return value.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Kind : uint8_t {
  undefined,
  none,
  boolean,
  integer,
  wide,  // an integer that 64 bits do not hold
  real,
  string,
  list,
  tuple,
  dict,
  view,  // d.keys(), d.values(), d.items()
  range,
  generator,
  attributes,  // namespace()
  loop,
  function,
};

struct Object {
  virtual ~Object() = default;
  int depth = 0;         // of the containers inside
  int64_t weight = 1;    // values inside, shared ones counted each time they occur
  Origin origin = kOwn;  // of the text inside

  void take_in(const Value& child);  // Failure beyond kDepthMax or kWeightMax
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Gives the next item, or false at the end.
using Pull = std::function<bool(Value&)>;

struct List;
struct Dict;
struct View;
struct Range;
struct Generator;
struct Namespace;
struct Loop;
struct Function;

class Value {
 public:
  Value() = default;  // undefined
  static Value undefined(std::string message);
  static Value none();
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value wide(Wide value);  // an `integer` where it fits
  static Value real(double value);
  static Value string(MarkedText text);
  static Value string(std::string_view bytes) { return string(plain(std::string(bytes))); }
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value of(Kind kind, std::shared_ptr<Object> object);
  static Value dict(std::shared_ptr<Dict> dict);
  static Value generator(Pull pull, const Value& source);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_sequence() const { return kind_ == Kind::list || kind_ == Kind::tuple; }
  bool is_integral() const { return kind_ == Kind::integer || kind_ == Kind::boolean; }
  bool is_whole() const { return is_integral() || kind_ == Kind::wide; }
  bool is_number() const { return is_whole() || kind_ == Kind::real; }

  bool as_boolean() const { return number_.integer != 0; }
  int64_t as_integer() const { return number_.integer; }  // of booleans too
  Wide as_wide() const;                                   // of whole numbers
  double as_real() const;                                 // of any number
  const MarkedText& text() const;
  const std::string& bytes() const { return text().bytes; }
  const std::vector<Value>& items() const;  // of list and tuple
  const Dict& dict() const;
  const View& view() const;
  const Range& range() const;
  Generator& generator() const;
  Namespace& attributes() const;
  Loop& loop() const;
  Function& function() const;
  const std::string& undefined_message() const;

  const Object* object() const { return object_.get(); }
  std::shared_ptr<Object> shared() const { return object_; }
  int depth() const { return object_ ? object_->depth : 0; }
  int64_t weight() const { return object_ ? object_->weight : 1; }
  Origin origin() const { return object_ ? object_->origin : kOwn; }

 private:
  Kind kind_ = Kind::undefined;
  union {
    int64_t integer = 0;
    double real;
  } number_;
  std::shared_ptr<Object> object_;
};

struct List : Object {
  std::vector<Value> items;
  bool group = false;  // groupby's named tuple (grouper, list)
};

// Keeps the order of insertion; keys are found through a hash index once there are many.
struct Dict : Object {
  std::vector<std::pair<Value, Value>> items;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(const Value& key, const Value& value);  // Failure where `key` cannot be hashed

 private:
  template <class Match>
  int64_t search(uint64_t hash, Match match) const;
  void grow();
  std::vector<uint32_t> slots_;  // position in items + 1, 0 where free
  std::vector<uint64_t> hashes_;
};

enum class ViewKind { keys, values, items };

struct View : Object {
  std::shared_ptr<const Dict> dict;
  ViewKind kind = ViewKind::keys;
};

struct Range : Object {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
  int64_t count = 0;
};

struct Generator : Object {
  Pull pull;
};

struct Namespace : Object {
  Dict values;
};

struct Function : Object {
  explicit Function(std::string function_name) : name(std::move(function_name)) {}
  virtual Value call(Engine& engine, const Arguments& arguments) = 0;
  // Attributes of callable objects (cycler.next); nothing for plain functions.
  virtual std::optional<Value> attribute(std::string_view) { return std::nullopt; }
  std::string name;
};

// Python's type name: "str", "dict", "NoneType".
std::string_view type_name(const Value& value);
// How Jinja names it in messages about undefined things: "dict object", "None".
std::string described_type(const Value& value);

bool truthy(const Value& value);
bool equal(const Value& left, const Value& right);
bool less(const Value& left, const Value& right, const char* symbol = "<");
bool same_object(const Value& left, const Value& right);
uint64_t hash(const Value& value);  // Failure where Python's hash() has none

// len(); nothing where Python has none.
std::optional<int64_t> length(const Value& value);
// iter(); Failure where Python has none.
Pull iterate(const Value& value);
bool iterable(const Value& value);

[[noreturn]] void fail(std::string message);
[[noreturn]] void fail_undefined(const Value& value);

}  // namespace chorus::text::jinja
