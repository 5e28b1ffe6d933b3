// The page behind GET /docs. It fetches /openapi.json and draws it; nothing comes from elsewhere.
#pragma once

#include <string_view>

namespace chorus::api {

extern const std::string_view kDocsPage;

}  // namespace chorus::api
