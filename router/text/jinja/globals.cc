// The functions every template sees: Jinja's own, and those that transformers adds.
#include <fmt/format.h>

#include <ctime>

#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/printing.h"
#include "router/text/jinja/tables.h"

namespace chorus::text::jinja {
namespace {

struct GlobalFunction : Function {
  using Body = std::function<Value(Engine&, const Arguments&)>;
  GlobalFunction(std::string_view function_name, Body function_body)
      : Function(std::string(function_name)), body(std::move(function_body)) {}
  Value call(Engine& engine, const Arguments& arguments) override {
    return body(engine, arguments);
  }
  Body body;
};

Value function(std::string_view name, GlobalFunction::Body body) {
  return Value::of(Kind::function, std::make_shared<GlobalFunction>(name, std::move(body)));
}

Value range(Engine&, const Arguments& arguments) {
  const Parameters p(arguments, "range", {"start", "stop", "step"}, 1);
  auto object = std::make_shared<Range>();
  object->start = p.has(1) ? p.integer(0, 0) : 0;
  object->stop = p.has(1) ? p.integer(1, 0) : p.integer(0, 0);
  object->step = p.integer(2, 1);
  if (object->step == 0) fail("range() arg 3 must not be zero");
  // In 128 bits, since start and stop may lie at both ends of the 64.
  const Wide from = object->start;
  const Wide distance = object->step > 0 ? object->stop - from : from - object->stop;
  const Wide step = object->step > 0 ? object->step : -static_cast<Wide>(object->step);
  const Wide count = distance <= 0 ? 0 : (distance - 1) / step + 1;
  if (count > kRangeMax) {
    fail(fmt::format("Range too big. The sandbox blocks ranges larger than {}.", kRangeMax));
  }
  object->count = static_cast<int64_t>(count);
  return Value::of(Kind::range, std::move(object));
}

// dict(mapping or pairs, **more).
void fill(Engine& engine, const Arguments& arguments, Dict& into) {
  if (arguments.positional.size() > 1) fail("dict expected at most 1 argument");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is(Kind::dict)) {
      for (const auto& [key, value] : source.dict().items) into.set(key, value);
    } else {
      for (const Value& pair : engine.collect(source)) {
        const std::vector<Value> parts = engine.collect(pair);
        if (parts.size() != 2) fail("dictionary update sequence element has no length 2");
        into.set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) into.set(Value::string(name), value);
  engine.charge(static_cast<int64_t>(into.items.size()));
}

Value dict(Engine& engine, const Arguments& arguments) {
  auto object = std::make_shared<Dict>();
  fill(engine, arguments, *object);
  return Value::dict(std::move(object));
}

Value make_namespace(Engine& engine, const Arguments& arguments) {
  const Value object = engine.make_namespace();
  Dict& values = object.attributes().values;
  fill(engine, arguments, values);
  for (const auto& item : values.items) {
    if (item.first.is(Kind::string) && item.first.bytes().substr(0, 1) == "_") {
      fail(fmt::format("a namespace takes no attribute that starts with '_': {}",
                       item.first.bytes()));
    }
  }
  return object;
}

// joiner(", "): nothing at the first call, the separator at all others.
Value joiner(Engine&, const Arguments& arguments) {
  const Parameters p(arguments, "joiner", {"sep"});
  const Value separator = p.has(0) ? p[0] : Value::string(", ");
  auto used = std::make_shared<bool>(false);
  return function("joiner", [separator, used](Engine&, const Arguments&) {
    return std::exchange(*used, true) ? separator : Value::string("");
  });
}

struct Cycler : Function, std::enable_shared_from_this<Cycler> {
  explicit Cycler(std::vector<Value> cycled) : Function("cycler"), items(std::move(cycled)) {
    for (const Value& item : items) take_in(item);
  }
  Value call(Engine&, const Arguments&) override { fail("'Cycler' object is not callable"); }
  std::optional<Value> attribute(std::string_view attribute_name) override {
    if (attribute_name == "current") return items[at];
    const auto self = shared_from_this();
    if (attribute_name == "next") {
      return function("next", [self](Engine&, const Arguments&) {
        const Value item = self->items[self->at];
        self->at = (self->at + 1) % self->items.size();
        return item;
      });
    }
    if (attribute_name == "reset") {
      return function("reset", [self](Engine&, const Arguments&) {
        self->at = 0;
        return Value::none();
      });
    }
    return std::nullopt;
  }
  std::vector<Value> items;
  size_t at = 0;
};

Value cycler(Engine&, const Arguments& arguments) {
  if (arguments.positional.empty()) fail("at least one item has to be provided");
  return Value::of(Kind::function, std::make_shared<Cycler>(arguments.positional));
}

Value raise_exception(Engine& engine, const Arguments& arguments) {
  const Parameters p(arguments, "raise_exception", {"message"}, 1);
  fail(engine.text_of(p[0]).bytes);
}

// What Python's strftime() makes of a time without a zone, where the C library would print one.
std::string without_zone(std::string_view format) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out.push_back(format[i]);
      continue;
    }
    const size_t letter = i + (format[i + 1] == ':' && i + 2 < format.size() ? 2 : 1);
    if (format[letter] == 'f') {
      out += "000000";  // microseconds
    } else if (format[letter] != 'z' && format[letter] != 'Z') {
      out.append(format, i, letter - i + 1);
    }
    i = letter;
  }
  return out;
}

// strftime in UTC: a server's answer must not depend on where it stands.
Value strftime_now(Engine& engine, const Arguments& arguments, int64_t now) {
  static const MarkedText empty;
  const Parameters p(arguments, "strftime_now", {"format"}, 1);
  const std::string& format = p.text(0, empty).bytes;
  if (format.size() > 4096) fail("strftime_now() got too long a format");
  const auto seconds = static_cast<time_t>(now);
  tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) fail("the time is out of range");
  std::string text(256 * (format.size() + 1), '\0');
  // A leading blank tells an empty result from one that did not fit.
  const size_t size =
      strftime(text.data(), text.size(), (" " + without_zone(format)).c_str(), &parts);
  if (size == 0) fail("strftime_now() got too long a format");
  return engine.string(plain(text.substr(1, size - 1)));
}

}  // namespace

std::vector<std::pair<std::string_view, Value>> make_globals(int64_t now) {
  const auto time = [now](Engine& engine, const Arguments& arguments) {
    return strftime_now(engine, arguments, now);
  };
  return {
      {"range", function("range", range)},
      {"dict", function("dict", dict)},
      {"namespace", function("namespace", make_namespace)},
      {"joiner", function("joiner", joiner)},
      {"cycler", function("cycler", cycler)},
      {"raise_exception", function("raise_exception", raise_exception)},
      {"strftime_now", function("strftime_now", time)},
  };
}

}  // namespace chorus::text::jinja
