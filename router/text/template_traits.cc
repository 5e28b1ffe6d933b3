#include "router/text/template_traits.h"

#include <algorithm>
#include <vector>

namespace chorus::text {
namespace {

// Words that no template holds and no filter changes.
constexpr const char* kNeedle = "qxneedle";
constexpr const char* kOther = "qxother";
constexpr const char* kCallId = "call00001";  // some templates insist on nine letters and digits

bool holds(const std::string& text, std::string_view wanted) {
  return text.find(wanted) != std::string::npos;
}

Json message(const char* role, Json content) {
  return {{"role", role}, {"content", std::move(content)}};
}

Json parts(const char* text) {
  return Json::array({{{"type", "text"}, {"text", text}}});
}

Json tool(const char* name) {
  return {{"type", "function"},
          {"function",
           {{"name", name},
            {"description", "Does."},
            {"parameters",
             {{"type", "object"},
              {"properties", {{"a", {{"type", "string"}, {"description", "What."}}}}},
              {"required", {"a"}}}}}}};
}

class Probe {
 public:
  Probe(const ChatTemplate& chat_template, std::span<const Variable> fixed)
      : template_(chat_template), fixed_(fixed) {}

  // The text, empty where the template refuses.
  std::string render(const Json& messages, const Json& tools = nullptr) const {
    static const Json nothing;
    static const Json yes = true;
    std::vector<Variable> variables(fixed_.begin(), fixed_.end());
    variables.push_back({.name = "messages", .value = &messages, .outside = true});
    variables.push_back({.name = "tools", .value = &tools, .outside = true});
    variables.push_back({.name = "documents", .value = &nothing, .outside = true});
    variables.push_back({.name = "add_generation_prompt", .value = &yes, .outside = false});
    auto chat = template_.render(variables, 0);
    return chat ? std::move(chat->prompt.text) : std::string();
  }

  // Whether the needle comes out, and not as a piece of printed list.
  bool reads(const Json& messages, const Json& tools = nullptr) const {
    const std::string text = render(messages, tools);
    return holds(text, kNeedle) && !holds(text, "'type': 'text'") &&
           !holds(text, "\"type\": \"text\"") && !holds(text, "\"type\":\"text\"");
  }

 private:
  const ChatTemplate& template_;
  std::span<const Variable> fixed_;
};

// How a conversation with calls has to look.
struct CallShape {
  bool argument_text;
  TemplateTraits::NoContent no_content;
};

Json call_message(const CallShape& shape) {
  const Json arguments = {{"a", kNeedle}};
  const Json call = {{"id", kCallId},
                     {"type", "function"},
                     {"function",
                      {{"name", kOther},
                       {"arguments", shape.argument_text ? Json(arguments.dump()) : arguments}}}};
  Json calling = {{"role", "assistant"}};
  if (shape.no_content == TemplateTraits::NoContent::null) calling["content"] = nullptr;
  if (shape.no_content == TemplateTraits::NoContent::empty) calling["content"] = "";
  calling["tool_calls"] = Json::array({call});
  return calling;
}

Json result_message(Json content) {
  return {{"role", "tool"},
          {"tool_call_id", kCallId},
          {"name", kOther},
          {"content", std::move(content)}};
}

// How well arguments come out: 3 as they are, 2 as Python prints them or quoted twice, 1 not; 0
// where the template refuses.
int quality(const std::string& text) {
  if (text.empty()) return 0;
  if (!holds(text, kNeedle)) return 1;
  return holds(text, std::string("'") + kNeedle + "'") || holds(text, "\\\"a\\\"") ? 2 : 3;
}

void find_calls(const Probe& probe, const Json& user, TemplateTraits& traits) {
  const Json tools = Json::array({tool(kOther)});
  int best = 0;
  using enum TemplateTraits::NoContent;
  for (const bool argument_text : {false, true}) {
    for (const auto no_content : {absent, null, empty}) {
      const Json calling = call_message({argument_text, no_content});
      const int answered =
          quality(probe.render(Json::array({user, calling, result_message("1")}), tools));
      const int open = quality(probe.render(Json::array({user, calling}), tools));
      const int found = 4 * answered + open;
      if (found <= best) continue;
      best = found;
      traits.argument_text = argument_text;
      traits.no_content = no_content;
      traits.tool_calls = std::max(answered, open) > 1;
    }
  }
}

void find_results(const Probe& probe, const Json& user, TemplateTraits& traits) {
  const Json tools = Json::array({tool(kOther)});
  Json calling = call_message({traits.argument_text, traits.no_content});
  Json& arguments = calling["tool_calls"][0]["function"]["arguments"];
  arguments = traits.argument_text ? Json(R"({"a": "b"})") : Json{{"a", "b"}};
  ContentShapes& shapes = traits.content[3];
  shapes.text = probe.reads(Json::array({user, calling, result_message(kNeedle)}), tools);
  shapes.parts = probe.reads(Json::array({user, calling, result_message(parts(kNeedle))}), tools);
  traits.tool_results = shapes.text || shapes.parts;
}

}  // namespace

const ContentShapes& TemplateTraits::content_of(std::string_view role) const {
  const auto at = std::find(kRoles.begin(), kRoles.end(), role);
  return content[at == kRoles.end() ? 1 : static_cast<size_t>(at - kRoles.begin())];
}

TemplateTraits find_traits(const ChatTemplate& chat_template, std::span<const Variable> fixed) {
  const Probe probe(chat_template, fixed);
  TemplateTraits traits;
  auto& [system, user, assistant, tool_results] = traits.content;
  user = {.text = probe.reads(Json::array({message("user", kNeedle)})),
          .parts = probe.reads(Json::array({message("user", parts(kNeedle))}))};
  const Json asking = message("user", user.text || !user.parts ? Json(kOther) : parts(kOther));
  const auto shapes = [&](const char* role, const auto& conversation) {
    return ContentShapes{.text = probe.reads(conversation(message(role, kNeedle))),
                         .parts = probe.reads(conversation(message(role, parts(kNeedle))))};
  };
  const auto first = [&](const Json& shown) { return Json::array({shown, asking}); };
  const auto between = [&](const Json& shown) { return Json::array({asking, shown, asking}); };
  system = shapes("system", first);
  assistant = shapes("assistant", between);
  find_calls(probe, asking, traits);
  find_results(probe, asking, traits);
  traits.developer = holds(chat_template.source(), "developer") && shapes("developer", first).text;
  const Json tools = Json::array({tool(kNeedle)});
  traits.tools =
      holds(probe.render(Json::array({asking}), tools), kNeedle) ||
      holds(probe.render(first(message("system", system.text || !system.parts ? Json(kOther)
                                                                              : parts(kOther))),
                         tools),
            kNeedle);
  // A role that the template refuses is told by the template itself.
  for (ContentShapes& each : traits.content) each.text = each.text || !each.parts;
  return traits;
}

}  // namespace chorus::text
