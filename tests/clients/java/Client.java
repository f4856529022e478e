import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.NANOSECONDS;
import static java.util.concurrent.TimeUnit.SECONDS;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.common.exception.EtcdException;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;

/**
 * Drives one server with jetcd. Prints "ok" at the end, or what is wrong and exits 1. Usage: Client HOST:PORT; the
 * store must be new, and someone must restart the server when told (tests/clients/run.sh).
 */
public final class Client {
  private static final long CALL_MAX = 10;
  private static final int WRITES = 100;
  /** The shortest that etcd grants with its default timeouts, in seconds. */
  private static final long TTL = 2;

  private final BufferedReader answers = new BufferedReader(new InputStreamReader(System.in, UTF_8));
  private final io.etcd.jetcd.Client client;

  private Client(String endpoint) {
    client = io.etcd.jetcd.Client.builder().endpoints("http://" + endpoint).build();
  }

  public static void main(String[] args) throws Exception {
    if (args.length != 1) {
      fail("usage: Client HOST:PORT");
    }
    try {
      var client = new Client(args[0]);
      client.putAndGet();
      client.watchOverRestart();
      client.lease();
      client.leaseOverRestart();
    } catch (Exception e) {
      e.printStackTrace();
      fail(e.toString());
    }
    System.out.println("ok");
    System.exit(0);
  }

  private static void fail(String what) {
    System.out.println("WRONG: " + what);
    System.exit(1);
  }

  private static void equal(String what, Object got, Object want) {
    if (!got.equals(want)) {
      fail(what + ": got " + got + ", want " + want);
    }
  }

  private static <T> T await(CompletableFuture<T> call) throws Exception {
    return call.get(CALL_MAX, SECONDS);
  }

  private static ByteSequence bytes(String text) {
    return ByteSequence.from(text, UTF_8);
  }

  private long put(String key, String value) throws Exception {
    return put(key, value, 0);
  }

  private long put(String key, String value, long lease) throws Exception {
    var option = PutOption.builder().withLeaseId(lease).build();
    return await(client.getKVClient().put(bytes(key), bytes(value), option)).getHeader().getRevision();
  }

  private List<String> get(String key, GetOption option) throws Exception {
    return await(client.getKVClient().get(bytes(key), option)).getKvs().stream()
        .map(Client::text).collect(Collectors.toList());
  }

  private static String text(KeyValue pair) {
    return pair.getKey().toString(UTF_8) + "=" + pair.getValue().toString(UTF_8) + " at " + pair.getModRevision();
  }

  /** Has the server killed and started again, and waits until it serves. */
  private void restartServer() throws Exception {
    System.out.println("restart");
    answers.readLine();
    for (long end = System.nanoTime() + SECONDS.toNanos(CALL_MAX); ; Thread.sleep(50)) {
      try {
        await(client.getKVClient().get(bytes("any")));
        return;
      } catch (ExecutionException e) {
        if (System.nanoTime() > end) {
          throw e;
        }
      }
    }
  }

  /** The events of a prefix from a revision on, each as text. */
  private final class Events implements Watch.Listener, AutoCloseable {
    private final BlockingQueue<String> events = new LinkedBlockingQueue<>();
    private final CountDownLatch created = new CountDownLatch(1);
    private final AtomicInteger breaks = new AtomicInteger();
    private final Watch.Watcher watcher;

    Events(String prefix, long revision) throws Exception {
      var option = WatchOption.builder().isPrefix(true).withRevision(revision).withCreateNotify(true).build();
      watcher = client.getWatchClient().watch(bytes(prefix), option, this);
      equal("watch created", created.await(CALL_MAX, SECONDS), true);
    }

    @Override
    public void onNext(WatchResponse response) {
      if (response.isCreatedNotify()) {
        created.countDown();
      }
      for (WatchEvent event : response.getEvents()) {
        events.add(event.getEventType() + " " + text(event.getKeyValue()));
      }
    }

    /** Told of a break, and not of its end: the client goes on by itself. */
    @Override
    public void onError(Throwable error) {
      equal("how the watch breaks", ((EtcdException) error).getErrorCode(), ErrorCode.UNAVAILABLE);
      breaks.incrementAndGet();
    }

    @Override
    public void onCompleted() {}

    List<String> take(int count) throws Exception {
      var taken = new ArrayList<String>();
      while (taken.size() < count) {
        String event = events.poll(2 * CALL_MAX, SECONDS);
        if (event == null) {
          fail(count + " events wanted, there are " + taken);
        }
        taken.add(event);
      }
      return taken;
    }

    @Override
    public void close() {
      watcher.close();
      equal("events twice", new ArrayList<>(events), List.of());
    }
  }

  private void putAndGet() throws Exception {
    long first = put("pg/a", "1");
    equal("revision step", put("pg/a", "2"), first + 1);
    put("pg/b", "\u0000\u00fc");
    var prefix = GetOption.builder().isPrefix(true).build();
    equal("pairs", get("pg/", prefix), List.of("pg/a=2 at " + (first + 1), "pg/b=\u0000\u00fc at " + (first + 2)));
    var before = GetOption.builder().withRevision(first).build();
    equal("the revision before", get("pg/a", before), List.of("pg/a=1 at " + first));
    equal("missing", get("pg/none", GetOption.DEFAULT), List.of());
    try {
      get("pg/a", GetOption.builder().withRevision(first + 100).build());
      fail("a revision to come has been read");
    } catch (ExecutionException e) {
      equal("code", Status.fromThrowable(e).getCode(), Status.Code.OUT_OF_RANGE);
    }
    var absent = new Cmp(bytes("pg/c"), Cmp.Op.EQUAL, CmpTarget.createRevision(0));
    for (boolean succeeds : new boolean[] {true, false}) {
      var create = client.getKVClient().txn().If(absent).Then(Op.put(bytes("pg/c"), bytes("v"), PutOption.DEFAULT));
      equal("created", await(create.commit()).isSucceeded(), succeeds);
    }
  }

  private void watchOverRestart() throws Exception {
    long first = put("other", "v") + 1;
    var want = new ArrayList<String>();
    try (var events = new Events("w/", first)) {
      for (String value : List.of("before", "after")) {
        if (value.equals("after")) {
          // What the watch has not read yet is cut off.
          restartServer();
        }
        for (int n = 0; n < WRITES; n++) {
          put("w/" + n, value);
          want.add("PUT w/" + n + "=" + value + " at " + (first + want.size()));
        }
      }
      await(client.getKVClient().delete(bytes("w/0")));
      want.add("DELETE w/0= at " + (first + want.size()));
      equal("events", events.take(want.size()), want);
      equal("the watch broke", events.breaks.get() > 0, true);
    }
  }

  private void lease() throws Exception {
    long first = put("other", "v") + 1;
    long lease = await(client.getLeaseClient().grant(TTL)).getID();
    try (var events = new Events("l/", first)) {
      put("l/a", "v", lease);
      put("l/b", "v", lease);
      var renewals = new AtomicInteger();
      var keeper = client.getLeaseClient().keepAlive(lease, new StreamObserver<LeaseKeepAliveResponse>() {
        @Override
        public void onNext(LeaseKeepAliveResponse response) {
          equal("TTL of a renewal", response.getTTL(), TTL);
          renewals.incrementAndGet();
        }

        @Override
        public void onError(Throwable error) {
          fail("renewal: " + error);
        }

        @Override
        public void onCompleted() {}
      });
      SECONDS.sleep(2 * TTL);
      equal("keys of a lease that is kept alive", keysOf(lease), List.of("l/a", "l/b"));
      equal("renewals", renewals.get() > 3, true);
      equal("puts", events.take(2), List.of("PUT l/a=v at " + first, "PUT l/b=v at " + (first + 1)));
      keeper.close();
      long closed = System.nanoTime();
      String revision = "= at " + (first + 2);
      equal("expiry", events.take(2), List.of("DELETE l/a" + revision, "DELETE l/b" + revision));
      long took = NANOSECONDS.toMillis(System.nanoTime() - closed);
      equal("not early", took > SECONDS.toMillis(TTL) / 2, true);
    }
    var gone = await(client.getLeaseClient().timeToLive(lease, LeaseOption.DEFAULT));
    equal("TTL of an expired lease", gone.getTTL(), -1L);
    try {
      await(client.getLeaseClient().keepAliveOnce(lease));
      fail("a lease that is gone has been renewed");
    } catch (ExecutionException e) {
      equal("code", ((EtcdException) e.getCause()).getErrorCode(), ErrorCode.NOT_FOUND);
    }
  }

  private List<String> keysOf(long lease) throws Exception {
    var option = LeaseOption.builder().withAttachedKeys().build();
    return await(client.getLeaseClient().timeToLive(lease, option)).getKeys().stream()
        .map(key -> key.toString(UTF_8)).sorted().collect(Collectors.toList());
  }

  private void leaseOverRestart() throws Exception {
    long lease = await(client.getLeaseClient().grant(1000)).getID();
    put("lr", "v", lease);
    restartServer();
    var after = await(client.getLeaseClient().timeToLive(lease, LeaseOption.DEFAULT));
    equal("granted", after.getGrantedTTL(), 1000L);
    equal("time left", after.getTTL() > 900 && after.getTTL() <= 1000, true);
    equal("keys", keysOf(lease), List.of("lr"));
    await(client.getLeaseClient().revoke(lease));
    equal("after the revocation", get("lr", GetOption.DEFAULT), List.of());
  }
}
