package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Empty;
import homekv.rpc.proto.DelRequest;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceImplBase;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.MetricsResponse;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.Compare;
import homekv.storage.Difference;
import homekv.storage.Durability;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.LeaseStatus;
import homekv.storage.Limit;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Op;
import homekv.storage.OpResult;
import homekv.storage.Range;
import homekv.storage.Result;
import homekv.storage.Snapshot;
import homekv.storage.Txn;
import homekv.storage.Write;
import io.grpc.Server;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** The client: against this server, against the original's answers, and against nobody. */
class HomeKvClientTest {
    private static final Bytes K = Bytes.utf8("k");
    private static final Duration LONG = Duration.ofSeconds(Harness.HANG_SECONDS);

    private static final String LOOPBACK = InetAddress.getLoopbackAddress().getHostAddress();

    private static Write put(String key, String value) {
        return new Write.Put(Bytes.utf8(key), Bytes.utf8(value));
    }

    private static HomeKvException failure(HomeKvException.Reason reason, Executable call) {
        HomeKvException e = assertThrows(HomeKvException.class, call);
        assertEquals(reason, e.reason(), e.getMessage());
        assertFalse(e.getMessage().contains("\n") || e.getMessage().isBlank(), e.getMessage());
        return e;
    }

    // ---- This server ----

    @Test
    void anAddressIsTheOneThatIsWrittenAndANameIsNone() throws Exception {
        // An IPv4-compatible one is another than the IPv4 address in it.
        for (String address : List.of("127.0.0.1", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "2001:db8::1.2.3.4")) {
            assertEquals(InetAddress.getByName(address), Connection.address(address));
            if (address.indexOf(':') >= 0) {
                assertEquals(InetAddress.getByName(address), Connection.address("[" + address + "]"));
            }
        }
        for (String other : List.of("localhost", "1.2.3", "1.2.3.4.example", "fe80::1%lo", "1.2.3.4.5")) {
            assertNull(Connection.address(other));
        }
    }

    @Test
    void whatIsSetIsFoundAndWhatIsDeletedIsNot() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            assertEquals(
                    new HomeKvClient.Written(OptionalLong.of(1), OptionalLong.empty(), Durability.MEMORY),
                    client.set(List.of(put("a", "1"), put("empty", ""), new Write.Delete(K))));
            Bytes binary = Bytes.unsafeWrap(new byte[] {0, -1, -128, 10});
            client.set(List.of(new Write.Put(binary, binary)));
            assertEquals(
                    new HomeKvClient.Found(
                            Arrays.asList(Bytes.utf8("1"), null, Bytes.utf8(""), binary, Bytes.utf8("1")),
                            OptionalLong.of(2)),
                    client.get(List.of(Bytes.utf8("a"), K, Bytes.utf8("empty"), binary, Bytes.utf8("a"))));
            assertEquals(new HomeKvClient.Found(List.of(), OptionalLong.of(2)), client.get(List.of()));
            assertEquals(
                    new HomeKvClient.Written(OptionalLong.of(3), OptionalLong.of(2), Durability.MEMORY),
                    client.del(List.of(Bytes.utf8("a"), binary, K)));
            assertEquals(
                    new HomeKvClient.Written(OptionalLong.of(3), OptionalLong.of(0), Durability.MEMORY),
                    client.del(List.of(K)));
        }
    }

    @Test
    void metricsComeInTheOrderOfTheProtocolAndUnsigned() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            client.set(List.of(put("a", "1"), put("b", "23")));
            Map<String, Long> metrics = client.metrics();
            List<String> names = Metrics.getDescriptor().getFields().stream()
                    .filter(field -> Metrics.getDefaultInstance().getField(field) instanceof Number)
                    .map(field -> field.getName())
                    .toList();
            assertEquals(names, List.copyOf(metrics.keySet()));
            assertEquals(List.of("keys_count", "values_size_in_bytes", "cmds_count"), names.subList(0, 3));
            assertEquals(2, metrics.get("keys_count"));
            assertEquals(3, metrics.get("values_size_in_bytes"));
            assertEquals(1, metrics.get("cmds_count"));
        }
    }

    @Test
    void aRefusalComesAsAReasonWithTheServersWords() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.VALUE_BYTES, 3).with(Limit.REQUEST_BYTES, 100))) {
            HomeKvClient client = kv.client();
            HomeKvException invalid =
                    failure(HomeKvException.Reason.INVALID, () -> client.set(List.of(put("a", "1234"))));
            assertTrue(invalid.getMessage().contains("--max-value-bytes"), invalid.getMessage());
            HomeKvException noRoom =
                    failure(HomeKvException.Reason.NO_ROOM, () -> client.get(List.of(Bytes.utf8("k".repeat(200)))));
            assertTrue(noRoom.getMessage().contains("--max-request-bytes"), noRoom.getMessage());
        }
    }

    @Test
    void anyNumberOfVirtualThreadsShareOne() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            int threads = 100;
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int i = 0; i < threads; i++) {
                    String key = "k" + i;
                    crew.start(() -> {
                        for (int j = 0; j < 10; j++) {
                            client.set(List.of(put(key, Integer.toString(j))));
                            assertEquals(
                                    List.of(Bytes.utf8(Integer.toString(j))),
                                    client.get(List.of(Bytes.utf8(key))).values());
                        }
                    });
                }
            }
            for (int i = 0; i < threads; i++) {
                assertEquals(10, client.entry(Bytes.utf8("k" + i)).version(), "each set is a version");
            }
        }
    }

    @Test
    void aLostConnectionIsMadeAgain() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            client.set(List.of(put("a", "1")));
            InetSocketAddress address = kv.server.address();
            kv.server.close();
            kv.server.awaitStop();
            failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
            try (HomeKvServer again = new HomeKvServer(address, kv.store, new MemoryCommandLog(kv.store))) {
                Harness.await("the client finds the server again", () -> {
                    try {
                        return client.get(List.of(Bytes.utf8("a"))).values().get(0) != null;
                    } catch (HomeKvException e) {
                        return false;
                    }
                });
            }
        }
    }

    // ---- Ranges and the past ----

    private static Entry entry(String key, String value, long created, long modified, long version) {
        return new Entry(Bytes.utf8(key), Bytes.utf8(value), created, modified, version, 0);
    }

    private static <T> List<T> all(ReadStream<T> stream) {
        try (stream) {
            List<T> all = new ArrayList<>();
            stream.forEachRemaining(all::add);
            return all;
        }
    }

    @Test
    void scansReadWhatTheirOptionsSay() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            client.set(List.of(put("a", "1"), put("b", "1"), put("c", "1")));
            client.set(List.of(put("b", "2"), new Write.Delete(Bytes.utf8("c")), put("d", "2")));
            Entry a = entry("a", "1", 1, 1, 1);
            Entry b = entry("b", "2", 1, 2, 2);
            Entry d = entry("d", "2", 2, 2, 1);
            ScanOptions all = ScanOptions.of(Range.all());
            assertEquals(List.of(a, b, d), all(client.scan(all)));
            assertEquals(List.of(d, b, a), all(client.scan(all.backwards())));
            assertEquals(List.of(d, b), all(client.scan(all.backwards().atMost(2))));
            assertEquals(List.of(b), all(client.scan(ScanOptions.of(Range.prefix(Bytes.utf8("b"))))));
            assertEquals(List.of(a, entry("b", "1", 1, 1, 1), entry("c", "1", 1, 1, 1)), all(client.scan(all.at(1))));
            assertEquals(List.of(), all(client.scan(all.at(0))));
            assertEquals(
                    List.of(entry("a", "", 1, 1, 1), entry("b", "", 1, 2, 2), entry("d", "", 2, 2, 1)),
                    all(client.scan(all.withoutValues())));
            try (ReadStream<Entry> empty = client.scan(ScanOptions.of(Range.from(Bytes.utf8("x"))))) {
                assertEquals(2, empty.revision());
                assertFalse(empty.hasNext());
            }
            assertEquals(3, client.count(Range.all()));
            assertEquals(1, client.count(Range.key(Bytes.utf8("c")), 1));
            assertEquals(b, client.entry(Bytes.utf8("b")));
            assertEquals(entry("b", "1", 1, 1, 1), client.entry(Bytes.utf8("b"), 1));
            assertNull(client.entry(Bytes.utf8("c")));
            assertEquals(
                    List.of(Bytes.utf8("1")),
                    client.get(List.of(Bytes.utf8("c")), 1).values());
        }
    }

    @Test
    void historyAndDifferencesTellWhatHasChanged() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            Bytes a = Bytes.utf8("a");
            client.set(List.of(put("a", "1"), put("b", "1")));
            client.del(List.of(a));
            client.set(List.of(put("a", "2")));
            assertEquals(
                    List.of(
                            new Event.Put(entry("a", "1", 1, 1, 1), null),
                            new Event.Delete(a, 2, null),
                            new Event.Put(entry("a", "2", 3, 3, 1), null)),
                    all(client.history(a)));
            assertEquals(List.of(), all(client.history(Bytes.utf8("none"))));
            assertEquals(
                    List.of(new Difference(entry("a", "1", 1, 1, 1), null)),
                    all(client.differences(Range.all(), 1, 2)));
            assertEquals(
                    List.of(
                            new Difference(null, entry("a", "1", 1, 1, 1)),
                            new Difference(null, entry("b", "1", 1, 1, 1))),
                    all(client.differences(Range.all(), 0, 1)));
            assertEquals(List.of(), all(client.differences(Range.key(Bytes.utf8("b")), 1, 3)));
            client.compact(3);
            assertEquals(List.of(new Event.Put(entry("a", "2", 3, 3, 1), null)), all(client.history(a)));
        }
    }

    @Test
    void whatIsCompactedOrYetToComeIsRefusedWithTheRevisionsThatAreThere() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            for (int i = 0; i < 5; i++) {
                client.set(List.of(put("a", "1")));
            }
            client.compact(3);
            Bytes a = Bytes.utf8("a");
            ScanOptions all = ScanOptions.of(Range.all());
            for (long revision : new long[] {2, 6}) {
                for (Executable call : List.<Executable>of(
                        () -> client.get(List.of(a), revision),
                        () -> client.entry(a, revision),
                        () -> client.count(Range.all(), revision),
                        () -> all(client.scan(all.at(revision))),
                        () -> all(client.differences(Range.all(), Math.min(4, revision), Math.max(4, revision))),
                        () -> client.compact(revision))) {
                    HomeKvException e = failure(HomeKvException.Reason.OUT_OF_RANGE, call);
                    assertEquals(OptionalLong.of(3), e.firstRevision(), e.getMessage());
                    assertEquals(OptionalLong.of(5), e.lastRevision(), e.getMessage());
                }
            }
        }
    }

    /** Values are so large that most of it is still at the server when the connection is lost. */
    @Test
    void aScanOutlivesItsServerAndReadsTheSameRevision() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            int keys = 100;
            List<Write> writes = new ArrayList<>();
            for (int i = 0; i < keys; i++) {
                writes.add(put("k%03d".formatted(i), "v".repeat(100_000)));
            }
            client.set(writes);
            try (ReadStream<Entry> entries = client.scan(ScanOptions.of(Range.all()))) {
                assertEquals("k000", entries.next().key().utf8());
                InetSocketAddress address = kv.server.address();
                kv.server.close();
                kv.server.awaitStop();
                MemoryCommandLog log = new MemoryCommandLog(kv.store);
                log.submit(Command.delete(Bytes.utf8("k099")));
                try (HomeKvServer again = new HomeKvServer(address, kv.store, log)) {
                    for (int i = 1; i < keys; i++) {
                        assertEquals("k%03d".formatted(i), entries.next().key().utf8());
                    }
                    assertFalse(entries.hasNext());
                    assertEquals(1, entries.revision());
                }
            }
        }
    }

    // ---- Transactions ----

    /** What the same transactions come to in a store of this process is the model of what the client answers. */
    @Test
    void transactionsComeToTheSameOverTheWireAsInAStore() throws Exception {
        Harness.seeded(Harness.count(5, 300), random -> {
            try (Harness kv = new Harness();
                    MvccStore model = new MvccStore(Harness.ROOMY)) {
                HomeKvClient client = kv.client();
                MemoryCommandLog log = new MemoryCommandLog(model);
                log.submit(new Command.Grant(7, 1_000_000));
                new MemoryCommandLog(kv.store).submit(new Command.Grant(7, 1_000_000));
                for (int i = 0; i < 200; i++) {
                    Txn txn = randomTxn(random, 2);
                    switch (log.submit(txn)) {
                        case Result.Transacted expected ->
                            assertEquals(
                                    new HomeKvClient.Transacted(
                                            expected.revision(),
                                            expected.succeeded(),
                                            expected.results(),
                                            Durability.MEMORY),
                                    client.transact(txn));
                        case Result.NotAnInteger refused ->
                            failure(HomeKvException.Reason.INVALID, () -> client.transact(txn));
                        case Result other -> throw new AssertionError(other + " for " + txn);
                    }
                }
                try (Snapshot expected = model.snapshot()) {
                    List<Entry> entries = new ArrayList<>();
                    expected.scan(Range.all(), false).forEachRemaining(entries::add);
                    assertEquals(entries, all(client.scan(ScanOptions.of(Range.all()))));
                }
            }
        });
    }

    private static Txn randomTxn(SplittableRandom random, int depth) {
        List<Compare> compares = new ArrayList<>();
        while (random.nextInt(3) == 0) {
            Compare.Operator operator = Compare.Operator.values()[random.nextInt(4)];
            Range range = randomRange(random);
            compares.add(
                    switch (random.nextInt(3)) {
                        case 0 -> new Compare.Value(range, operator, randomValue(random));
                        case 1 -> new Compare.Count(range, operator, random.nextInt(4));
                        default ->
                            new Compare.Number(
                                    range, Compare.Field.values()[random.nextInt(4)], operator, random.nextInt(10));
                    });
        }
        return new Txn(compares, randomSteps(random, depth), randomSteps(random, depth));
    }

    private static List<Op> randomSteps(SplittableRandom random, int depth) {
        List<Op> steps = new ArrayList<>();
        while (random.nextInt(4) > 0) {
            steps.add(
                    switch (random.nextInt(depth > 0 ? 6 : 5)) {
                        case 0 -> new Op.Get(randomKey(random));
                        case 1 ->
                            new Op.Scan(
                                    randomRange(random), random.nextBoolean(), random.nextInt(3), random.nextBoolean());
                        case 2 ->
                            new Op.Put(
                                    randomKey(random),
                                    randomValue(random),
                                    random.nextInt(3) == 0 ? 7 : 0,
                                    random.nextBoolean());
                        case 3 -> new Op.Delete(randomRange(random), random.nextBoolean());
                        case 4 -> new Op.Increment(randomKey(random), random.nextInt(-3, 4));
                        default -> randomTxn(random, depth - 1);
                    });
        }
        return steps;
    }

    private static Bytes randomKey(SplittableRandom random) {
        return Bytes.utf8("k" + random.nextInt(4));
    }

    /** Numbers mostly, so that most increments are not refused. */
    private static Bytes randomValue(SplittableRandom random) {
        return Bytes.utf8(random.nextInt(20) == 0 ? "text" : Integer.toString(random.nextInt(5)));
    }

    private static Range randomRange(SplittableRandom random) {
        return switch (random.nextInt(5)) {
            case 0 -> Range.all();
            case 1 -> Range.prefix(Bytes.utf8("k"));
            case 2 -> new Range(randomKey(random), randomKey(random));
            default -> Range.key(randomKey(random));
        };
    }

    @Test
    void countersAndSwapsTellWhatWasThere() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            assertEquals(5, client.increment(K, 5));
            assertEquals(-2, client.increment(K, -7));
            failure(HomeKvException.Reason.INVALID, () -> client.increment(K, Long.MIN_VALUE));
            assertEquals(entry("k", "-2", 1, 2, 2), client.getAndSet(K, Bytes.utf8("v")));
            assertEquals(
                    new HomeKvClient.Swapped(false, 3, entry("k", "v", 1, 3, 3), Durability.MEMORY),
                    client.compareAndSet(K, null, Bytes.utf8("w")));
            assertEquals(
                    new HomeKvClient.Swapped(true, 4, null, Durability.MEMORY),
                    client.compareAndSet(K, Bytes.utf8("v"), Bytes.utf8("w")));
            assertEquals(entry("k", "w", 1, 4, 4), client.getAndDelete(K));
            assertNull(client.getAndDelete(K));
            assertEquals(
                    new HomeKvClient.Swapped(false, 5, null, Durability.MEMORY),
                    client.compareAndSet(K, Bytes.utf8("v"), Bytes.utf8("w")));
            assertEquals(
                    new HomeKvClient.Swapped(true, 6, null, Durability.MEMORY),
                    client.compareAndSet(K, null, Bytes.utf8("")));
            assertNull(client.getAndSet(Bytes.utf8("l"), Bytes.utf8("v")));
            Bytes empty = Bytes.utf8("");
            for (Executable call : List.<Executable>of(
                    () -> client.increment(empty, 1),
                    () -> client.getAndSet(empty, K),
                    () -> client.getAndDelete(empty),
                    () -> client.compareAndSet(empty, null, K),
                    () -> client.entry(empty),
                    () -> client.history(empty).hasNext())) {
                HomeKvException e = failure(HomeKvException.Reason.INVALID, call);
                assertTrue(e.getMessage().contains("a key is empty"), e.getMessage());
            }
        }
    }

    @Test
    void aScanForKeysOnlyInATransactionAnswersThemWithoutValues() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            client.set(List.of(put("a", "1")));
            assertEquals(
                    List.of(new OpResult.Scanned(List.of(entry("a", "", 1, 1, 1)), 1, false)),
                    client.transact(Txn.of(new Op.Scan(Range.all(), false, 0, true, false)))
                            .results());
        }
    }

    // ---- Leases ----

    @Test
    void leasesTakeTheirKeysAlong() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            long lease = client.grantLease(Duration.ofHours(1));
            client.set(List.of(new Write.Put(K, K, lease), new Write.Delete(Bytes.utf8("none"))));
            assertEquals(lease, client.entry(K).lease());
            LeaseStatus status = client.keepAlive(lease);
            assertEquals(3_600_000, status.ttlMillis());
            assertEquals(1, status.keys());
            assertTrue(status.leftMillis() > 3_000_000, status::toString);
            assertEquals(lease, client.lease(lease).id());
            assertEquals(
                    List.of(lease),
                    client.leases().stream().map(LeaseStatus::id).toList());
            assertEquals(
                    new HomeKvClient.Written(OptionalLong.of(2), OptionalLong.of(1), Durability.MEMORY),
                    client.revokeLease(lease));
            assertEquals(List.of(), client.leases());
            for (Executable call : List.<Executable>of(
                    () -> client.keepAlive(lease),
                    () -> client.lease(lease),
                    () -> client.revokeLease(lease),
                    () -> client.set(List.of(new Write.Put(K, K, lease))))) {
                failure(HomeKvException.Reason.NOT_FOUND, call);
            }
            failure(HomeKvException.Reason.INVALID, () -> client.grantLease(Duration.ZERO));
            assertThrows(
                    IllegalArgumentException.class,
                    () -> client.set(List.of(put("a", "1"), new Write.Put(K, K, lease))));
        }
    }

    // ---- Watches ----

    /** Commits of all sizes, the largest many times what one response holds, while the watch is behind or waits. */
    @Test
    void aWatchReportsEachChangeOnceInOrderAndCommitsWhole() throws Exception {
        Harness.seeded(Harness.count(3, 100), random -> {
            try (Harness kv = new Harness();
                    WatchStream watch = kv.client()
                            .watch(WatchOptions.of(Range.all()).from(1).withPrevious());
                    Harness.Crew crew = new Harness.Crew()) {
                int commits = 60;
                SplittableRandom writers = random.split();
                crew.start(() -> {
                    for (int i = 1; i <= commits; i++) {
                        List<Write> writes = new ArrayList<>();
                        for (int j = writers.nextInt(8) == 0 ? 200 : writers.nextInt(1, 4); j > 0; j--) {
                            writes.add(put("k" + writers.nextInt(300), i + "v".repeat(writers.nextInt(1_000))));
                        }
                        new MemoryCommandLog(kv.store).submit(new Command.Set(writes));
                    }
                });
                Map<Bytes, Entry> seen = new TreeMap<>();
                long last = 0;
                while (last < commits) {
                    for (Event event : watch.next()) {
                        assertTrue(event.revision() == last || event.revision() == last + 1, "none is left out");
                        last = event.revision();
                        assertEquals(seen.get(event.key()), event.previous());
                        seen.put(event.key(), ((Event.Put) event).entry());
                    }
                    assertEquals(last, watch.revision(), "whole commits");
                }
                List<Entry> entries = all(kv.client().scan(ScanOptions.of(Range.all())));
                assertEquals(entries, List.copyOf(seen.values()));
            }
        });
    }

    @Test
    void aWatchOutlivesItsServerAndMissesNothing() throws Exception {
        try (Harness kv = new Harness();
                WatchStream watch = kv.client().watch(WatchOptions.of(Range.key(K)))) {
            new MemoryCommandLog(kv.store).submit(Command.put(K, Bytes.utf8("1")));
            assertEquals(List.of(new Event.Put(entry("k", "1", 1, 1, 1), null)), watch.next());
            InetSocketAddress address = kv.server.address();
            kv.server.close();
            kv.server.awaitStop();
            MemoryCommandLog log = new MemoryCommandLog(kv.store);
            log.submit(Command.put(Bytes.utf8("other"), K));
            log.submit(Command.put(K, Bytes.utf8("2")));
            try (HomeKvServer again = new HomeKvServer(address, kv.store, log)) {
                assertEquals(List.of(new Event.Put(entry("k", "2", 1, 3, 2), null)), watch.next());
                log.submit(Command.delete(K));
                assertEquals(List.of(new Event.Delete(K, 4, null)), watch.next());
            }
        }
    }

    @Test
    void aWatchLeavesOutWhatIsNotWanted() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            WatchOptions options = WatchOptions.of(Range.prefix(K)).from(1);
            client.set(List.of(put("k", "1"), put("other", "1")));
            client.del(List.of(K, Bytes.utf8("other")));
            client.set(List.of(put("k2", "1")));
            try (WatchStream puts = client.watch(options.withoutDeletes());
                    WatchStream deletes = client.watch(options.withoutPuts());
                    WatchStream none = client.watch(WatchOptions.of(Range.prefix(K)))) {
                List<Event> seen = new ArrayList<>();
                while (seen.size() < 2) {
                    seen.addAll(puts.next());
                }
                assertEquals(List.of(1L, 3L), seen.stream().map(Event::revision).toList());
                assertEquals(List.of(new Event.Delete(K, 2, null)), deletes.next());
                assertEquals(3, none.revision());
                assertEquals(List.of(), none.next(Duration.ZERO));
            }
        }
    }

    @Test
    void aWatchOfWhatIsGoneIsRefusedWithTheRevisionsThatCanBeWatched() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            for (int i = 0; i < 5; i++) {
                client.set(List.of(put("a", "1")));
            }
            client.compact(3);
            WatchOptions all = WatchOptions.of(Range.all());
            for (long revision : new long[] {3, 7}) {
                HomeKvException e =
                        failure(HomeKvException.Reason.OUT_OF_RANGE, () -> client.watch(all.from(revision)));
                assertEquals(OptionalLong.of(4), e.firstRevision());
                assertEquals(OptionalLong.of(6), e.lastRevision());
            }
            client.watch(all.from(4)).close();
            client.watch(all.from(6)).close();
        }
    }

    // ---- The original ----

    /** Answers as the original does: what is new in the protocol, it does not know. */
    private static final class Original extends HomeKvServiceImplBase {
        private final Map<String, com.google.protobuf.ByteString> map = new TreeMap<>();

        private static <T> void answer(StreamObserver<T> observer, T response) {
            observer.onNext(response);
            observer.onCompleted();
        }

        @Override
        public synchronized void get(GetRequest request, StreamObserver<GetResponse> observer) {
            GetResponse.Builder response = GetResponse.newBuilder();
            request.getKeysList().forEach(key -> {
                var record = homekv.rpc.proto.Record.newBuilder().setKey(key);
                if (map.containsKey(key.toStringUtf8())) {
                    record.setValue(map.get(key.toStringUtf8()));
                }
                response.addRecords(record);
            });
            answer(observer, response.build());
        }

        @Override
        public synchronized void set(SetRequest request, StreamObserver<SetResponse> observer) {
            request.getRecordsList().forEach(record -> map.put(record.getKey().toStringUtf8(), record.getValue()));
            answer(observer, SetResponse.newBuilder().setSucc(true).build());
        }

        @Override
        public synchronized void del(DelRequest request, StreamObserver<DelResponse> observer) {
            request.getKeysList().forEach(key -> map.remove(key.toStringUtf8()));
            answer(observer, DelResponse.newBuilder().setSucc(true).build());
        }

        @Override
        public synchronized void metrics(Empty request, StreamObserver<MetricsResponse> observer) {
            Metrics metrics = Metrics.newBuilder()
                    .setKeysCount(-1) // 4294967295, unsigned.
                    .setValuesSizeInBytes(0)
                    .setCmdsCount(-1L)
                    .build();
            answer(observer, MetricsResponse.newBuilder().setMetrics(metrics).build());
        }
    }

    @Test
    void theAnswersOfTheOriginalComeWithoutRevisionsAndWithItsThreeMetrics() throws Exception {
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
                .addService(new Original())
                .build()
                .start();
        try (HomeKvClient client = new HomeKvClient(LOOPBACK, server.getPort(), LONG)) {
            HomeKvClient.Written nothingKnown =
                    new HomeKvClient.Written(OptionalLong.empty(), OptionalLong.empty(), null);
            assertEquals(nothingKnown, client.set(List.of(put("a", "1"), put("e", ""))));
            assertEquals(
                    new HomeKvClient.Found(Arrays.asList(null, Bytes.utf8("1"), Bytes.utf8("")), OptionalLong.empty()),
                    client.get(List.of(K, Bytes.utf8("a"), Bytes.utf8("e"))));
            assertEquals(nothingKnown, client.del(List.of(Bytes.utf8("a"))));
            Map<String, Long> metrics = client.metrics();
            assertEquals(List.of("keys_count", "values_size_in_bytes", "cmds_count"), List.copyOf(metrics.keySet()));
            assertEquals(List.of(4_294_967_295L, 0L, -1L), List.copyOf(metrics.values()));
        } finally {
            server.shutdownNow();
            server.awaitTermination();
        }
    }

    @Test
    void aServerThatDoesNotKnowTheMethodIsAFailure() throws Exception {
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
                .build()
                .start();
        try (HomeKvClient client = new HomeKvClient(LOOPBACK, server.getPort(), LONG)) {
            HomeKvException e = failure(HomeKvException.Reason.FAILED, () -> client.get(List.of(K)));
            assertTrue(e.getMessage().contains("UNIMPLEMENTED"), e.getMessage());
        } finally {
            server.shutdownNow();
            server.awaitTermination();
        }
    }

    // ---- Nobody ----

    @Test
    void whereNobodyListensItSaysSo() throws Exception {
        int port;
        try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = taken.getLocalPort();
        }
        try (HomeKvClient client = new HomeKvClient(LOOPBACK, port, LONG)) {
            HomeKvException e = failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
            assertEquals("nothing answers at " + LOOPBACK + ":" + port + "; is homekv running there?", e.getMessage());
        }
    }

    @Test
    void aHostThatIsNotThereIsNotFound() {
        try (HomeKvClient client = new HomeKvClient("no-such-host.invalid", 20_001, LONG)) {
            HomeKvException e = failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
            assertEquals("cannot find the host of no-such-host.invalid:20001; check its name", e.getMessage());
        }
    }

    /** It is the only test whose call has to last until its timeout, which is why that is short. */
    @Test
    void whoeverListensAndNeverAnswersIsGivenUpAfterTheTimeout() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
                HomeKvClient client = new HomeKvClient(LOOPBACK, silent.getLocalPort(), Duration.ofMillis(200))) {
            String words = "no answer from " + LOOPBACK + ":" + silent.getLocalPort() + " within 200 ms";
            assertEquals(
                    words,
                    failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)))
                            .getMessage());
            assertEquals(
                    words + "; the write may or may not have been carried out",
                    failure(HomeKvException.Reason.UNREACHABLE, () -> client.del(List.of(K)))
                            .getMessage());
        }
    }

    @Test
    void whoeverIsNoGrpcServerIsAFailure() throws Exception {
        try (ServerSocket other = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
                HomeKvClient client = new HomeKvClient(LOOPBACK, other.getLocalPort(), LONG);
                Harness.Crew crew = new Harness.Crew()) {
            crew.start(() -> {
                try (var socket = other.accept()) {
                    socket.getInputStream().read();
                    socket.getOutputStream().write("HTTP/1.1 400 Bad Request\r\n\r\n".getBytes());
                    socket.getOutputStream().flush();
                    socket.getInputStream().readAllBytes();
                } catch (IOException e) {
                    // The client has gone, as it should.
                }
            });
            failure(HomeKvException.Reason.FAILED, () -> client.get(List.of(K)));
        }
    }

    // ---- Closing ----

    private static Set<Thread> eventLoops() {
        return Thread.getAllStackTraces().keySet().stream()
                .filter(thread -> thread.getName().startsWith("homekv-client"))
                .collect(Collectors.toSet());
    }

    @Test
    void closingEndsItsThreadAndTheCallsUnderWay() throws Exception {
        Set<Thread> before = eventLoops();
        try (ServerSocket silent = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
                Harness.Crew crew = new Harness.Crew()) {
            HomeKvClient client = new HomeKvClient(LOOPBACK, silent.getLocalPort(), LONG);
            crew.start(() -> failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K))));
            silent.accept().close();
            silent.accept(); // The call is still under way, and tries again.
            List<Thread> own = new ArrayList<>(eventLoops());
            own.removeAll(before);
            assertEquals(1, own.size());
            client.close();
            assertTrue(own.get(0).join(LONG), "the event loop lives on");
            client.close();
            failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
        }
    }
}
