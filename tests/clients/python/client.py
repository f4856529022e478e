"""Drives one server with Python's gRPC client and stubs made of net/proto. Prints "ok" at the end, or what is wrong
and exits 1. Usage: client.py HOST:PORT; the store must be new, and someone must restart the server when told
(tests/clients/run.sh).
"""

import os
import queue
import sys
import threading
import time

import grpc
import kv_pb2
import rpc_pb2
import rpc_pb2_grpc

CALL_MAX = 10
WRITES = 100
# The shortest that etcd grants with its default timeouts.
TTL = 2
DELETE = kv_pb2.Event.DELETE


def equal(what, got, want):
    if got != want:
        print(f"WRONG: {what}: got {got}, want {want}", flush=True)
        # From whichever thread.
        os._exit(1)


def restart_server():
    print("restart", flush=True)
    sys.stdin.readline()


class Requests:
    """The requests of a stream that goes both ways: `send` from any thread, `close` to half-close."""

    def __init__(self):
        self.waiting = queue.Queue()

    def send(self, request):
        self.waiting.put(request)

    def close(self):
        self.waiting.put(None)

    def __iter__(self):
        return iter(self.waiting.get, None)


class Watcher(threading.Thread):
    """Watches a prefix from a revision, and again from where it was when the stream breaks."""

    def __init__(self, stub, prefix, revision):
        super().__init__(daemon=True)
        self.stub, self.prefix, self.next_revision = stub, prefix, revision
        self.created = threading.Event()
        self.events = queue.Queue()
        self.breaks = 0
        self.start()
        equal("watch created", self.created.wait(CALL_MAX), True)

    def run(self):
        while True:
            try:
                self.follow()
            except grpc.RpcError as error:
                equal("how the watch ends", error.code(), grpc.StatusCode.UNAVAILABLE)
                self.breaks += 1
                time.sleep(0.1)

    def follow(self):
        requests = Requests()
        requests.send(rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(
            key=self.prefix, range_end=end_of(self.prefix), start_revision=self.next_revision)))
        for response in self.stub.Watch(iter(requests)):
            if response.created:
                self.created.set()
            for event in response.events:
                self.events.put(event)
                self.next_revision = event.kv.mod_revision + 1

    def take(self, count):
        return [self.events.get(timeout=2 * CALL_MAX) for _ in range(count)]


def end_of(prefix):
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Client:
    def __init__(self, endpoint):
        channel = grpc.insecure_channel(endpoint, options=[("grpc.max_reconnect_backoff_ms", 200)])
        self.kv = rpc_pb2_grpc.KVStub(channel)
        self.lease = rpc_pb2_grpc.LeaseStub(channel)
        self.watch = rpc_pb2_grpc.WatchStub(channel)

    def put(self, key, value, lease=0):
        return self.kv.Put(rpc_pb2.PutRequest(key=key, value=value, lease=lease), timeout=CALL_MAX).header.revision

    def get(self, key, **options):
        return self.kv.Range(rpc_pb2.RangeRequest(key=key, **options), timeout=CALL_MAX, wait_for_ready=True)

    def grant(self, ttl):
        return self.lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(TTL=ttl), timeout=CALL_MAX).ID

    def time_to_live(self, lease):
        return self.lease.LeaseTimeToLive(
            rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True), timeout=CALL_MAX, wait_for_ready=True)


def put_and_get(client):
    first = client.put(b"pg/a", b"1")
    equal("revision step", client.put(b"pg/a", b"2"), first + 1)
    client.put(b"pg/b", bytes(range(256)))
    answer = client.get(b"pg/", range_end=end_of(b"pg/"))
    equal("pairs", [(kv.key, kv.value, kv.version) for kv in answer.kvs],
          [(b"pg/a", b"2", 2), (b"pg/b", bytes(range(256)), 1)])
    equal("the revision before", client.get(b"pg/a", revision=first).kvs[0].value, b"1")
    equal("missing", client.get(b"pg/none").count, 0)
    try:
        client.get(b"pg/a", revision=first + 100)
        equal("a revision to come", "an answer", "an error")
    except grpc.RpcError as error:
        equal("code", error.code(), grpc.StatusCode.OUT_OF_RANGE)
        equal("text", error.details(), "etcdserver: mvcc: required revision is a future revision")


def watch_over_a_restart(client):
    first = client.put(b"other", b"v") + 1
    watcher = Watcher(client.watch, b"w/", first)
    for n in range(WRITES):
        client.put(b"w/%d" % n, b"before")
    # What the watcher has not read yet is cut off.
    restart_server()
    client.get(b"other")
    for n in range(WRITES):
        client.put(b"w/%d" % n, b"after")
    client.kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=b"w/0"), timeout=CALL_MAX)
    written = [(b"w/%d" % n, value) for value in (b"before", b"after") for n in range(WRITES)] + [(b"w/0", b"")]
    seen = watcher.take(len(written))
    equal("events", [(event.kv.key, event.kv.value) for event in seen], written)
    equal("revisions", [event.kv.mod_revision for event in seen], list(range(first, first + len(written))))
    equal("the last one's type", seen[-1].type, DELETE)
    equal("events of other keys, or twice", watcher.events.qsize(), 0)
    equal("the watch broke", watcher.breaks > 0, True)


def lease(client):
    lease = client.grant(TTL)
    watcher = Watcher(client.watch, b"l/", client.put(b"other", b"v") + 1)
    client.put(b"l/a", b"v", lease)
    client.put(b"l/b", b"v", lease)
    requests = Requests()
    answers = client.lease.LeaseKeepAlive(iter(requests))
    kept_until = time.monotonic() + 2 * TTL
    while time.monotonic() < kept_until:
        requests.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
        equal("TTL of a renewal", next(answers).TTL, TTL)
        time.sleep(TTL / 4)
    renewed = time.monotonic()
    equal("keys of a lease that is kept alive", sorted(client.time_to_live(lease).keys), [b"l/a", b"l/b"])
    equal("puts", [event.kv.key for event in watcher.take(2)], [b"l/a", b"l/b"])
    expired = watcher.take(2)
    equal("expiry", [(event.type, event.kv.key) for event in expired], [(DELETE, b"l/a"), (DELETE, b"l/b")])
    equal("its one revision", expired[0].kv.mod_revision, expired[1].kv.mod_revision)
    # The last renewal was a quarter earlier; etcd looks at leases twice a second.
    equal("not early", time.monotonic() - renewed > TTL / 2, True)
    equal("TTL of an expired lease", client.time_to_live(lease).TTL, -1)
    requests.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
    equal("TTL of a renewal after expiry", next(answers).TTL, 0)
    requests.close()
    equal("the end of the stream", list(answers), [])


def lease_over_a_restart(client):
    lease = client.grant(1000)
    client.put(b"lr", b"v", lease)
    restart_server()
    after = client.time_to_live(lease)
    equal("granted", after.grantedTTL, 1000)
    equal("time left", 900 < after.TTL <= 1000, True)
    equal("keys", list(after.keys), [b"lr"])
    client.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=lease), timeout=CALL_MAX)
    equal("after the revocation", client.get(b"lr").count, 0)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: client.py HOST:PORT")
    client = Client(sys.argv[1])
    for check in (put_and_get, watch_over_a_restart, lease, lease_over_a_restart):
        check(client)
    print("ok")


main()
