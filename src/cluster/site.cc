#include "cluster/site.h"

#include <algorithm>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "cluster/authority.h"
#include "cluster/broker.h"
#include "cluster/frame_link.h"
#include "store/sha256.h"
#include "vault/key.h"

namespace hearth::cluster {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{10'000}, kLook{200};
constexpr int kWrongSecretsMax = 5;

fs::path authority(const fs::path& folder) { return folder / "authority.pem"; }
fs::path authority_key(const fs::path& folder) { return folder / "authority.key"; }
fs::path certificate(const fs::path& folder) { return folder / "machine.pem"; }
fs::path key(const fs::path& folder) { return folder / "machine.key"; }

Result<void> write_text(const fs::path& path, std::string_view text) {
  return write_file_atomically(path, std::as_bytes(std::span(text)), 0600);
}

Result<void> make_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(authority(folder), error))
    return fail(Code::kInvalidArgument, "{}: this machine belongs to a site already; remove that folder to leave it",
                folder.string());
  fs::create_directories(folder, error);
  if (!error) fs::permissions(folder, fs::perms::owner_all, error);
  if (error) return fail(Code::kIo, "{}: {}", folder.string(), error.message());
  return {};
}

// In the same time whatever differs.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned differs = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    differs |= static_cast<unsigned>(static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]));
  return differs == 0;
}

}  // namespace

Result<void> make_site(const fs::path& folder, const std::string& machine) {
  TRY(check_machine_name(machine));
  TRY(make_folder(folder));
  const CertificateRequest request = TRY(make_request(machine));
  const fs::path made = folder / "authority.new";
  TRY(write_authority(made, authority_key(folder), "hearth site of " + machine));
  TRY(write_text(key(folder), request.key_pem));
  std::error_code error;
  fs::rename(made, authority(folder), error);
  if (error) return fail(Code::kIo, "{}: {}", authority(folder).string(), error.message());
  return write_text(certificate(folder), TRY(issue_certificate(folder, request.request_pem)));
}

SiteFiles site_files(const fs::path& folder) { return {authority(folder), certificate(folder), key(folder)}; }

Result<std::shared_ptr<SiteTls>> open_site(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(authority(folder), error))
    return fail(Code::kNotFound,
                "{}: this machine belongs to no site; make one with `hearth cluster init`, or join with `hearth node "
                "--join TOKEN` (a token: `hearth cluster invite` where the site was made)",
                folder.string());
  auto tls = TRY(SiteTls::member(authority(folder), certificate(folder), key(folder)));
  if (const std::string list = TRY(read_revoked(folder)); !list.empty())
    TRY(tls->revoked()->take(authority(folder), list));
  return tls;
}

std::string to_text(const Invitation& invitation) {
  return fmt::format("{}/{}/{}", invitation.address, invitation.authority_digest, invitation.secret);
}

Result<Invitation> parse_invitation(std::string_view text) {
  const size_t second = text.rfind('/');
  const size_t first = second == 0 || second == std::string_view::npos ? second : text.rfind('/', second - 1);
  if (first == std::string_view::npos || second == std::string_view::npos)
    return fail(Code::kMalformed, "a token is HOST:PORT/AUTHORITY/SECRET, as `hearth cluster invite` prints it");
  Invitation invitation{.address = std::string(text.substr(0, first)),
                        .authority_digest = std::string(text.substr(first + 1, second - first - 1)),
                        .secret = std::string(text.substr(second + 1))};
  TRY(parse_listen_address(invitation.address));
  if (!is_sha256(invitation.authority_digest) || invitation.secret.empty() ||
      invitation.secret.size() > limits::kFrameTextBytes)
    return fail(Code::kMalformed, "a token that is not whole; copy all of it");
  return invitation;
}

struct InvitationDesk::State {
  fs::path folder;
  std::shared_ptr<SiteTls> tls;
  std::unique_ptr<PeerListener> listener;
  Invitation invitation;
};

InvitationDesk::InvitationDesk(std::unique_ptr<State> state) : state_(std::move(state)) {}
InvitationDesk::~InvitationDesk() = default;
const Invitation& InvitationDesk::invitation() const { return state_->invitation; }

Result<std::unique_ptr<InvitationDesk>> InvitationDesk::open(const fs::path& folder, const ListenAddress& address) {
  std::error_code error;
  if (!fs::exists(authority_key(folder), error))
    return fail(Code::kNotFound, "{}: the authority's key is not here; invite where `hearth cluster init` was run",
                folder.string());
  auto state = std::make_unique<State>();
  state->folder = folder;
  state->tls = TRY(SiteTls::host(authority(folder), certificate(folder), key(folder)));
  state->listener = TRY(PeerListener::listen(address));
  std::array<std::byte, 16> secret{};
  fill_random(secret);
  std::string hex;
  for (const std::byte byte : secret) hex += fmt::format("{:02x}", static_cast<unsigned>(byte));
  const size_t colon = address.text.rfind(':');
  state->invitation = {.address = fmt::format("{}:{}", address.text.substr(0, colon), state->listener->port()),
                       .authority_digest = state->tls->authority_digest(),
                       .secret = std::move(hex)};
  return std::unique_ptr<InvitationDesk>(new InvitationDesk(std::move(state)));
}

Result<std::string> InvitationDesk::wait_for_one(const std::atomic<bool>& interrupted, std::chrono::seconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  int wrong = 0;
  while (!interrupted.load() && std::chrono::steady_clock::now() < end) {
    Descriptor accepted = TRY(state_->listener->accept(kLook));
    if (!accepted) continue;
    auto link = PeerListener::shake_hands(*state_->tls, std::move(accepted), kPatience);
    if (!link) continue;
    FrameReader reader(limits::kPemBytes + limits::kFrameTextBytes + 64);  // it is nobody yet
    const auto frame = next_frame(**link, reader, kPatience);
    const auto* enrol = frame ? std::get_if<Enrol>(&frame->message) : nullptr;
    if (!enrol) continue;
    const bool right = same_secret(enrol->secret, state_->invitation.secret);
    const auto signed_pem =
        right ? issue_certificate(state_->folder, enrol->request_pem)
              : Result<std::string>(fail(Code::kInvalidArgument, "the token is not valid, or was used"));
    if (signed_pem) {
      const std::string own = TRY(read_file(authority(state_->folder), limits::kPemBytes));
      std::string brokers;
      for (const std::string& each : TRY(site_brokers(state_->folder))) brokers += each + "\n";
      const std::string revoked = TRY(read_revoked(state_->folder));
      TRY((*link)->send_all(to_bytes({0, 0, Enrolled{*signed_pem, own, brokers, revoked}}), kPatience));
      const auto done = next_frame(**link, reader, kPatience);  // its name, once it has written all
      const auto* name = done ? std::get_if<Failure>(&done->message) : nullptr;
      return name ? name->message : std::string("a machine");
    }
    (void)(*link)->send_all(to_bytes({0, 0, Failure{Failure::Of::kMachine, signed_pem.error().message}}), kPatience);
    if (!right && ++wrong == kWrongSecretsMax)
      return fail(Code::kLimit, "{} machines came with a wrong token; invite anew", wrong);
  }
  return fail(Code::kCancelled, "nobody joined");
}

Result<void> join_site(const fs::path& folder, const Invitation& invitation, const std::string& machine) {
  TRY(check_machine_name(machine));
  TRY(make_folder(folder));
  const auto tls = TRY(SiteTls::guest(invitation.authority_digest));
  const ListenAddress address = TRY(parse_listen_address(invitation.address));
  const auto link = TRY(PeerLink::dial(*tls, address, kPatience));
  const CertificateRequest request = TRY(make_request(machine));
  TRY(link->send_all(to_bytes({0, 0, Enrol{invitation.secret, request.request_pem}}), kPatience));
  FrameReader reader;
  const Frame frame = TRY(next_frame(*link, reader, kPatience));
  if (const auto* failure = std::get_if<Failure>(&frame.message))
    return fail(Code::kInvalidArgument, "{}", failure->message);
  const auto* enrolled = std::get_if<Enrolled>(&frame.message);
  if (!enrolled) return fail(Code::kMalformed, "{}: no answer to a request to join", invitation.address);
  TRY(write_text(key(folder), request.key_pem));
  TRY(write_text(certificate(folder), enrolled->certificate_pem));
  TRY(write_text(folder / "authority.new", enrolled->authority_pem));
  if (TRY(certificate_digest(folder / "authority.new")) != invitation.authority_digest)
    return fail(Code::kCorrupt, "{}: that is not the authority of the token", invitation.address);
  if (!enrolled->brokers.empty()) TRY(write_text(folder / "brokers", enrolled->brokers));
  if (!enrolled->revoked_pem.empty()) TRY(write_text(folder / "revoked.pem", enrolled->revoked_pem));
  std::error_code error;
  fs::rename(folder / "authority.new", authority(folder), error);
  if (error) return fail(Code::kIo, "{}: {}", authority(folder).string(), error.message());
  TRY(open_site(folder));
  (void)link->send_all(to_bytes({0, 0, Failure{Failure::Of::kMachine, machine}}), kPatience);
  return {};
}

}  // namespace hearth::cluster
