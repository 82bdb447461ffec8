#include "serve/access.h"

#include <algorithm>
#include <cmath>

namespace hearth::serve {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

// Without port and without the dot that may end a name.
std::string host_name(std::string_view host) {
  if (host.starts_with('[')) return lower(host.substr(0, std::min(host.find(']'), host.size() - 1) + 1));
  host = host.substr(0, std::min(host.find(':'), host.size()));
  if (host.ends_with('.')) host.remove_suffix(1);
  return lower(host);
}

bool is_number(std::string_view host) {
  return host.starts_with('[') ||
         (!host.empty() && std::ranges::all_of(host, [](char c) { return c == '.' || (c >= '0' && c <= '9'); }));
}

std::string_view key_of(const HttpRequest& request) {
  const std::string_view authorization = request.header("authorization");
  if (lower(authorization.substr(0, 7)) == "bearer ") return authorization.substr(7);
  return request.header("x-api-key");
}

Identity identity_of(const KeyEntry& entry) {
  return {.tenant = entry.name,
          .models = entry.rights.models,
          .class_max = parse_request_class(entry.rights.class_max).value_or(RequestClass::kBatch),
          .admin = entry.rights.admin,
          .key_sha256 = entry.sha256};
}

std::unexpected<Refusal> refuse(int status, Code code, std::string message) {
  return std::unexpected(Refusal{.status = status, .error = {code, std::move(message)}});
}

}  // namespace

bool is_allowed_host(std::string_view host, const std::vector<std::string>& allowed) {
  const std::string name = host_name(host);
  return name.empty() || is_number(name) || name == "localhost" || name.ends_with(".localhost") ||
         std::ranges::any_of(allowed, [&](const std::string& each) { return each == "*" || lower(each) == name; });
}

bool is_same_origin(const HttpRequest& request) {
  const std::string_view origin = request.header("origin");
  if (!origin.empty()) return lower(origin) == (request.tls ? "https://" : "http://") + lower(request.host);
  // Images and scripts of other pages come without an Origin; following a link here is no harm.
  const bool navigation = request.header("sec-fetch-mode") == "navigate" && request.method == "GET";
  return request.header("sec-fetch-site") != "cross-site" || navigation;
}

Result<std::unique_ptr<AccessGuard>> AccessGuard::create(AccessOptions options, Clock clock) {
  std::unique_ptr<AccessGuard> guard(new AccessGuard(std::move(options), std::move(clock)));
  TRY(guard->reload());
  return guard;
}

Result<void> AccessGuard::reload() {
  if (options_.key_file.empty()) return {};
  auto fresh = std::make_shared<const KeyRing>(TRY(KeyRing::open(options_.key_file)));
  const std::scoped_lock lock(mutex_);
  keys_ = std::move(fresh);
  return {};
}

size_t AccessGuard::keys() const {
  const std::scoped_lock lock(mutex_);
  return keys_ ? keys_->entries().size() : 0;
}

std::string AccessGuard::allowed_origin(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  const bool allowed = std::ranges::any_of(
      options_.allow_origins, [&](const std::string& each) { return each == "*" || lower(each) == lower(origin); });
  return allowed ? std::string(origin) : std::string();
}

std::expected<void, Refusal> AccessGuard::admit_origin(const HttpRequest& request) const {
  if (!is_allowed_host(request.host, options_.allow_hosts)) {
    return refuse(403, Code::kInvalidArgument,
                  fmt::format("this server is not called {}; start it with --allow-host to add a name",
                              request.host.substr(0, 100)));
  }
  if (!is_same_origin(request) && allowed_origin(request).empty()) {
    return refuse(403, Code::kInvalidArgument,
                  "pages of other origins may not ask; start the server with --allow-origin to add one");
  }
  return {};
}

std::expected<Identity, Refusal> AccessGuard::admit(const HttpRequest& request, Access access) const {
  if (auto origin = admit_origin(request); !origin) return std::unexpected(origin.error());
  if (request.door != (access == Access::kDoor))
    return refuse(403, Code::kInvalidArgument, "this is asked by machines of the site, at their own address");
  if (request.door) return Identity{.tenant = "site"};
  std::shared_ptr<const KeyRing> keys;
  {
    const std::scoped_lock lock(mutex_);
    keys = keys_;
  }
  const std::string_view key = key_of(request);
  const KeyEntry* entry = keys && !key.empty() ? keys->find(key) : nullptr;
  // Clients for this machine often send a key that they had to be given and that means nothing.
  const bool needed = access != Access::kOpen && (!request.local || options_.always_key);
  if (!entry && needed) {
    return refuse(401, Code::kInvalidArgument,
                  key.empty() ? "a key is needed: Authorization: Bearer KEY" : "the key is not known");
  }
  Identity identity = entry ? identity_of(*entry)
                            : Identity{.tenant = "local", .models = {}, .admin = !needed && access != Access::kOpen};
  if (access == Access::kAdmin && !identity.admin)
    return refuse(403, Code::kInvalidArgument, "this needs a key with admin rights");
  return identity;
}

void AccessGuard::Bucket::fill(double per_minute, std::chrono::steady_clock::time_point now) {
  level = std::min(per_minute, level + per_minute * std::chrono::duration<double>(now - filled).count() / 60);
  filled = now;
}

std::expected<void, Refusal> AccessGuard::begin(const Identity& identity) {
  const std::scoped_lock lock(mutex_);
  const auto entry = keys_ ? std::ranges::find(keys_->entries(), identity.tenant, &KeyEntry::name)
                           : decltype(keys_->entries().begin()){};
  if (!keys_ || entry == keys_->entries().end()) return {};
  const KeyRights& rights = entry->rights;
  Use& use = uses_[identity.tenant];
  const auto now = clock_();
  if (std::exchange(use.fresh, false)) {
    use.requests = {static_cast<double>(rights.requests_per_minute), now};
    use.tokens = {static_cast<double>(rights.tokens_per_minute), now};
  }
  use.requests.fill(rights.requests_per_minute, now);
  use.tokens.fill(static_cast<double>(rights.tokens_per_minute), now);
  const auto limited = [](double missing, double per_minute, std::string_view what) -> std::unexpected<Refusal> {
    const int seconds = static_cast<int>(std::ceil(std::max(missing * 60 / per_minute, 1.0)));
    return std::unexpected(
        Refusal{429,
                {Code::kBusy, fmt::format("more than {} {} a minute; try again in {} s", per_minute, what, seconds)},
                seconds});
  };
  if (rights.concurrent > 0 && use.running >= rights.concurrent) {
    return std::unexpected(
        Refusal{429, {Code::kBusy, fmt::format("more than {} requests at once", rights.concurrent)}, 1});
  }
  if (rights.requests_per_minute > 0 && use.requests.level < 1)
    return limited(1 - use.requests.level, rights.requests_per_minute, "requests");
  if (rights.tokens_per_minute > 0 && use.tokens.level <= 0)
    return limited(1 - use.tokens.level, static_cast<double>(rights.tokens_per_minute), "tokens");
  use.requests.level -= 1;
  ++use.running;
  return {};
}

void AccessGuard::done(const Identity& identity, int64_t tokens) {
  const std::scoped_lock lock(mutex_);
  const auto use = uses_.find(identity.tenant);
  if (use == uses_.end()) return;
  use->second.tokens.level -= static_cast<double>(tokens);
  if (use->second.running > 0) --use->second.running;
}

}  // namespace hearth::serve
