// HTML escaping, for `|e` and for text joined with Markup.
#pragma once

#include "router/text/jinja/marked.h"

namespace chorus::text::jinja {

// & < > ' " as entities, marked as Markup; text that is Markup already stays as it is.
MarkedText escaped(const MarkedText& text);

}  // namespace chorus::text::jinja
