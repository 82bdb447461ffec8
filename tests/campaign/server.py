"""The server under test and connections to it, for the campaigns. Only Python's standard library."""
import asyncio, json, os, re, signal, socket, struct, subprocess, tempfile, time


class Failed(Exception):
    """What the campaign looks for."""


def model_file():
    """$HEARTH_TEST_MODEL, or the tiny model of the store."""
    store = os.environ.get("HEARTH_HOME") or os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "hearth")
    return os.environ.get("HEARTH_TEST_MODEL") or os.path.join(store, "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf")


def model_name(path):
    return os.path.basename(path).removesuffix(".gguf")


class Home:
    """A store for one campaign, with keys for `tenants` and one, `boss`, that may read metrics. Removed at the end."""

    def __init__(self, hearth, tenants):
        self.hearth, self.folder = hearth, tempfile.TemporaryDirectory()
        self.environment = dict(os.environ, HEARTH_HOME=self.folder.name)
        self.keys = {name: self._key(name) for name in tenants}
        self.boss = self._key("boss", "--admin")

    def _key(self, name, *options):
        command = [self.hearth, "key", "add", name, *options]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()


class Server:
    """`hearth serve`, until the `with` ends; it has to start and to end well."""

    def __init__(self, home, models, *options):
        self.home, self.keys, self.boss = home, home.keys, home.boss
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log_path = os.path.join(home.folder.name, "server.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [home.hearth, "serve", *models, "--listen", f"127.0.0.1:{self.port}", "--require-key", "--log-format", "json", *options],
                stdout=log, stderr=log, env=home.environment)
        self._wait_until_ready()

    def _wait_until_ready(self):
        deadline = time.monotonic() + 120
        while "Listening on" not in self.log():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed("the server did not start: " + self.log()[-2000:])
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed("the server did not end within 60 s of SIGTERM")
        if code != 0:
            raise Failed(f"the server ended with {code}: " + self.log()[-2000:])

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def metrics(self):
        """Every sample of /metrics, those of several models added up."""
        connection = Connection(self.port)
        try:
            await connection.send(request_bytes("GET", "/metrics", self.boss))
            reply = await connection.reply()
            found = {}
            for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", (await reply.body()).decode(), re.M):
                found[name] = found.get(name, 0) + float(value)
            return found
        finally:
            connection.close()


def request_bytes(method, path, key, body=None, content_type="application/json"):
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    if body is not None:
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(payload)}\r\n"
    return head.encode() + b"\r\n" + payload


class Connection:
    """One connection; requests on it one after the other."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def open(self):
        if self.writer is not None and self.reader.at_eof():  # the server closed it between requests, after its idle time
            self.close()
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, data):
        await self.open()
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return Reply(self, int(head[0].split()[1]), headers)

    def close(self, rudely=False):
        """`rudely`: with a reset, as from a program that was killed."""
        if self.writer is None:
            return
        if rudely:
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        self.writer.close()
        self.reader = self.writer = None


class Reply:
    def __init__(self, connection, status, headers):
        self.connection, self.status, self.headers = connection, status, headers

    async def pieces(self):
        """The body as it comes in. Raises IncompleteReadError if it is cut off."""
        reader = self.connection.reader
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        elif size := int(self.headers.get("content-length", 0)):
            yield await reader.readexactly(size)
        if self.headers.get("connection", "").lower() == "close":
            self.connection.close()

    async def body(self):
        return b"".join([piece async for piece in self.pieces()])


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def finish(what, counts, failures):
    """Prints the row of docs/campaigns.md as last line; the exit code."""
    for failure in failures[:20]:
        print("FAILED:", failure, flush=True)
    print(f"row: {what} | {counts} | {'clean' if not failures else f'FAILED: {len(failures)}, first: {failures[0]}'[:200]}")
    return 1 if failures else 0
