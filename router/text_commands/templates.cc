// render and lint.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "modelfile/chat_templates.h"
#include "modelfile/error.h"
#include "process/exit_codes.h"
#include "router/text/chat_template.h"
#include "router/text/conversation.h"
#include "router/text/template_traits.h"
#include "router/text/tokenizer.h"
#include "router/text_commands/command.h"

namespace chorus::text_commands {
namespace {

using text::ChatTemplate;
using text::Variable;

modelfile::ChatTemplates read_templates(const Flags& flags) {
  if (flags.model_id.empty() && flags.template_file.empty()) {
    throw process::StartError(process::ExitCode::usage,
                              "--template or --model-id is missing: one of them is needed");
  }
  modelfile::ChatTemplates templates;
  if (!flags.model_id.empty()) templates = modelfile::read_chat_templates(flags.model_id);
  if (!flags.template_file.empty()) {
    templates.sources = modelfile::read_chat_template_file(flags.template_file);
  }
  if (templates.empty()) {
    throw process::StartError(process::ExitCode::model_missing,
                              flags.model_id + " brings no chat template");
  }
  return templates;
}

int64_t seconds_now() {
  using namespace std::chrono;
  return duration_cast<seconds>(system_clock::now().time_since_epoch()).count();
}

Json failed_rendering(const text::TemplateError& error) {
  Json answer = failed(error.message);
  if (error.line > 0) answer["line"] = error.line;
  if (error.message_index >= 0) answer["message"] = error.message_index;
  return answer;
}

// Renders variables as transformers' render_jinja_template() does.
class Renderer {
 public:
  Renderer(const modelfile::ChatTemplates& templates, std::optional<int64_t> now) : now_(now) {
    for (const auto& [name, token] : templates.special_tokens) tokens_[name] = token;
    for (const modelfile::ChatTemplateSource& source : templates.sources) {
      auto parsed = ChatTemplate::parse(source.text);
      if (!parsed) {
        throw process::StartError(process::ExitCode::model_corrupt,
                                  fmt::format("{}, line {}: {}", source.file, parsed.error().line,
                                              parsed.error().message));
      }
      templates_.emplace_back(source.name, std::move(*parsed));
    }
  }

  Json answer(Json variables) const {
    const auto tools = variables.find("tools");
    const ChatTemplate* chosen = choose(tools != variables.end() && !tools->is_null());
    if (chosen == nullptr) return failed("there is no template named \"default\"");
    const Json going_on = taken(variables, "continue_final_message");
    const auto messages = variables.find("messages");
    std::optional<text::Continuation> continuation;
    if (messages != variables.end() && messages->is_array()) {
      text::name_reasoning(*messages);
      if (going_on.is_string() || going_on == true) {
        const std::string field = going_on.is_string() ? going_on.get<std::string>() : "content";
        auto begun = text::Continuation::begin(*messages, field, chosen->source());
        if (!begun) return failed_rendering(begun.error());
        continuation.emplace(std::move(*begun));
      }
    }
    auto chat = chosen->render(list(variables), now_.value_or(seconds_now()));
    if (!chat) return failed_rendering(chat.error());
    if (continuation) {
      if (const auto error = continuation->cut(*chat)) return failed_rendering(*error);
    }
    return {{"text", std::move(chat->prompt.text)}};
  }

 private:
  const ChatTemplate* choose(bool with_tools) const {
    const ChatTemplate* found = nullptr;
    for (const auto& [name, each] : templates_) {
      if (name == "default" && found == nullptr) found = &each;
      if (name == "tool_use" && with_tools) found = &each;
    }
    return found;
  }

  static Json taken(Json& variables, const char* name) {
    const auto found = variables.find(name);
    if (found == variables.end()) return nullptr;
    Json value = std::move(*found);
    variables.erase(found);
    return value;
  }

  // Those that are always there first; later ones of the same name count.
  std::vector<Variable> list(const Json& variables) const {
    static const Json nothing;
    static const Json no = false;
    std::vector<Variable> all = {{.name = "tools", .value = &nothing, .outside = true},
                                 {.name = "documents", .value = &nothing, .outside = true},
                                 {.name = "add_generation_prompt", .value = &no, .outside = false}};
    for (const auto& [name, token] : tokens_.items()) {
      all.push_back({.name = name, .value = &token, .outside = false});
    }
    for (const auto& [name, value] : variables.items()) {
      all.push_back({.name = name, .value = &value, .outside = true});
    }
    return all;
  }

  std::optional<int64_t> now_;
  Json tokens_ = Json::object();
  std::vector<std::pair<std::string, ChatTemplate>> templates_;
};

Json shapes(const text::ContentShapes& content) {
  Json names = Json::array();
  if (content.text) names.push_back("text");
  if (content.parts) names.push_back("parts");
  return names;
}

Json reads(const text::TemplateTraits& traits) {
  Json content = Json::object();
  for (size_t i = 0; i < traits.content.size(); ++i) {
    content[std::string(text::TemplateTraits::kRoles[i])] = shapes(traits.content[i]);
  }
  return {{"content", std::move(content)},
          {"developer", traits.developer},
          {"tools", traits.tools},
          {"tool_calls", traits.tool_calls},
          {"tool_results", traits.tool_results},
          {"arguments", traits.argument_text ? "text" : "object"}};
}

void print(const Json& line) {
  std::fputs((line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n").c_str(), stdout);
}

bool lint_template(const modelfile::ChatTemplateSource& source,
                   const std::vector<Variable>& fixed) {
  Json line = {{"file", source.file}, {"template", source.name}};
  const auto parsed = ChatTemplate::parse(source.text);
  if (parsed) {
    line["reads"] = reads(text::find_traits(*parsed, fixed));
  } else {
    line["line"] = parsed.error().line;
    line["error"] = parsed.error().message;
  }
  print(line);
  return parsed.has_value();
}

bool lint_templates(const Flags& flags) {
  modelfile::ChatTemplates templates = read_templates(flags);
  if (templates.special_tokens.empty()) {  // of a template alone
    templates.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  }
  std::vector<Json> tokens;
  for (const auto& [name, token] : templates.special_tokens) tokens.emplace_back(token);
  std::vector<Variable> fixed;
  for (size_t i = 0; i < tokens.size(); ++i) {
    fixed.push_back(
        {.name = templates.special_tokens[i].first, .value = &tokens[i], .outside = false});
  }
  bool sound = true;
  for (const auto& source : templates.sources) sound = lint_template(source, fixed) && sound;
  return sound;
}

}  // namespace

Answer make_render(const Flags& flags) {
  auto renderer = std::make_shared<const Renderer>(read_templates(flags), flags.now);
  return [renderer](const Json& request) { return renderer->answer(request); };
}

int lint(const Flags& flags) {
  bool sound = lint_templates(flags);
  if (!flags.model_id.empty()) {
    try {
      const auto tokenizer = text::load_tokenizer(flags.model_id);
      print({{"file", flags.model_id}, {"tokens", tokenizer->size()}});
    } catch (const modelfile::FileError& error) {  // told as a finding, like a template's
      print({{"file", flags.model_id}, {"error", error.what()}});
      sound = false;
    }
  }
  return static_cast<int>(sound ? process::ExitCode::ended_as_asked
                                : process::ExitCode::model_corrupt);
}

}  // namespace chorus::text_commands
