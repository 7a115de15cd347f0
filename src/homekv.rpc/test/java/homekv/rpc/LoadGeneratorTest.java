package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import homekv.rpc.LoadGenerator.Callers;
import homekv.rpc.LoadGenerator.Keys;
import homekv.rpc.LoadGenerator.Outcome;
import homekv.rpc.LoadGenerator.Plan;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.Record;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.MemoryCommandLog;
import homekv.storage.Range;
import homekv.storage.Snapshot;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Queue;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What the load generator counts, when it begins calls, and which keys it touches. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class LoadGeneratorTest {
    private static final Duration LONG = Duration.ofHours(1);
    private static final Duration PATIENCE = Duration.ofSeconds(Harness.HANG_SECONDS);
    private static final Keys KEYS = new Keys(Bytes.utf8("bench/"), 1_000, 10, 0);

    private static Plan gets(int inFlight, long calls) {
        return Plan.of(KEYS, 100, 1, inFlight, LONG).withCalls(calls);
    }

    /** A server that answers gets as a test wants, and knows nothing else. */
    private abstract static class Stub extends HomeKvServiceGrpc.HomeKvServiceImplBase implements AutoCloseable {
        final AtomicInteger received = new AtomicInteger();
        final Server server;

        @SuppressWarnings("this-escape") // It serves nobody before somebody connects.
        Stub() throws IOException {
            server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), 0))
                    .directExecutor()
                    .addService(this)
                    .build()
                    .start();
        }

        @Override
        public void get(GetRequest request, StreamObserver<GetResponse> response) {
            get(received.incrementAndGet(), request, response);
        }

        abstract void get(int number, GetRequest request, StreamObserver<GetResponse> response);

        static void answer(GetRequest request, StreamObserver<GetResponse> response) {
            GetResponse.Builder found = GetResponse.newBuilder();
            request.getKeysList()
                    .forEach(key ->
                            found.addRecords(Record.newBuilder().setKey(key).setValue(ByteString.EMPTY)));
            response.onNext(found.build());
            response.onCompleted();
        }

        LoadGenerator load(int connections) {
            return new LoadGenerator("127.0.0.1", server.getPort(), PATIENCE, connections);
        }

        @Override
        public void close() {
            server.shutdownNow();
        }
    }

    private static final class RefusingTheHundredth extends Stub {
        RefusingTheHundredth() throws IOException {}

        @Override
        void get(int number, GetRequest request, StreamObserver<GetResponse> response) {
            if (number == 100) {
                response.onError(
                        Status.RESOURCE_EXHAUSTED.withDescription("no room").asRuntimeException());
            } else {
                answer(request, response);
            }
        }
    }

    private static LoadGenerator load(Harness harness, int connections) {
        return new LoadGenerator("127.0.0.1", harness.port(), PATIENCE, connections);
    }

    // ---- What is counted ----

    @ParameterizedTest
    @EnumSource(Callers.class)
    void everyCallIsMadeAndCountedOnce(Callers callers) throws Exception {
        try (Harness harness = new Harness();
                LoadGenerator load = load(harness, 3)) {
            assertTrue(load.fill(KEYS));
            var before = harness.store.counters();
            Plan plan = Plan.of(KEYS, 70, 1, 32, LONG)
                    .withWarmUpCalls(500)
                    .withCalls(3_000)
                    .withCallers(callers);
            Outcome outcome = load.run(plan);
            assertNull(outcome.failure());
            assertEquals(3_000, outcome.calls());
            assertEquals(3_000, outcome.keys());
            assertEquals(0, outcome.failedCalls());
            assertEquals(0, outcome.lateCalls());
            assertEquals(3_000, outcome.latencies().count());
            var after = harness.store.counters();
            long carriedOut = after.gets() - before.gets() + after.sets() - before.sets();
            boolean gathers = callers.name().startsWith("GATHERED");
            assertTrue(carriedOut == 3_500 || gathers && carriedOut < 3_500, carriedOut + " carried out");
            long share = (after.sets() - before.sets()) * 100 / carriedOut;
            assertTrue(gathers || share >= 20 && share <= 40, share + "% of the calls are sets");
        }
    }

    @Test
    void aCallOfManyKeysCountsOnceAndItsKeysEach() throws Exception {
        try (Harness harness = new Harness();
                LoadGenerator load = load(harness, 1)) {
            load.fill(KEYS);
            for (int readPercent : List.of(100, 0)) {
                Outcome outcome =
                        load.run(Plan.of(KEYS, readPercent, 10, 4, LONG).withCalls(100));
                assertNull(outcome.failure());
                assertEquals(100, outcome.calls());
                assertEquals(1_000, outcome.keys());
            }
        }
    }

    @Test
    void theFirstRefusalEndsTheRunAndIsCountedApart() throws Exception {
        try (Stub stub = new RefusingTheHundredth();
                LoadGenerator load = stub.load(1)) {
            Outcome outcome = load.run(gets(8, 5_000));
            assertEquals(HomeKvException.Reason.NO_ROOM, outcome.failure().reason());
            assertEquals("no room", outcome.failure().getMessage());
            assertEquals(1, outcome.failedCalls());
            assertEquals(stub.received.get() - 1, outcome.calls());
            assertTrue(stub.received.get() <= 107, stub.received + " calls were made");
        }
    }

    @Test
    void aRunThatIsRefusedWhileItWarmsUpHasMeasuredNothing() throws Exception {
        try (Stub stub = new RefusingTheHundredth();
                LoadGenerator load = stub.load(1)) {
            Outcome outcome = load.run(gets(8, 5_000).withWarmUpCalls(200));
            assertEquals(HomeKvException.Reason.NO_ROOM, outcome.failure().reason());
            assertEquals(0, outcome.calls());
            assertEquals(0, outcome.keys());
            assertEquals(0, outcome.latencies().count());
            assertTrue(stub.received.get() <= 107, stub.received + " calls were made");
        }
    }

    @Test
    void aGetThatDoesNotFindItsKeyHasFailed() throws Exception {
        try (Harness harness = new Harness();
                LoadGenerator load = load(harness, 1)) {
            for (Callers callers : Callers.values()) {
                Outcome outcome = load.run(gets(1, 10).withCallers(callers));
                assertEquals(0, outcome.calls());
                assertEquals(1, outcome.failedCalls());
                assertEquals(HomeKvException.Reason.FAILED, outcome.failure().reason());
            }
        }
    }

    @Test
    void aServerThatGoesAwayEndsTheRunWithWhatWasMeasured() throws Exception {
        try (Stub stub = new Stub() {
                    @Override
                    void get(int number, GetRequest request, StreamObserver<GetResponse> response) {
                        if (number == 100) {
                            server.shutdownNow();
                        } else {
                            answer(request, response);
                        }
                    }
                };
                LoadGenerator load = stub.load(2)) {
            Outcome outcome = load.run(gets(8, 5_000));
            assertEquals(HomeKvException.Reason.UNREACHABLE, outcome.failure().reason());
            assertTrue(outcome.failedCalls() >= 1);
            assertEquals(outcome.calls(), outcome.latencies().count());
            assertTrue(outcome.calls() >= 80, outcome.calls() + " answered");
        }
    }

    @Test
    void aServerThatDoesNotAnswerEndsTheRunAfterTheTimeout() throws Exception {
        try (Stub stub = new Stub() {
                    @Override
                    void get(int number, GetRequest request, StreamObserver<GetResponse> response) {}
                };
                LoadGenerator load = new LoadGenerator("127.0.0.1", stub.server.getPort(), Duration.ofMillis(50), 1)) {
            for (long rate : List.of(0L, 1_000_000L)) {
                Outcome outcome = load.run(gets(8, 5_000).withCallsPerSecond(rate));
                assertEquals(
                        HomeKvException.Reason.UNREACHABLE, outcome.failure().reason());
                assertTrue(outcome.failure().getMessage().contains("50 ms"));
                assertEquals(0, outcome.calls());
                assertEquals(8, outcome.failedCalls());
            }
        }
    }

    @ParameterizedTest
    @ValueSource(longs = {0, 1_000_000})
    void aRunThatIsStoppedEndsWithWhatWasMeasured(long rate) throws Exception {
        LoadGenerator[] loads = new LoadGenerator[1];
        try (Stub stub = new Stub() {
                    @Override
                    void get(int number, GetRequest request, StreamObserver<GetResponse> response) {
                        if (number == 100) {
                            loads[0].stop();
                        }
                        answer(request, response);
                    }
                };
                LoadGenerator load = stub.load(1)) {
            loads[0] = load;
            Outcome outcome = load.run(gets(4, LoadGenerator.MAX_CALLS).withCallsPerSecond(rate));
            assertNull(outcome.failure());
            assertEquals(stub.received.get(), outcome.calls());
            assertTrue(outcome.calls() >= 100 && outcome.calls() <= 104, outcome.calls() + " calls were made");
            assertEquals(0, outcome.failedCalls());
            assertFalse(load.fill(KEYS));
        }
    }

    // ---- When calls begin ----

    /** Holds calls until as many are there as may be in flight. */
    @ParameterizedTest
    @ValueSource(longs = {0, 1_000_000})
    void asManyCallsAreInFlightAsThePlanSaysAndNeverMore(long rate) throws Exception {
        int inFlight = 24;
        List<Runnable> held = new ArrayList<>();
        AtomicInteger most = new AtomicInteger();
        try (Stub stub = new Stub() {
                    @Override
                    void get(int number, GetRequest request, StreamObserver<GetResponse> response) {
                        List<Runnable> released = List.of();
                        synchronized (held) {
                            held.add(() -> answer(request, response));
                            most.accumulateAndGet(held.size(), Math::max);
                            if (held.size() >= inFlight) {
                                released = List.copyOf(held);
                                held.clear();
                            }
                        }
                        released.forEach(Runnable::run);
                    }
                };
                LoadGenerator load = stub.load(3)) {
            Outcome outcome = load.run(gets(inFlight, 20 * inFlight).withCallsPerSecond(rate));
            assertNull(outcome.failure());
            assertEquals(20 * inFlight, outcome.calls());
            assertEquals(inFlight, most.get());
        }
    }

    /**
     * The server stands still once for a second, on a clock that only moves when it is read. With calls that follow each
     * other, that is one slow call of 300; at 300 a second, all that were due meanwhile were slow.
     */
    @Test
    void atARateACallTakesItsTimeFromWhenItWasDueEvenIfTheServerStoodStillThen() throws Exception {
        for (long rate : List.of(0L, 300L)) {
            AtomicLong clock = new AtomicLong();
            try (Stub stub = new Stub() {
                        @Override
                        void get(int number, GetRequest request, StreamObserver<GetResponse> response) {
                            if (number == 10) {
                                clock.addAndGet(1_000_000_000);
                            }
                            answer(request, response);
                        }
                    };
                    LoadGenerator load = new LoadGenerator(
                            "127.0.0.1", stub.server.getPort(), PATIENCE, 1, () -> clock.addAndGet(100_000))) {
                Outcome outcome = load.run(gets(1, 300).withCallsPerSecond(rate));
                assertNull(outcome.failure());
                assertEquals(300, outcome.calls());
                assertTrue(outcome.latencies().maxNanos() >= 1_000_000_000);
                long median = outcome.latencies().percentileNanos(50);
                if (rate == 0) {
                    assertTrue(median < 100_000_000, median + " ns");
                } else {
                    // The tenth is due at 30 ms and ends after 1,030 ms; the 160th, due at 530 ms, cannot begin before.
                    assertTrue(median >= 400_000_000, median + " ns");
                }
            }
        }
    }

    @Test
    void callsThatWereDueAndCouldNotBeginBeforeTheEndAreToldOf() throws Exception {
        AtomicLong clock = new AtomicLong();
        try (Stub stub = new Stub() {
                    @Override
                    void get(int number, GetRequest request, StreamObserver<GetResponse> response) {
                        if (number == 10) {
                            clock.addAndGet(5_000_000_000L);
                        }
                        answer(request, response);
                    }
                };
                LoadGenerator load = new LoadGenerator(
                        "127.0.0.1", stub.server.getPort(), PATIENCE, 1, () -> clock.addAndGet(100_000))) {
            Plan plan = Plan.of(KEYS, 100, 1, 1, Duration.ofSeconds(1)).withCallsPerSecond(1_000);
            Outcome outcome = load.run(plan);
            assertNull(outcome.failure());
            assertEquals(10, outcome.calls());
            assertEquals(990, outcome.lateCalls());
        }
    }

    // ---- Which keys ----

    @Test
    void theSameSeedMakesTheSameCallsAndAnotherOneOthers() throws Exception {
        Queue<String> asked = new ConcurrentLinkedQueue<>();
        try (Stub stub = new Stub() {
                    @Override
                    void get(int number, GetRequest request, StreamObserver<GetResponse> response) {
                        asked.add(request.getKeysList().stream()
                                .map(ByteString::toStringUtf8)
                                .toList()
                                .toString());
                        answer(request, response);
                    }
                };
                LoadGenerator load = stub.load(2)) {
            List<List<String>> runs = new ArrayList<>();
            for (long seed : new long[] {1, 1, 2}) {
                for (double theta : new double[] {0, 0.9}) {
                    asked.clear();
                    Keys keys = new Keys(KEYS.prefix(), KEYS.count(), 0, theta);
                    Plan plan = new Plan(keys, 100, 3, 16, 0, 50, 500, LONG, seed, Callers.CALLBACKS);
                    assertEquals(500, load.run(plan).calls());
                    runs.add(asked.stream().sorted().toList());
                }
            }
            assertEquals(runs.get(0), runs.get(2));
            assertEquals(runs.get(1), runs.get(3));
            assertNotEquals(runs.get(0), runs.get(4));
            assertNotEquals(runs.get(1), runs.get(5));
            assertNotEquals(runs.get(0), runs.get(1));
        }
    }

    @Test
    void itWritesAndDeletesItsOwnKeysAndNoOther() throws Exception {
        try (Harness harness = new Harness();
                LoadGenerator load = load(harness, 1)) {
            List<String> others =
                    List.of("bench", "bench/", "bench/000000000", "bench/00000000000", "bench/0000001000");
            others.forEach(key ->
                    new MemoryCommandLog(harness.store).submit(Command.put(Bytes.utf8(key), Bytes.utf8("mine"))));
            assertFalse(load.hasAny(KEYS));
            assertTrue(load.fill(KEYS));
            assertTrue(load.hasAny(KEYS));
            assertEquals(others.size() + KEYS.count(), harness.store.counters().keys());
            load.run(Plan.of(KEYS, 0, 10, 8, LONG).withCalls(500));
            assertEquals(others.size() + KEYS.count(), harness.store.counters().keys());
            load.clear(KEYS);
            try (Snapshot snapshot = harness.store.snapshot()) {
                List<String> left = new ArrayList<>();
                snapshot.scan(Range.all(), false)
                        .forEachRemaining(entry -> left.add(
                                entry.key().utf8() + "=" + entry.value().utf8()));
                assertEquals(others.stream().map(key -> key + "=mine").toList(), left);
            }
        }
    }

    @Test
    void keysOfOneAreChosenAsOftenAsZipfsLawSays() throws Exception {
        Harness.seeded(Harness.count(5, 50), random -> {
            int count = 1 + random.nextInt(random.nextBoolean() ? 5 : 2_000);
            double theta = random.nextDouble(0.01, 0.995);
            Zipf zipf = new Zipf(count, theta);
            int draws = 100_000;
            int[] drawn = new int[count];
            for (int i = 0; i < draws; i++) {
                drawn[zipf.next(random)]++;
            }
            double expected = zipf.firstShare() * draws;
            double deviation = Math.sqrt(expected * (1 - zipf.firstShare()));
            assertTrue(
                    Math.abs(drawn[0] - expected) <= 6 * deviation + 1,
                    drawn[0] + " instead of " + expected + " of " + count + " with " + theta);
            assertTrue(Arrays.stream(drawn).max().orElseThrow() <= drawn[0] + 12 * deviation + 1, "0 comes most often");
            assertTrue(count > 100 || Arrays.stream(drawn).allMatch(times -> times > 0), "each comes");
        });
    }

    // ---- Bounds, and the histogram ----

    @Test
    void whatIsOutOfBoundsIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> new Keys(KEYS.prefix(), 0, 10, 0));
        assertThrows(IllegalArgumentException.class, () -> new Keys(KEYS.prefix(), 1, 10, 1));
        assertThrows(IllegalArgumentException.class, () -> Plan.of(KEYS, 101, 1, 1, LONG));
        assertThrows(IllegalArgumentException.class, () -> Plan.of(KEYS, 100, 1, 0, LONG));
        assertThrows(IllegalArgumentException.class, () -> Plan.of(KEYS, 100, 1, 1, Duration.ZERO));
        Keys large = new Keys(KEYS.prefix(), 1, LoadGenerator.MAX_VALUE_BYTES, 0);
        assertThrows(IllegalArgumentException.class, () -> Plan.of(large, 100, 1, 17, LONG));
        Plan threads = gets(1, 1).withCallers(Callers.VIRTUAL_THREADS);
        assertThrows(IllegalArgumentException.class, () -> threads.withCallsPerSecond(1));
        assertThrows(IllegalArgumentException.class, () -> new LoadGenerator("127.0.0.1", 1, LONG, 0));
    }

    @Test
    void theHistogramTellsEveryPercentileToOnePercent() throws Exception {
        Harness.seeded(Harness.count(20, 500), random -> {
            Latencies latencies = new Latencies();
            assertEquals(0, latencies.percentileNanos(50));
            long[] all = durations(random);
            for (long nanos : all) {
                latencies.add(nanos);
            }
            Arrays.sort(all);
            assertEquals(all.length, latencies.count());
            assertEquals(all[all.length - 1], latencies.maxNanos());
            for (double percent : new double[] {0, 0.1, 1, 50, 90, 99, 99.9, 100}) {
                long exact = all[Math.max(0, (int) Math.ceil(percent / 100 * all.length) - 1)];
                long told = latencies.percentileNanos(percent);
                assertTrue(told >= exact && told <= exact * 1.01, told + " instead of " + exact);
            }
        });
    }

    private static long[] durations(SplittableRandom random) {
        long[] durations = new long[1 + random.nextInt(3_000)];
        for (int i = 0; i < durations.length; i++) {
            durations[i] = random.nextLong(1L << random.nextInt(1, 42));
        }
        return durations;
    }
}
