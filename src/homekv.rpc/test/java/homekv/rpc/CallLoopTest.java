package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.WatchRequest;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Result;
import homekv.storage.Write;
import io.grpc.Status;
import io.netty.channel.IoHandler;
import io.netty.channel.IoHandlerContext;
import java.io.IOException;
import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Calls that the server completes in one read are begun and answered together, and share nothing else. */
class CallLoopTest {
    private static final String GET = HomeKvServiceGrpc.getGetMethod().getFullMethodName();
    private static final String SET = HomeKvServiceGrpc.getSetMethod().getFullMethodName();
    private static final String WATCH = HomeKvServiceGrpc.getWatchMethod().getFullMethodName();
    private static final int CALLS = 60;

    /** Lets a set of the key "wait" wait, and knows which threads have come. */
    private static final class WaitingLog implements CommandLog {
        private static final Bytes WAIT = Bytes.utf8("wait");

        final CountDownLatch gate = new CountDownLatch(1);
        final List<Thread> threads = new ArrayList<>();

        /** Of each thread, what it says of itself, its carrier included. */
        final List<String> names = new ArrayList<>();

        private final CommandLog log;

        WaitingLog(MvccStore store) {
            log = new MemoryCommandLog(store);
        }

        @Override
        public Result submit(Command command) {
            synchronized (threads) {
                threads.add(Thread.currentThread());
                names.add(Thread.currentThread().toString());
            }
            if (((Command.Set) command).writes().getFirst() instanceof Write.Put put
                    && put.key().equals(WAIT)) {
                try {
                    gate.await();
                } catch (InterruptedException e) {
                    throw new AssertionError("nobody interrupts a call", e);
                }
            }
            return log.submit(command);
        }
    }

    private static RawHttp2.Stream start(RawHttp2 raw, String method, com.google.protobuf.MessageLite request)
            throws IOException {
        RawHttp2.Stream stream = raw.start(method);
        raw.send(stream, RawHttp2.message(request), true);
        return stream;
    }

    @Test
    void aCallThatWaitsHoldsUpNoneThatCameWithItAndEachHasAVirtualThreadOfItsOwn() throws Exception {
        WaitingLog[] log = new WaitingLog[1];
        try (Harness kv = new Harness(Harness.ROOMY, store -> log[0] = new WaitingLog(store))) {
            RawHttp2 raw = kv.raw();
            raw.gather();
            List<RawHttp2.Stream> waiting = new ArrayList<>();
            List<RawHttp2.Stream> others = new ArrayList<>();
            for (int i = 0; i < CALLS; i++) {
                if (i % 3 == 0) {
                    waiting.add(start(raw, SET, Harness.set(Harness.put("wait", "1"))));
                } else {
                    others.add(start(raw, SET, Harness.set(Harness.put("k" + i, "1"))));
                }
            }
            raw.release();
            for (RawHttp2.Stream stream : others) {
                assertEquals(0, raw.await(stream).status());
            }
            waiting.forEach(stream -> assertTrue(!stream.ended()));
            log[0].gate.countDown();
            for (RawHttp2.Stream stream : waiting) {
                assertEquals(0, raw.await(stream).status());
            }
            synchronized (log[0].threads) {
                log[0].threads.forEach(thread -> assertTrue(thread.isVirtual()));
                Set<Thread> distinct = new HashSet<>(log[0].threads);
                assertEquals(CALLS, distinct.size());
            }
            kv.awaitInFlight(0);
        }
    }

    @Test
    void onlyABriefCallRunsOnTheLoop() throws Exception {
        assumeTrue(CarriedThreads.supported(), "this JDK has no threads that a loop carries");
        WaitingLog[] log = new WaitingLog[1];
        try (Harness kv = new Harness(Harness.ROOMY, store -> log[0] = new WaitingLog(store))) {
            RawHttp2 raw = kv.raw();
            for (int bytes : new int[] {10, 4_000, 5_000, 20_000}) {
                assertEquals(
                        0,
                        raw.await(start(raw, SET, Harness.set(Harness.put("k", Harness.bytes(bytes)))))
                                .status());
            }
            synchronized (log[0].threads) {
                assertEquals(
                        List.of(true, true, false, false),
                        log[0].names.stream()
                                .map(name -> name.contains("homekv-io"))
                                .toList(),
                        log[0].names::toString);
            }
        }
    }

    private static ThreadFactory counted(AtomicInteger made) {
        return work -> {
            made.incrementAndGet();
            return Thread.ofVirtual().unstarted(work);
        };
    }

    @Test
    void aGetIsBriefIfItNamesNothingButKeys() throws Exception {
        assumeTrue(CarriedThreads.supported(), "this JDK has no threads that a loop carries");
        GetRequest keys = Harness.get("k", "x".repeat(300), "y".repeat(127), "z".repeat(128));
        AtomicInteger brief = new AtomicInteger();
        try (Harness kv = new Harness(
                Harness.ROOMY,
                MemoryCommandLog::new,
                loop -> counted(brief),
                Thread.ofVirtual().factory())) {
            RawHttp2 raw = kv.raw();
            assertEquals(0, raw.await(start(raw, GET, keys)).status());
            assertEquals(
                    0,
                    raw.await(start(raw, GET, GetRequest.getDefaultInstance())).status());
            assertEquals(2, brief.get());
            GetRequest past = keys.toBuilder().setRevision(0).build();
            assertEquals(0, raw.await(start(raw, GET, past)).status());
            assertEquals(2, brief.get());
        }
    }

    @Test
    void whatSeveralBriefCallsAreAboutIsFetchedBeforeTheyRunAndNothingElse() throws Exception {
        List<List<Bytes>> fetched = Collections.synchronizedList(new ArrayList<>());
        List<List<Bytes>> fetchedBefore = Collections.synchronizedList(new ArrayList<>());
        List<String> came = List.of("a", "b", "", "a"); // Nothing: a call about several keys.
        IoHandler loop = CallLoop.over(
                        executor -> new CallsTest.NoTransport() {
                            @Override
                            public int run(IoHandlerContext context) {
                                came.forEach(key -> CallLoop.current().expect(key.isEmpty() ? null : Bytes.utf8(key)));
                                fetchedBefore.addAll(fetched);
                                return 0;
                            }
                        },
                        executor -> Thread.ofVirtual().factory(),
                        Thread.ofVirtual().factory(),
                        keys -> fetched.add(List.copyOf(keys)))
                .newHandler(null);
        Thread thread = Thread.ofPlatform().start(() -> {
            loop.initialize();
            loop.run(null);
            loop.run(null);
        });
        thread.join();
        List<Bytes> together = List.of(Bytes.utf8("a"), Bytes.utf8("b"), Bytes.utf8("a"));
        assertEquals(List.of(together, together), fetched);
        assertEquals(List.of(together), fetchedBefore, "after all that there is to be read, and once");
    }

    /** C1. */
    @Test
    void theLongAnswerOfABriefCallIsSentByAThreadThatNoLoopCarries() throws Exception {
        assumeTrue(CarriedThreads.supported(), "this JDK has no threads that a loop carries");
        AtomicInteger brief = new AtomicInteger();
        AtomicInteger others = new AtomicInteger();
        try (Harness kv = new Harness(Harness.ROOMY, MemoryCommandLog::new, loop -> counted(brief), counted(others))) {
            RawHttp2 raw = kv.raw();
            for (int bytes : new int[] {10, 16_000, 17_000, 1_000_000}) {
                kv.stub().set(Harness.set(Harness.put("k", Harness.bytes(bytes))));
                int briefBefore = brief.get();
                int othersBefore = others.get();
                RawHttp2.Stream stream = raw.await(start(raw, GET, Harness.get("k")));
                assertEquals(0, stream.status(), stream::message);
                assertTrue(stream.body.size() > bytes);
                assertEquals(briefBefore + 1, brief.get());
                assertEquals(othersBefore + (bytes > 16_384 ? 1 : 0), others.get(), bytes + " bytes");
            }
            kv.awaitInFlight(0);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void everyCallOfEveryBurstIsAnsweredWithItsOwnAnswer(boolean carried) throws Exception {
        Harness.seeded(4, random -> {
            try (Harness kv = carried
                    ? new Harness()
                    : new Harness(
                            Harness.ROOMY,
                            MemoryCommandLog::new,
                            Thread.ofVirtual().factory())) {
                kv.stub().set(Harness.set(Harness.put("short", "1"), Harness.put("long", Harness.bytes(40_000))));
                RawHttp2 raw = kv.raw();
                for (int burst = 0; burst < Harness.count(300, 3_000); burst++) {
                    raw.gather();
                    List<RawHttp2.Stream> streams = new ArrayList<>();
                    List<String> keys = new ArrayList<>();
                    for (int i = random.nextInt(1, 40); i > 0; i--) {
                        // Some of them are not answered by the loop: they are too long.
                        String key = random.nextInt(20) == 0 ? "long" : random.nextBoolean() ? "short" : "none" + i;
                        keys.add(key);
                        streams.add(start(raw, GET, Harness.get(key)));
                        if (random.nextInt(10) == 0) {
                            raw.release();
                            raw.gather();
                        }
                    }
                    raw.release();
                    for (int i = 0; i < streams.size(); i++) {
                        RawHttp2.Stream stream = raw.await(streams.get(i));
                        assertEquals(0, stream.status(), stream::message);
                        byte[] body = stream.body.toByteArray();
                        byte[] message = java.util.Arrays.copyOfRange(body, 5, body.length);
                        assertEquals(
                                Harness.bytes(keys.get(i)),
                                GetResponse.parseFrom(message).getRecords(0).getKey());
                    }
                }
                kv.awaitInFlight(0);
            }
        });
    }

    @Test
    void aCallThatGoesOnKeepsNothingOfThoseThatCameWithIt() throws Exception {
        List<WeakReference<Runnable>> calls = Collections.synchronizedList(new ArrayList<>());
        ThreadFactory remembering = call -> {
            calls.add(new WeakReference<>(call));
            return Thread.ofVirtual().unstarted(call);
        };
        try (Harness kv = new Harness(Harness.ROOMY, MemoryCommandLog::new, remembering)) {
            RawHttp2 raw = kv.raw();
            raw.gather();
            RawHttp2.Stream watch = start(raw, WATCH, WatchRequest.getDefaultInstance());
            List<RawHttp2.Stream> streams = new ArrayList<>();
            for (int i = 0; i < CALLS; i++) {
                streams.add(start(raw, GET, Harness.get("none" + i)));
            }
            raw.release();
            for (RawHttp2.Stream stream : streams) {
                assertEquals(0, raw.await(stream).status());
            }
            Harness.await("all calls but the watch are let go of", () -> {
                System.gc();
                return calls.stream().filter(call -> call.get() != null).count() == 1;
            });
            assertTrue(!watch.ended());
        }
    }

    @Test
    void callsThatAreCancelledAsTheyAreCompletedGiveBackWhatTheyHold() throws Exception {
        try (Harness kv = new Harness()) {
            RawHttp2 raw = kv.raw();
            for (int burst = 0; burst < 50; burst++) {
                raw.gather();
                for (int i = 0; i < 3; i++) {
                    for (int bytes : new int[] {100, 17_000}) {
                        RawHttp2.Stream stream =
                                start(raw, SET, Harness.set(Harness.put("k" + i, Harness.bytes(bytes))));
                        raw.cancel(stream);
                    }
                }
                raw.release();
                raw.roundTrip();
            }
            kv.awaitInFlight(0);
        }
    }

    @Test
    void aCallForWhichThereIsNoThreadIsEndedAndThoseAroundItAreAnswered() throws Exception {
        AtomicInteger started = new AtomicInteger();
        ThreadFactory scarce = call -> new Thread(call) {
            @Override
            public void start() {
                if (started.getAndIncrement() % 3 == 1) {
                    throw new OutOfMemoryError("no thread, for a test");
                }
                Thread.ofVirtual().start(call);
            }
        };
        try (Harness kv = new Harness(Harness.ROOMY, MemoryCommandLog::new, scarce)) {
            RawHttp2 raw = kv.raw();
            for (int burst = 0; burst < 20; burst++) {
                raw.gather();
                List<RawHttp2.Stream> streams = new ArrayList<>();
                for (int i = 0; i < CALLS; i++) {
                    int bytes = i == 30 ? 17_000 : 10;
                    streams.add(start(raw, SET, Harness.set(Harness.put("k" + i, Harness.bytes(bytes)))));
                }
                raw.release();
                int refused = 0;
                for (RawHttp2.Stream stream : streams) {
                    int status = raw.await(stream).status();
                    if (status != 0) {
                        assertEquals(Status.Code.RESOURCE_EXHAUSTED.value(), status, stream::message);
                        refused++;
                    }
                }
                assertEquals(CALLS / 3, refused);
            }
            kv.awaitInFlight(0);
        }
    }
}
