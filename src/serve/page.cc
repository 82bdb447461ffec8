// GET / and /web/{name}: the page for people.
#include <algorithm>

#include "serve/all.h"
#include "serve/page_files.h"

namespace hearth::serve {
namespace {

// The page loads nothing from elsewhere, runs no script but its own files, turns no text into HTML, and is framed by nobody.
constexpr std::string_view kPolicy =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

void send(const RouteCall& call, std::string_view name) {
  const auto files = page_files();
  const auto file = std::ranges::find(files, name, &EmbeddedFile::name);
  if (file == files.end()) return reply_error(call, Error{Code::kNotFound, "the page has no such file"});
  HttpHeaders headers{{"ETag", std::string(file->tag)},
                      {"Cache-Control", "no-cache"},  // asked for each time, sent if it has changed
                      {"Content-Security-Policy", std::string(kPolicy)},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Resource-Policy", "same-origin"},
                      {"Vary", "Accept"}};
  if (call.exchange->request().header("if-none-match") == file->tag)
    return call.exchange->reply(304, file->content_type, {}, std::move(headers));
  call.exchange->reply(200, file->content_type, std::string(file->bytes.begin(), file->bytes.end()),
                       std::move(headers));
}

// Browsers name text/html; Ollama's clients look whether the root says that it runs.
void root(Server&, RouteCall call) {
  if (call.exchange->request().header("accept").find("text/html") != std::string_view::npos)
    return send(call, "index.html");
  call.exchange->reply(200, "text/plain; charset=utf-8", "Ollama is running", {{"Vary", "Accept"}});
}

void file(Server&, RouteCall call) { send(call, call.parameters.at(0)); }

}  // namespace

const Route kPage{"GET", "/", Access::kOpen, Dialect::kOllama, root};
const Route kPageFile{"GET", "/web/{name}", Access::kOpen, Dialect::kOpenAi, file};

}  // namespace hearth::serve
