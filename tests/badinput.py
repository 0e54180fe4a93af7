"""Hostile and broken callers, over raw sockets: each gets a clear error in its dialect, in bounded memory, and harms nobody else.

Also what an operator does to a running gateway: stop it, reload it, and lose a vendor under load.
"""

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "blackbox"))

import ask
import cells
import rig

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
BODY_LIMIT = 256 << 10
# Far above what the limits below allow, far below what an unbounded reader would take.
MEMORY_KIB = 400 << 10
KEY = "hf-caller-canary"
VENDOR_KEY = "sk-vendor-canary"


def provider(name, sim, dialect="openai"):
    base = f"http://127.0.0.1:{sim.port}" + ("/v1" if dialect == "openai" else "")
    return {"name": name, "kind": dialect, "base_url": base, "key": VENDOR_KEY, "domain": name}


def config(sim, **more):
    base = {
        "providers": [provider("openai", sim), provider("anthropic", sim, "anthropic")],
        "routes": [
            {"model": "gpt-test", "targets": ["openai/sim-ok"]},
            {"model": "claude-test", "targets": ["anthropic/sim-ok"]},
        ],
        "defaults": {"timeouts": cells.TIMEOUTS, "attempts_per_target": 1},
        "limits": {"body_bytes": BODY_LIMIT, "header_timeout": "1s", "body_timeout": "1s"},
    }
    return {**base, **more}


def exchange(port, data, patience=15.0, half_close=False, to_the_end=False):
    """Sends raw bytes and reads one response, or `to_the_end` all that comes until the other side closes or is silent.
    Returns (status or None, everything read)."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as wire:
        def send():
            try:
                wire.sendall(data)
                if half_close:
                    wire.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before all was sent: what it answered is still read

        # The server may answer and close while a large body is still on its way.
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        read = b""
        try:
            while True:
                piece = wire.recv(65536)
                if not piece:
                    break
                read += piece
                if complete(read) and not to_the_end:
                    break
        except OSError:
            pass
    return status_of(read), read


def status_of(read):
    first = read.split(b"\r\n", 1)[0].split(b" ")
    return int(first[1]) if len(first) > 1 and first[0].startswith(b"HTTP/1") and first[1].isdigit() else None


def complete(read):
    """Whether one response with a length is all there."""
    head, gap, body = read.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return bool(gap) and len(body) >= int(value)
    return bool(gap) and b"transfer-encoding" in head.lower() and body.endswith(b"0\r\n\r\n")


def post(path, body, extra="", length=None):
    length = len(body) if length is None else length
    return (f"POST {path} HTTP/1.1\r\nHost: holdfast\r\nContent-Type: application/json\r\nConnection: close\r\n{extra}"
            f"Content-Length: {length}\r\n\r\n").encode() + body


def question(model="gpt-test", text="hi [[seed:3 words:20]]", **more):
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 500, **more}).encode()


def check_error(read, path, *statuses):
    """One HTTP error of one of these statuses, with the body of the path's dialect and without any secret."""
    status = status_of(read)
    assert status in statuses, f"{status} instead of {statuses}: {read[:400]!r}"
    body = read.partition(b"\r\n\r\n")[2]
    try:
        error = json.loads(body)
    except ValueError:
        raise rig.Failed(f"the error {status} has no JSON body: {read[:400]!r}") from None
    assert isinstance(error.get("error"), dict) and error["error"].get("message") and error["error"].get("type"), error
    if path == MESSAGES:
        assert error.get("type") == "error", f"not the Anthropic form: {error}"
    assert b"canary" not in read, "a key stands in an error"
    return error


def serve(gateway, tests):
    """The tests of one gateway, each given it; after each it still answers, and at the end its memory and its log are looked at."""
    def wrapped(test):
        def run():
            test(gateway)
            assert gateway.child.poll() is None, f"the gateway ended: {gateway.log()[-2000:]}"
            status, read = exchange(gateway.port, post(CHAT, question(), f"authorization: Bearer {KEY}\r\n"))
            assert status == 200 and b"#sum:" in read, f"it does not serve any more: {read[:300]!r}"

        run.__name__ = test.__name__
        return run

    def all_of_that_in_bounded_memory():
        peak = gateway.memory_kib()
        assert peak < MEMORY_KIB, f"the resident memory peaked at {peak} KiB"
        assert "panicked" not in gateway.log(), gateway.log()[-2000:]
        assert "canary" not in gateway.log(), "a key stands in the log"

    return [*(wrapped(test) for test in tests), all_of_that_in_bounded_memory]


# === Bodies ===

def a_body_over_the_limit(gateway):
    big = question(text="x" * (BODY_LIMIT + 1))
    for path in (CHAT, MESSAGES):
        error = check_error(exchange(gateway.port, post(path, big))[1], path, 413)
        if path == MESSAGES:
            assert error["error"]["type"] == "request_too_large", error
        # Only announced: refused without reading it.
        check_error(exchange(gateway.port, post(path, b"{", length=1 << 40))[1], path, 413)


def a_chunked_body_over_the_limit(gateway):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for path in (CHAT, MESSAGES):
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        check_error(exchange(gateway.port, head + chunk * 200 + b"0\r\n\r\n")[1], path, 413)


def bodies_that_are_no_request(gateway):
    for body in (b"", b"{", b"null", b"[]", b'"text"', b"{}", b"not json", b'{"model":7,"messages":[]}', b'{"model":"gpt-test"',
                 b'{"messages":[]}', b"\x00\x00\x00", b"\xef\xbb\xbf", question() + b"{}"):
        for path in (CHAT, MESSAGES):
            check_error(exchange(gateway.port, post(path, body))[1], path, 400)


def bytes_that_are_no_utf8(gateway):
    for broken in (b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"):
        for path in (CHAT, MESSAGES):
            check_error(exchange(gateway.port, post(path, question().replace(b"hi ", b"hi " + broken)))[1], path, 400)


def deep_json(gateway):
    for depth in (1000, 100_000):
        for body in (b'{"model":"gpt-test","messages":' + b"[" * depth + b"]" * depth + b"}",
                     b'{"model":"gpt-test","messages":[],"x":' + b'{"a":' * (depth // 8) + b"1" + b"}" * (depth // 8) + b"}",
                     b'{"model":"gpt-test","messages":' + b"[" * depth):
            for path in (CHAT, MESSAGES):
                check_error(exchange(gateway.port, post(path, body))[1], path, 400)


def duplicate_keys(gateway):
    for body in (b'{"model":"gpt-test","model":"claude-test","messages":[{"role":"user","content":"hi"}],"max_tokens":9}',
                 b'{"model":"gpt-test","stream":false,"stream":true,"messages":[{"role":"user","content":"hi"}],"max_tokens":9}',
                 b'{"model":"gpt-test","\\u006dodel":"claude-test","messages":[{"role":"user","content":"hi"}],"max_tokens":9}'):
        for path in (CHAT, MESSAGES):
            check_error(exchange(gateway.port, post(path, body))[1], path, 400)


# === Heads ===

def ten_thousand_headers(gateway):
    extra = "".join(f"x-h-{number}: v\r\n" for number in range(10_000))
    status, read = exchange(gateway.port, post(CHAT, question(), extra))
    assert status in (400, 431), read[:300]


def a_header_without_end(gateway):
    status, read = exchange(gateway.port, b"GET / HTTP/1.1\r\nHost: h\r\nx: " + b"a" * (8 << 20))
    assert status in (400, 431) or not read, read[:300]


def slow_headers(gateway):
    """Two hundred callers that never finish their head are shown out, and others are served meanwhile."""
    slow = [socket.create_connection(("127.0.0.1", gateway.port), timeout=20) for _ in range(200)]
    try:
        for wire in slow:
            wire.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nX-Slow: ")
        assert exchange(gateway.port, post(CHAT, question()))[0] == 200
        for wire in slow:
            try:
                while wire.recv(4096):
                    pass
            except ConnectionError:
                pass  # reset is as good as closed; a timeout is not
    finally:
        for wire in slow:
            wire.close()


def a_slow_body(gateway):
    for path in (CHAT, MESSAGES):
        status, read = exchange(gateway.port, post(path, b"{", length=100))
        assert status == 408, read[:300]
        check_error(read, path, 408)


def bytes_that_are_no_http(gateway):
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 5000):
        status, read = exchange(gateway.port, data, half_close=True)
        assert status in (None, 400, 505), read[:200]


def smuggling(sim):
    def smuggling_is_refused_or_harmless(gateway):
        inner = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"
        smuggled = question(text="SMUGGLED [[words:5]]")
        inner = inner % (len(smuggled), smuggled)
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(question()), question())

        def head(*lines):
            return b"".join(line.encode() + b"\r\n" for line in (f"POST {CHAT} HTTP/1.1", "Host: h", *lines)) + b"\r\n"

        attempts = {
            "length and chunks": head(f"Content-Length: {len(chunked)}", "Transfer-Encoding: chunked") + chunked + inner,
            "short length and chunks": head("Content-Length: 4", "Transfer-Encoding: chunked") + chunked + inner,
            "chunks and length": head("Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n" + inner,
            "two lengths": head("Content-Length: 2", f"Content-Length: {len(inner)}") + b"{}" + inner,
            "a length list": head(f"Content-Length: 2, {len(inner)}") + b"{}" + inner,
            "a signed length": head("Content-Length: +2") + b"{}" + inner,
            "a hidden coding": head("Content-Length: 2", "Transfer-Encoding: xchunked") + b"{}" + inner,
            "two codings": head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"0\r\n\r\n" + inner,
            "a space before the colon": head("Content-Length: 2", "Transfer-Encoding : chunked") + b"0\r\n\r\n" + inner,
            "a folded header": head("Content-Length: 2", "X: y", " Transfer-Encoding: chunked") + b"{}" + inner,
            "a huge chunk": head("Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\n" + inner,
            "a bare line feed": b"POST /v1/chat/completions HTTP/1.1\nHost: h\nContent-Length: 2\nTransfer-Encoding: chunked\n\n" + chunked + inner,
        }
        for name, data in attempts.items():
            before = seen(sim)
            status, read = exchange(gateway.port, data, 3.0, to_the_end=True)
            # The body of a refused request must not be taken for the next request.
            if status is None or status >= 400:
                assert seen(sim) == before, f"{name}: refused with {status}, and yet the inner request was served"
                assert read.count(b"HTTP/1.1 ") <= 1, f"{name}: {read[:300]!r}"
            else:
                assert "length" not in name and "coding" not in name, f"{name}: two readings of the body, and it was served: {read[:200]!r}"

    return smuggling_is_refused_or_harmless


def seen(sim):
    return sum("SMUGGLED" in request["body"] for request in sim.control("GET", "requests"))


# === Names ===

def unknown_models(gateway):
    for path in (CHAT, MESSAGES):
        error = check_error(exchange(gateway.port, post(path, question("gpt-tset")))[1], path, 404)
        assert "gpt-tset" in error["error"]["message"], error
        check_error(exchange(gateway.port, post(path, question("x" * 10_000)))[1], path, 404)
        check_error(exchange(gateway.port, post(path, question("a\nb\u0000c\u202e")))[1], path, 404, 400)


def bad_paths(gateway):
    for path in ("/v1/nothing", "/v1/chat/completions/", "//v1/messages", "/v1/../v1/messages", "/%2e%2e/etc/passwd", "/v1/messages/x/y", "/admin",
                 "/_sim/stats", "/v1/completions", "/" + "a" * 9000):
        status, read = exchange(gateway.port, post(path, question()))
        assert status in (404, 405, 414, 431), f"{path[:60]}: {read[:200]!r}"
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW"):
        status, read = exchange(gateway.port, f"{method} {MESSAGES} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert status in (400, 404, 405, 501), f"{method}: {read[:200]!r}"


def the_small_paths_answer(gateway):
    for method, path in (("HEAD", "/"), ("GET", "/api/hello"), ("HEAD", "/api/hello"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/models")):
        status, _, body = rig.ask(gateway.port, method, path)
        assert status == 200, f"{method} {path}: {status} {body[:200]!r}"
    models = json.loads(rig.ask(gateway.port, "GET", "/v1/models")[2])
    assert {"gpt-test", "claude-test"} <= {model["id"] for model in models["data"]}, models
    status, _, body = rig.ask(gateway.port, "POST", "/v1/messages/count_tokens", {"model": "claude-test", "messages": [{"role": "user", "content": "hi"}]})
    assert status == 200 and json.loads(body)["input_tokens"] > 0, body[:200]


# === Keys ===

def keys(sim):
    def callers_are_known_by_their_key(gateway):
        for path, model in ((CHAT, "gpt-test"), (MESSAGES, "claude-test")):
            for extra in ("", "authorization: Bearer wrong\r\n", "x-api-key: wrong\r\n", f"authorization: Basic {KEY}\r\n",
                          f"authorization: Bearer {VENDOR_KEY}\r\n", "authorization: Bearer \r\n", "authorization: \xff\xff\r\n"):
                check_error(exchange(gateway.port, post(path, question(model), extra))[1], path, 401)
            for extra in (f"authorization: Bearer {KEY}\r\n", f"x-api-key: {KEY}\r\n"):
                status, read = exchange(gateway.port, post(path, question(model), extra))
                assert status == 200 and b"#sum:" in read, read[:300]
                assert VENDOR_KEY.encode() not in read, "the vendor's key reached the caller"
        sent = json.dumps([request["headers"] for request in sim.control("GET", "requests")])
        assert KEY not in sent, "the caller's key reached the vendor"
        assert VENDOR_KEY in sent, "the vendor was not given its key"

    return callers_are_known_by_their_key


def no_callers_elsewhere(sim):
    def it_refuses_to_bind_elsewhere_without_callers():
        with rig.Gateway(config(sim)) as gateway:
            path = gateway.config_path.with_name("open.yaml")
            path.write_text(json.dumps({**config(sim), "listen": f"0.0.0.0:{rig.free_port()}"}))
            done = subprocess.run([rig.BIN, "serve", "--config", str(path)], capture_output=True, text=True, timeout=20)
            assert done.returncode != 0 and "caller" in done.stderr, done.stderr[-500:]

    return it_refuses_to_bind_elsewhere_without_callers


# === What an operator does ===

def stream_of(port, words=100):
    """An open stream (connection, response) of a slow vendor, its first event read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", CHAT, question(text=f"hi [[seed:9 words:{words}]]", stream=True), {"content-type": "application/json", "Holdfast-Delivery": "live"})
    response = connection.getresponse()
    assert response.status == 200, response.status
    return connection, response, response.readline()


def text_of(events):
    # Texts hold `[DONE]` as a word too: only the whole line is the end.
    chunks = [json.loads(line[5:]) for line in events.split(b"\n") if line.startswith(b"data:") and line.strip() != b"data: [DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def sigterm_drains(slow):
    def sigterm_lets_running_streams_finish():
        with rig.Gateway(config(slow)) as gateway:
            connection, response, first = stream_of(gateway.port)
            gateway.signal(signal.SIGTERM)

            def no_new_calls():
                try:
                    return exchange(gateway.port, post(CHAT, question()), 2)[0] in (None, 503)
                except OSError:
                    return True

            rig.until("new calls to be refused", no_new_calls)
            text = text_of(first + response.read())
            connection.close()
            assert ask.sealed(text), f"the running stream was cut: {text[-80:]}"
            assert gateway.wait() == 0, gateway.log()[-500:]

    return sigterm_lets_running_streams_finish


def reload(sim):
    def a_good_file_is_taken_and_a_bad_one_is_not():
        with rig.Gateway(config(sim)) as gateway:
            def status(model):
                return exchange(gateway.port, post(CHAT, question(model)))[0]

            def routes(*models):
                return [{"model": model, "targets": ["openai/sim-ok"]} for model in models]

            listen = f"127.0.0.1:{gateway.port}"
            assert status("gpt-test") == 200 and status("second") == 404
            gateway.write({**config(sim), "listen": listen, "routes": routes("gpt-test", "second")})
            gateway.signal(signal.SIGHUP)
            rig.until("the new route", lambda: status("second") == 200)
            before = len(gateway.log())
            gateway.write("routes: [\n")
            gateway.signal(signal.SIGHUP)
            rig.until("the bad file to be named", lambda: "holdfast.yaml" in gateway.log()[before:])
            assert status("gpt-test") == 200 and status("second") == 200, "the last good configuration is gone"
            gateway.write({**config(sim), "listen": listen, "routes": [{"model": "third", "targets": ["nobody/x"]}]})
            gateway.signal(signal.SIGHUP)
            rig.until("the unknown provider to be named", lambda: "nobody" in gateway.log()[before:])
            assert status("second") == 200, "a file with an unknown provider was taken"
            # And without any signal: the file is watched.
            gateway.write({**config(sim), "listen": listen, "routes": routes("gpt-test", "fourth")})
            rig.until("the changed file to be noticed", lambda: status("fourth") == 200)
            assert status("second") == 404

    return a_good_file_is_taken_and_a_bad_one_is_not


# === An outage under load ===

async def load(port, seconds, answered, rate=50):
    """`rate` calls a second, streams and plain ones in turn; appends (word, answer) of each to `answered`."""
    clients = ask.Clients(port)

    async def one(number):
        seed = cells.SEEDS[number % len(cells.SEEDS)]
        word, answer, error = await clients.ask("openai", "outage", ask.question(seed, 30, False), number % 2 == 0, False)
        answered.append((word or ("whole" if ask.sealed(answer.text) and answer.stop == "stop" else "half"), error))

    calls = []
    for number in range(int(seconds * rate)):
        calls.append(asyncio.ensure_future(one(number)))
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*calls)
    await clients.close()


def outage(dead, good, fault):
    def test():
        dead.control("POST", "reset"), good.control("POST", "reset")
        routes = [{"model": "outage", "targets": ["dead/sim-script", "good/sim-ok"]}]
        providers = [provider("dead", dead), provider("good", good)]
        defaults = {"timeouts": cells.TIMEOUTS, "breaker": {"open": "1s", "open_max": "2s"}}
        with rig.Gateway(config(good, providers=providers, routes=routes, defaults=defaults)) as gateway:
            answered = []
            dead.control("PUT", "faults", {"faults": [{"fault": fault}]})
            asyncio.run(load(gateway.port, 8, answered))
            calls = dead.stats()["calls"] + good.stats()["calls"]
            lost = [item for item in answered if item[0] != "whole"]
            assert not lost, f"{len(lost)} of {len(answered)} calls were not whole: {lost[:3]}"
            assert calls <= 1.1 * len(answered), f"{calls} vendor calls for {len(answered)} calls ({dead.stats()['calls']} to the dead one)"
            dead.control("DELETE", "faults")
            asyncio.run(load(gateway.port, 5, answered))
            before = dead.stats()["calls"], good.stats()["calls"]
            asyncio.run(load(gateway.port, 1, answered))
            after = dead.stats()["calls"], good.stats()["calls"]
            assert all(word == "whole" for word, _ in answered), "calls were lost while it healed"
            assert after[1] == before[1] and after[0] - before[0] == 50, f"traffic is not back: {before} -> {after}"

    test.__name__ = f"an_outage_by_{fault}_multiplies_nothing_and_heals"
    return test


def main():
    with (
        rig.Sim() as sim, rig.Sim() as other, rig.Sim("--token", "20") as slow,
        rig.Gateway(config(sim)) as gateway, rig.Gateway(config(sim, callers=[{"name": "team", "key": KEY}])) as keyed,
    ):
        return rig.suite("bad input", [
            *serve(gateway, [
                a_body_over_the_limit, a_chunked_body_over_the_limit, bodies_that_are_no_request, bytes_that_are_no_utf8, deep_json,
                duplicate_keys, ten_thousand_headers, a_header_without_end, slow_headers, a_slow_body, bytes_that_are_no_http,
                smuggling(sim), unknown_models, bad_paths, the_small_paths_answer,
            ]),
            *serve(keyed, [keys(sim)]),
            no_callers_elsewhere(sim), sigterm_drains(slow), reload(sim),
            outage(sim, other, "status:529"), outage(sim, other, "cut-clean:half"), outage(sim, other, "reset-before-headers"),
        ])


if __name__ == "__main__":
    sys.exit(main())
