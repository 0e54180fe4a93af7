"""What one call at a time shows: callers that leave, callers that are slow, large bodies, joins, paused turns, and the request's own bytes."""

import http.client
import json
import socket
import sys
import zlib

import ask
import cells
import rig

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def provider(name, sim, dialect):
    base = f"http://127.0.0.1:{sim.port}" + ("/v1" if dialect == "openai" else "")
    return {"name": f"{name}-{dialect}", "kind": dialect, "base_url": base, "key": "sk-vendor-canary", "domain": name}


def config(first, second, **defaults):
    """Routes `openai` and `anthropic`: the first vendor by its script, then the healthy second one, both in that dialect;
    `cross`: the first speaks OpenAI, the second Anthropic."""
    def targets(one, two):
        return [f"first-{one}/asked", f"second-{two}/sim-ok"]

    return {
        "providers": [provider(name, sim, dialect) for name, sim in (("first", first), ("second", second)) for dialect in cells.DIALECTS],
        "routes": [
            {"model": "openai", "targets": targets("openai", "openai")},
            {"model": "anthropic", "targets": targets("anthropic", "anthropic")},
            # Anthropic demands a limit, and a Chat caller need not give one.
            {"model": "back", "targets": ["second-openai/sim-ok"]},
            {"model": "cross", "targets": ["first-openai/asked", {"provider": "second-anthropic", "model": "sim-ok", "max_output_tokens": 60_000}]},
        ],
        "defaults": {"attempts_per_target": 1, "timeouts": cells.TIMEOUTS, "breaker": {"consecutive": 1000000, "min_calls": 1000000}, **defaults},
    }


def body_of(dialect, text, **more):
    limit = {"max_tokens": 60_000} if dialect == "anthropic" else {}
    return {"model": dialect, "messages": [{"role": "user", "content": text}], **limit, **more}


def path_of(dialect):
    return CHAT if dialect == "openai" else MESSAGES


def text_in(dialect, events):
    """The text of a whole event stream."""
    text = ""
    for line in events.split(b"\n"):
        # Texts hold `[DONE]` as a word too: only the whole line is the end.
        if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
            continue
        event = json.loads(line[5:])
        if dialect == "openai":
            text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
        elif event["type"] == "content_block_delta":
            text += event["delta"].get("text", "")
    return text


class Bench:
    """Two simulated vendors and a gateway, reset before each test."""

    def __init__(self, first, second, slow, gateway, slow_gateway):
        self.first, self.second, self.slow, self.gateway, self.slow_gateway = first, second, slow, gateway, slow_gateway

    def reset(self):
        for sim in (self.first, self.second, self.slow):
            sim.control("POST", "reset")

    def fault(self, spec):
        self.first.control("PUT", "faults", {"faults": [{"fault": spec}]})

    def stream(self, dialect, text, delivery, port=None, **more):
        """(headers, all bytes) of a stream; raises when the transport is aborted."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.gateway.port, timeout=30)
        connection.request("POST", path_of(dialect), json.dumps(body_of(dialect, text, stream=True, **more)),
                           {"content-type": "application/json", "Holdfast-Delivery": delivery})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        try:
            return headers, response.read()
        finally:
            connection.close()

    # === Callers that leave, callers that are slow ===

    def a_caller_that_leaves_cancels_the_vendor(self):
        for dialect in cells.DIALECTS:
            for delivery in cells.DELIVERIES:
                self.slow.control("POST", "reset")
                body = json.dumps(body_of(dialect, "hi [[words:5000]]", stream=True)).encode()
                with socket.create_connection(("127.0.0.1", self.slow_gateway.port), timeout=20) as wire:
                    wire.sendall(f"POST {path_of(dialect)} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nHoldfast-Delivery: {delivery}\r\n"
                                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                    rig.until("the vendor to be streaming", lambda: self.slow.stats()["calls"] == 1)
                    if delivery != "whole":
                        wire.recv(4096)
                rig.until("the vendor's call to be aborted", lambda: self.slow.stats()["aborted_by_client"] == 1)

    def a_caller_of_a_plain_call_that_leaves_cancels_the_vendor(self):
        body = json.dumps(body_of("openai", "hi [[words:5000]]")).encode()
        with socket.create_connection(("127.0.0.1", self.slow_gateway.port), timeout=20) as wire:
            wire.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            rig.until("the vendor to be asked", lambda: self.slow.stats()["calls"] == 1)
        rig.until("the vendor's call to be aborted", lambda: self.slow.stats()["aborted_by_client"] == 1)

    def a_slow_caller_gets_all_of_it_and_costs_no_memory(self):
        body = json.dumps(body_of("openai", "hi [[seed:3 words:10000]]", stream=True)).encode()
        read = b""
        with socket.socket() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.settimeout(30)
            wire.connect(("127.0.0.1", self.gateway.port))
            wire.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nHoldfast-Delivery: live\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            # Nothing is read until the vendor is held back by the caller's pace, or has been read to its end.
            rig.until("the vendor to be asked", lambda: self.first.stats()["calls"] == 1)
            while piece := wire.recv(2048):
                read += piece
        head, _, chunked = read.partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        assert chunked.endswith(b"0\r\n\r\n"), "the body was not ended"
        text = text_in("openai", unchunk(chunked))
        assert ask.sealed(text), f"{len(text)} characters, not whole"

    def a_caller_that_never_reads_is_given_up(self):
        with rig.Gateway({**config(self.first, self.second), "limits": {"write_timeout": "1s"}}) as gateway:
            body = json.dumps(body_of("openai", "hi [[seed:3 words:100000]]", stream=True)).encode()
            with socket.socket() as wire:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                wire.connect(("127.0.0.1", gateway.port))
                wire.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nHoldfast-Delivery: live\r\n"
                             f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                rig.until("the vendor's call to be given up", lambda: self.first.stats()["aborted_by_client"] == 1)

    def a_count_of_tokens_is_asked_of_the_next_vendor(self):
        for spec in ("status:529", "status:429", "reset-before-headers"):
            self.reset()
            self.fault(spec)
            status, _, answer = rig.ask(self.gateway.port, "POST", MESSAGES + "/count_tokens", {"model": "anthropic", "messages": [{"role": "user", "content": "hi"}]})
            assert status == 200 and json.loads(answer)["input_tokens"] > 0, f"{spec}: {status} {answer[:200]!r}"

    # === Large bodies ===

    def a_large_body_is_asked_again_to_the_last_byte(self):
        for dialect in cells.DIALECTS:
            for spec in ("reset-before-headers", "status:529", "cut-clean:after:0"):
                self.reset()
                self.fault(spec)
                padding = "".join(f"{number:08x}" for number in range(1 << 19))
                sent = body_of(dialect, f"{padding} [[seed:4 words:30]]")
                status, headers, answer = rig.ask(self.gateway.port, "POST", path_of(dialect), sent)
                assert status == 200 and b"#sum:" in answer, f"{dialect} {spec}: {status} {answer[:300]!r}"
                assert headers.get("holdfast-attempts") == "2", headers
                for sim, model in ((self.first, "asked"), (self.second, "sim-ok")):
                    (got,) = sim.control("GET", "requests")
                    got = json.loads(got["body"])
                    assert got["model"] == model, got["model"]
                    assert zlib.crc32(got["messages"][0]["content"].encode()) == zlib.crc32(sent["messages"][0]["content"].encode()), "the body changed"

    # === Joins ===

    def a_cut_text_is_joined(self):
        for dialect in cells.DIALECTS:
            for route in (dialect, "cross"):
                for spec in ("cut-clean:after:12", "cut-rst:after:12", "stall:12", "error-in-band:12"):
                    self.reset()
                    self.fault(spec)
                    # A seed whose text holds no code fence: any text without one may be joined.
                    headers, events = self.stream(dialect, "hi [[seed:21 words:40]]", "guarded", model=route)
                    text = text_in(dialect, events)
                    assert ask.sealed(text), f"{dialect} {route} {spec}: {text!r}"
                    assert self.second.stats()["calls"] == 1, "the second vendor was not asked: nothing was joined"
                    assert any(line.startswith(b":") for line in events.splitlines()), "the seam is not marked by a comment"

    def a_join_drops_what_both_said(self):
        for dialect in cells.DIALECTS:
            self.reset()
            self.fault("cut-clean:after:12")
            _, events = self.stream(dialect, "hi [[seed:22 words:40 overlap:4]]", "guarded")
            assert ask.sealed(text_in(dialect, events)), text_in(dialect, events)

    def a_join_can_be_forbidden(self):
        with rig.Gateway(config(self.first, self.second, join=False)) as gateway:
            for dialect in cells.DIALECTS:
                self.reset()
                self.fault("cut-clean:after:12")
                try:
                    _, events = self.stream(dialect, "hi [[seed:21 words:40]]", "guarded", gateway.port)
                except http.client.IncompleteRead as cut:
                    events = cut.partial
                else:
                    raise rig.Failed("the body ended neatly after a cut")
                assert b"error" in events.splitlines()[-1] or b"error" in events[-600:], f"no error in the stream: {events[-300:]!r}"
                assert b"[DONE]" not in events[-20:] and b"message_stop" not in events, "a terminal event after a cut"
                assert self.second.stats()["calls"] == 0

    def structured_output_is_never_joined(self):
        self.reset()
        self.fault("cut-clean:after:12")
        schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"], "additionalProperties": False}
        shape = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
        try:
            _, events = self.stream("openai", "hi [[seed:5 words:40]]", "guarded", response_format=shape)
        except http.client.IncompleteRead as cut:
            assert b'"error"' in cut.partial[-800:], cut.partial[-300:]
        else:
            # Held until it was whole, then asked anew elsewhere: also an honest way.
            json.loads(text_in("openai", events))

    def a_begun_answer_is_handed_over_in_the_targets_own_way(self):
        def last(kind):
            second = {"name": "other", "kind": kind, "base_url": f"http://127.0.0.1:{self.second.port}/v1", "key": "sk-vendor-canary", "domain": "other"}
            made = config(self.first, self.second)
            made = {**made, "providers": [*made["providers"], second], "routes": [{"model": "openai", "targets": ["first-openai/asked", "other/sim-ok"]}]}
            with rig.Gateway(made) as gateway:
                self.reset()
                self.fault("cut-clean:after:12")
                _, events = self.stream("openai", "hi [[seed:21 words:40]]", "guarded", gateway.port)
                assert ask.sealed(text_in("openai", events)), f"{kind}: {text_in('openai', events)!r}"
                (got,) = self.second.control("GET", "requests")
                return json.loads(got["body"])

        body = last("openai")
        assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"], body
        body = last("ollama")
        assert set(body["messages"][-1]) == {"role", "content"} and body["messages"][-1]["role"] == "assistant", body
        assert last("mistral")["messages"][-1]["prefix"] is True
        body = last("vllm")
        assert body["continue_final_message"] is True and body["add_generation_prompt"] is False, body

    def a_context_overflow_goes_to_a_larger_window(self):
        small, large = ({"provider": f"{name}-openai", "model": model, "context_window": window}
                        for name, model, window in (("first", "asked", 8_000), ("second", "sim-ok", 200_000)))
        made = {**config(self.first, self.second), "routes": [{"model": "openai", "targets": [small, large]}, {"model": "same", "targets": [small, {**large, "context_window": 8_000}]}]}
        with rig.Gateway(made) as gateway:
            self.fault("error:context_length_exceeded")
            status, headers, answer = rig.ask(gateway.port, "POST", CHAT, body_of("openai", "hi"))
            assert status == 200 and headers["holdfast-attempts"] == "2", answer[:300]
            status, _, answer = rig.ask(gateway.port, "POST", CHAT, {**body_of("openai", "hi"), "model": "same"})
            assert status == 400 and b"context_length_exceeded" in answer, answer[:300]

    # === Turns ===

    def a_paused_turn_is_finished_inside(self):
        # Only the vendor's own tools pause a turn.
        tools = [{"type": "web_search_20260209", "name": "web_search"}]
        for delivery in cells.DELIVERIES:
            self.reset()
            _, events = self.stream("anthropic", "hi [[seed:6 words:40 pause]]", delivery, tools=tools)
            assert b"pause_turn" not in events, "the pause was handed on"
            assert ask.sealed(text_in("anthropic", events)), f"{delivery}: {text_in('anthropic', events)!r}"
        status, _, answer = rig.ask(self.gateway.port, "POST", MESSAGES, body_of("anthropic", "hi [[seed:6 words:40 pause]]", tools=tools))
        content = json.loads(answer)["content"]
        assert status == 200 and ask.sealed("".join(block.get("text", "") for block in content)), answer[:400]

    # === Translation ===

    def a_stop_that_the_vendor_cannot_take_is_met_here(self):
        # OpenAI takes four at most; the Anthropic caller gives five, the last of them a word of the answer.
        text = "hi [[seed:7 words:30]]"
        status, _, answer = rig.ask(self.gateway.port, "POST", MESSAGES, body_of("anthropic", text))
        whole = json.loads(answer)["content"][0]["text"]
        word = whole.split(" ")[9]
        stops = ["@@1", "@@2", "@@3", "@@4", f" {word}"]
        wanted = whole[: whole.index(f" {word}")]
        status, headers, answer = rig.ask(self.gateway.port, "POST", MESSAGES, body_of("anthropic", text, stop_sequences=stops, model="back"))
        answer = json.loads(answer)
        assert status == 200 and "second-openai" in headers["holdfast-target"], headers
        assert answer["content"][0]["text"] == wanted, answer
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", f" {word}"), answer
        for delivery in cells.DELIVERIES:
            _, events = self.stream("anthropic", text, delivery, stop_sequences=stops, model="back")
            assert text_in("anthropic", events) == wanted, events[-600:]
            assert b'"stop_reason":"stop_sequence"' in events and b"message_stop" in events, events[-600:]

    def losses_are_said_to_who_asks(self):
        sent = body_of("anthropic", "hi [[words:5]]", model="back", top_k=5)
        _, headers, _ = rig.ask(self.gateway.port, "POST", MESSAGES, sent, {"Holdfast-Debug": "1"})
        assert "top_k" in headers.get("holdfast-losses", ""), headers
        _, _, kept = rig.ask(self.gateway.port, "GET", "/holdfast/exchanges/" + headers["holdfast-exchange"])
        assert "top_k" in kept.decode(), kept

    # === The request's own bytes ===

    def the_same_dialect_keeps_every_byte_but_the_model(self):
        for dialect in cells.DIALECTS:
            self.reset()
            tail = ', "messages" : [ {"role":"user","content":"\\u0068i \\ud83d\\ude42 [[words:5]]"} ],\n "max_tokens": 100, "x_unknown": {"a":[1e0,1.0,100000000000000000001]}, "metadata":{} }'
            sent = ('{ "model" :\t"%s"' % dialect) + tail
            status, _, answer = rig.ask(self.gateway.port, "POST", path_of(dialect) + "?beta=true", sent.encode(),
                                        {"anthropic-beta": "one-2025-01-01,two-2026-02-02", "anthropic-version": "2026-10-21"})
            assert status == 200, answer[:300]
            (got,) = self.first.control("GET", "requests")
            # A plain call may be made as a stream; beyond that member and the model nothing may change.
            body = got["body"].replace('"stream_options":{"include_usage":true},', "").replace('"stream":true,', "").replace(',"stream":true', "").replace(',"stream_options":{"include_usage":true}', "")
            assert body.replace("{ ", "{", 1) == '{"model" :\t"asked"' + tail, body
            headers = {name.lower(): value for name, value in got["headers"]}
            if dialect == "anthropic":
                assert headers["anthropic-beta"] == "one-2025-01-01,two-2026-02-02" and headers["anthropic-version"] == "2026-10-21", headers
                assert got["path"].endswith("?beta=true"), got["path"]
            assert "holdfast-delivery" not in headers, "Holdfast's own header went on"

    def answers_carry_where_they_came_from(self):
        self.fault("status:529")
        status, headers, _ = rig.ask(self.gateway.port, "POST", CHAT, body_of("openai", "hi"))
        assert status == 200 and headers["holdfast-attempts"] == "2" and headers["holdfast-exchange"], headers
        assert "second-openai" in headers["holdfast-target"], headers

    def retry_after_of_a_vendor_is_not_passed_on_unclamped(self):
        for sim in (self.first, self.second):
            sim.control("PUT", "faults", {"faults": [{"fault": "status:429:86400"}]})
        # `sim-ok` names a healthy model, which wins over the script: the second target must fail too.
        with rig.Gateway({**config(self.first, self.second), "routes": [{"model": "openai", "targets": ["first-openai/asked", "second-openai/asked"]}]}) as gateway:
            status, headers, answer = rig.ask(gateway.port, "POST", CHAT, body_of("openai", "hi"))
        assert status in (429, 503, 529), answer[:300]
        assert float(headers.get("retry-after", 0)) <= 600, headers


def unchunk(data):
    """The body of a chunked message."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return body
        body, data = body + data[:length], data[length + 2:]
    raise rig.Failed("the chunked body has no last chunk")


def main():
    with (
        rig.Sim() as first, rig.Sim() as second, rig.Sim("--token", "20") as slow,
        rig.Gateway(config(first, second)) as gateway, rig.Gateway(config(slow, second)) as slow_gateway,
    ):
        bench = Bench(first, second, slow, gateway, slow_gateway)

        def prepared(test):
            def run():
                bench.reset()
                test()

            run.__name__ = test.__name__
            return run

        return rig.suite("scenarios", [prepared(test) for test in (
            bench.a_caller_that_leaves_cancels_the_vendor, bench.a_caller_of_a_plain_call_that_leaves_cancels_the_vendor,
            bench.a_slow_caller_gets_all_of_it_and_costs_no_memory, bench.a_caller_that_never_reads_is_given_up,
            bench.a_count_of_tokens_is_asked_of_the_next_vendor,
            bench.a_large_body_is_asked_again_to_the_last_byte,
            bench.a_cut_text_is_joined, bench.a_join_drops_what_both_said, bench.a_join_can_be_forbidden,
            bench.structured_output_is_never_joined,
            bench.a_begun_answer_is_handed_over_in_the_targets_own_way, bench.a_context_overflow_goes_to_a_larger_window, bench.a_paused_turn_is_finished_inside,
            bench.a_stop_that_the_vendor_cannot_take_is_met_here, bench.losses_are_said_to_who_asks,
            bench.the_same_dialect_keeps_every_byte_but_the_model, bench.answers_carry_where_they_came_from,
            bench.retry_after_of_a_vendor_is_not_passed_on_unclamped,
        )])


if __name__ == "__main__":
    sys.exit(main())
