// The properties of a request's body together with what is done with each: tables of Field. A
// reader is called with values that have the property's shape.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "router/api/shape.h"

namespace chorus::api {

template <class Request>
struct Field {
  Property property;
  Failure (*read)(Request&, const Json&, const Path&) = nullptr;  // of the used ones
};

template <class Request>
const Field<Request>* find_field(std::span<const Field<Request>> fields, std::string_view name) {
  for (const Field<Request>& field : fields) {
    if (field.property.name == name) return &field;
  }
  return nullptr;
}

template <class Request>
Failure read_field(const Field<Request>& field, Request& request, const Json& value,
                   const Path& path) {
  if (Failure failure = check(field.property, value, path)) return failure;
  if (field.property.use != Use::used || field.read == nullptr) return {};
  return field.read(request, value, path);
}

template <class Request>
Failure find_missing(std::span<const Field<Request>> fields, const Json& object, const Path& path) {
  for (const Field<Request>& field : fields) {
    if (!field.property.required || find(object, field.property.name) != nullptr) continue;
    return invalid(Path{.parent = &path, .key = field.property.name}, "is required");
  }
  return {};
}

// Reads the object's keys by the request's own table and by the one that it shares with others
// (whose request type is a base class). What is not in either is ignored.
template <class Request, class Shared>
Failure read_fields(const Json& object, Request& request, std::span<const Field<Request>> own,
                    std::span<const Field<Shared>> shared, const Path& path = {}) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_null()) continue;
    const Path at{.parent = &path, .key = key};
    Failure failure;
    if (const Field<Request>* field = find_field(own, key)) {
      failure = read_field(*field, request, value, at);
    } else if (const Field<Shared>* other = find_field(shared, key)) {
      failure = read_field<Shared>(*other, request, value, at);
    }
    if (failure) return failure;
  }
  if (Failure failure = find_missing(own, object, path)) return failure;
  return find_missing(shared, object, path);
}

template <class Request>
Failure read_fields(const Json& object, Request& request, std::span<const Field<Request>> own,
                    const Path& path = {}) {
  return read_fields<Request, Request>(object, request, own, {}, path);
}

// The body as an object, or what it is instead.
tl::expected<Json, Error> parse_body(std::string_view body);

// ---- readers that store ----

template <class Value>
void assign(Value& target, const Json& value) {
  target = value.get<Value>();
}
template <class Value>
void assign(std::optional<Value>& target, const Json& value) {
  target = value.get<Value>();
}
inline void assign(Json& target, const Json& value) {
  target = value;
}

template <class Member>
struct MemberClass;
template <class Value, class Class>
struct MemberClass<Value Class::*> {
  using type = Class;
};

template <auto Member>
Failure store(typename MemberClass<decltype(Member)>::type& request, const Json& value,
              const Path&) {
  assign(request.*Member, value);
  return {};
}

// ---- rows ----

template <class Request>
using Reader = Failure (*)(Request&, const Json&, const Path&);

// Makes the rows of one request's table.
template <class Request>
struct Rows {
  using Row = Field<Request>;

  static Row number(std::string_view name, Shape shape, std::string_view help,
                    Reader<Request> read) {
    shape.types = kNumber;
    return {{.name = name, .shape = shape, .help = help}, read};
  }
  static Row integer(std::string_view name, double min, double max, std::string_view help,
                     Reader<Request> read) {
    return {{.name = name, .shape = {.types = kInteger, .min = min, .max = max}, .help = help},
            read};
  }
  static Row flag(std::string_view name, std::string_view help, Reader<Request> read) {
    return {{.name = name, .shape = {.types = kBoolean}, .help = help}, read};
  }
  static Row refused(std::string_view name, Types types, std::string_view why,
                     std::string_view neutral) {
    return {{.name = name,
             .shape = {.types = types},
             .help = why,
             .use = Use::refused,
             .neutral = neutral}};
  }
  static Row ignored(std::string_view name, std::string_view help) {
    return {{.name = name, .help = help, .use = Use::ignored}};
  }
};

}  // namespace chorus::api
