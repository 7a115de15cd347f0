package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import homekv.rpc.proto.Durability;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceImplBase;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Entry;
import homekv.storage.Limit;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Result;
import homekv.storage.Write;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Test;

/** What callers of one client notice of each other's calls being one: that it is faster, and nothing else. */
class GatheringTest {
    private static final Duration LONG = Duration.ofSeconds(Harness.HANG_SECONDS);

    // ---- A server that answers when the test says so ----

    /** A call that the server has got and not answered. */
    private record Held<Q, R>(Q request, ServerCallStreamObserver<R> observer, CountDownLatch cancelled) {
        Held(Q request, StreamObserver<R> observer) {
            this(request, (ServerCallStreamObserver<R>) observer, new CountDownLatch(1));
            this.observer.setOnCancelHandler(cancelled::countDown);
        }

        void answer(R response) {
            observer.onNext(response);
            observer.onCompleted();
        }

        void fail(Status status) {
            observer.onError(status.asRuntimeException());
        }
    }

    private static final class Holding extends HomeKvServiceImplBase implements AutoCloseable {
        final BlockingQueue<Held<GetRequest, GetResponse>> gets = new LinkedBlockingQueue<>();
        final BlockingQueue<Held<SetRequest, SetResponse>> sets = new LinkedBlockingQueue<>();
        final Server server;
        final HomeKvClient client;

        Holding() throws IOException {
            server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
                    .addService(this)
                    .build()
                    .start();
            client = new HomeKvClient(InetAddress.getLoopbackAddress().getHostAddress(), server.getPort(), LONG);
        }

        @Override
        public void get(GetRequest request, StreamObserver<GetResponse> observer) {
            gets.add(new Held<>(request, observer));
        }

        @Override
        public void set(SetRequest request, StreamObserver<SetResponse> observer) {
            sets.add(new Held<>(request, observer));
        }

        @Override
        public void close() throws Exception {
            client.close();
            server.shutdownNow();
            server.awaitTermination();
        }

        void awaitGathered(int callers) {
            Harness.await(callers + " callers wait", () -> client.gathered() == callers);
        }
    }

    private static <T> T next(BlockingQueue<T> held) throws InterruptedException {
        T next = held.poll(Harness.HANG_SECONDS, TimeUnit.SECONDS);
        assertTrue(next != null, "no call comes");
        return next;
    }

    private static Bytes key(int i) {
        return Bytes.utf8("key-" + i);
    }

    private static Bytes value(Bytes key) {
        return Bytes.utf8("value of " + key.utf8());
    }

    private static List<Write> put(Bytes key, Bytes value) {
        return List.of(new Write.Put(key, value));
    }

    private static List<String> keys(Held<SetRequest, ?> held) {
        return held.request.getRecordsList().stream()
                .map(record -> record.getKey().toStringUtf8())
                .toList();
    }

    private static GetResponse valuesOf(GetRequest request, long revision) {
        GetResponse.Builder response = GetResponse.newBuilder().setRevision(revision);
        for (ByteString key : request.getKeysList()) {
            response.addRecords(Record.newBuilder()
                    .setKey(key)
                    .setValue(ByteString.copyFromUtf8("value of " + key.toStringUtf8())));
        }
        return response.build();
    }

    private static SetResponse done(long revision) {
        return SetResponse.newBuilder()
                .setSucc(true)
                .setRevision(revision)
                .setDurability(Durability.FORCED)
                .build();
    }

    private static HomeKvException failure(HomeKvException.Reason reason, Harness.Body call) {
        HomeKvException e = assertThrows(HomeKvException.class, call::run);
        assertEquals(reason, e.reason(), e.getMessage());
        return e;
    }

    // ---- What goes together ----

    @Test
    void aLoneCallerIsSentAtOnceAndAlone() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            crew.start(() -> {
                for (int i = 0; i < 10; i++) {
                    assertEquals(
                            List.of(value(key(i))),
                            kv.client.get(List.of(key(i))).values());
                    kv.client.set(put(key(i), key(i)));
                }
            });
            for (int i = 0; i < 10; i++) {
                Held<GetRequest, GetResponse> get = next(kv.gets);
                assertEquals(1, get.request.getKeysCount());
                get.answer(valuesOf(get.request, i));
                Held<SetRequest, SetResponse> set = next(kv.sets);
                assertEquals(1, set.request.getRecordsCount());
                set.answer(done(i));
            }
        }
    }

    @Test
    void getsThatComeWhileOneIsUnderWayAreOneCallAndEachIsAnsweredItsOwn() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            for (int i = 0; i < 101; i++) {
                int number = i % 90; // Some ask for the same.
                crew.start(() -> assertEquals(
                        List.of(value(key(number))),
                        kv.client.get(List.of(key(number))).values()));
            }
            kv.awaitGathered(100);
            Held<GetRequest, GetResponse> first = next(kv.gets);
            first.answer(valuesOf(first.request, 1));
            Held<GetRequest, GetResponse> second = next(kv.gets);
            assertEquals(100, second.request.getKeysCount());
            second.answer(valuesOf(second.request, 2));
        }
    }

    @Test
    void setsThatComeWhileOneIsUnderWayAreOneCall() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            AtomicInteger together = new AtomicInteger();
            for (int i = 0; i < 101; i++) {
                Bytes key = key(i);
                crew.start(() -> {
                    HomeKvClient.Written written = kv.client.set(put(key, value(key)));
                    together.addAndGet(written.revision().getAsLong() == 2 ? 1 : 0);
                    assertEquals(homekv.storage.Durability.FORCED, written.durability());
                });
            }
            kv.awaitGathered(100);
            next(kv.sets).answer(done(1));
            Held<SetRequest, SetResponse> second = next(kv.sets);
            assertEquals(100, new HashSet<>(keys(second)).size());
            second.request
                    .getRecordsList()
                    .forEach(record -> assertEquals(
                            "value of " + record.getKey().toStringUtf8(),
                            record.getValue().toStringUtf8()));
            second.answer(done(2));
            Harness.await("all are answered", () -> together.get() == 100);
        }
    }

    @Test
    void whoCameFirstIsSentFirst() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            crew.start(() -> kv.client.set(put(key(-1), key(-1))));
            Held<SetRequest, SetResponse> underWay = next(kv.sets);
            int callers = 2_500;
            List<String> arrived = new ArrayList<>();
            for (int i = 0; i < callers; i++) {
                Bytes key = key(i);
                arrived.add(key.utf8());
                crew.start(() -> kv.client.set(put(key, key)));
                kv.awaitGathered(i + 1);
            }
            List<String> sent = new ArrayList<>();
            while (sent.size() < callers) {
                underWay.answer(done(1));
                underWay = next(kv.sets);
                sent.addAll(keys(underWay));
                // Who comes later does not come in front of those who wait.
                crew.start(() -> kv.client.set(put(Bytes.utf8("late " + sent.size()), key(0))));
            }
            assertEquals(arrived, sent.subList(0, callers));
            while (sent.stream().filter(key -> key.startsWith("late")).count() < 3) {
                underWay.answer(done(1));
                underWay = next(kv.sets);
                sent.addAll(keys(underWay));
            }
            underWay.answer(done(1));
        }
    }

    @Test
    void twoSetsOfOneKeyAreNeverOneCommand() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            crew.start(() -> kv.client.set(put(key(0), key(0))));
            Held<SetRequest, SetResponse> first = next(kv.sets);
            crew.start(() -> kv.client.set(put(key(1), key(1))));
            kv.awaitGathered(1);
            crew.start(() -> kv.client.set(put(key(1), key(2))));
            Held<SetRequest, SetResponse> alone = next(kv.sets); // It does not wait either.
            assertEquals(List.of("key-1"), keys(alone));
            assertEquals("key-2", alone.request.getRecords(0).getValue().toStringUtf8());
            first.answer(done(1));
            Held<SetRequest, SetResponse> gathered = next(kv.sets);
            assertEquals("key-1", gathered.request.getRecords(0).getValue().toStringUtf8());
            alone.answer(done(2));
            gathered.answer(done(3));
        }
    }

    @Test
    void whatIsLargeOrHasALeaseOrSeveralKeysOrAContextOfItsOwnWaitsForNobody() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            Bytes large = Bytes.unsafeWrap(new byte[100_000]);
            crew.start(() -> kv.client.set(put(key(0), key(0))));
            crew.start(() -> kv.client.get(List.of(key(0))));
            Held<SetRequest, SetResponse> set = next(kv.sets);
            Held<GetRequest, GetResponse> get = next(kv.gets);
            List<Harness.Body> alone = List.of(
                    () -> kv.client.set(put(key(1), large)),
                    () -> kv.client.set(List.of(new Write.Put(key(1), key(1), 7))),
                    () -> kv.client.set(List.of(new Write.Put(key(1), key(1)), new Write.Put(key(2), key(2)))),
                    () -> Context.ROOT
                            .withValue(Context.key("own"), true)
                            .run(() -> kv.client.set(put(key(1), key(1)))));
            for (Harness.Body body : alone) {
                crew.start(body);
                next(kv.sets).answer(done(1));
            }
            crew.start(() -> kv.client.get(List.of(key(1), key(2))));
            Held<GetRequest, GetResponse> two = next(kv.gets);
            two.answer(valuesOf(two.request, 1));
            set.answer(done(1));
            get.answer(valuesOf(get.request, 1));
        }
    }

    @Test
    void getsDoNotGatherOnceAnswersAreLargeAndDoAgainWhenTheyAreNot() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            for (int bytes : new int[] {100_000, 10}) {
                GetResponse answer = GetResponse.newBuilder()
                        .addRecords(Record.newBuilder().setValue(Harness.bytes(bytes)))
                        .build();
                Thread before = crew.start(() -> kv.client.get(List.of(key(0))));
                next(kv.gets).answer(answer);
                assertTrue(before.join(LONG));
                Thread first = crew.start(() -> kv.client.get(List.of(key(1))));
                Held<GetRequest, GetResponse> underWay = next(kv.gets);
                Thread second = crew.start(() -> kv.client.get(List.of(key(2))));
                if (bytes == 10) {
                    kv.awaitGathered(1);
                    underWay.answer(answer);
                    next(kv.gets).answer(answer);
                } else {
                    next(kv.gets).answer(answer);
                    underWay.answer(answer);
                }
                assertTrue(first.join(LONG) && second.join(LONG));
            }
        }
    }

    // ---- Each caller's own error ----

    @Test
    void whatOneCallerIsRefusedForDoesNotTouchTheOthers() throws Exception {
        for (Status refusal : List.of(
                Status.INVALID_ARGUMENT.withDescription("a value has 9 bytes"),
                Status.RESOURCE_EXHAUSTED.withDescription("the request has 99 bytes"))) {
            try (Holding kv = new Holding();
                    Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> kv.client.set(put(key(0), key(0))));
                Held<SetRequest, SetResponse> first = next(kv.sets);
                HomeKvException.Reason reason = refusal.getCode() == Status.Code.INVALID_ARGUMENT
                        ? HomeKvException.Reason.INVALID
                        : HomeKvException.Reason.NO_ROOM;
                crew.start(() -> assertEquals(
                        refusal.getDescription(),
                        failure(reason, () -> kv.client.set(put(key(1), key(1))))
                                .getMessage()));
                for (int i = 2; i < 5; i++) {
                    Bytes key = key(i);
                    crew.start(() -> assertEquals(
                            OptionalLong.of(7), kv.client.set(put(key, key)).revision()));
                }
                kv.awaitGathered(4);
                first.answer(done(1));
                next(kv.sets).fail(refusal);
                Set<List<String>> alone = new HashSet<>();
                for (int i = 1; i < 5; i++) {
                    Held<SetRequest, SetResponse> own = next(kv.sets);
                    alone.add(keys(own));
                    if (keys(own).equals(List.of("key-1"))) {
                        own.fail(refusal);
                    } else {
                        own.answer(done(7));
                    }
                }
                assertEquals(Set.of(List.of("key-1"), List.of("key-2"), List.of("key-3"), List.of("key-4")), alone);
            }
        }
    }

    @Test
    void setsThatMayHaveBeenCarriedOutAreNotSentAgain() throws Exception {
        for (Status unknown : List.of(
                Status.UNAVAILABLE.withDescription("gone"),
                Statuses.failed(new OutOfMemoryError()),
                Status.INTERNAL.withDescription("broken"))) {
            try (Holding kv = new Holding();
                    Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> kv.client.set(put(key(0), key(0))));
                Held<SetRequest, SetResponse> first = next(kv.sets);
                AtomicInteger failed = new AtomicInteger();
                for (int i = 1; i < 4; i++) {
                    Bytes key = key(i);
                    crew.start(() -> {
                        HomeKvException e = assertThrows(HomeKvException.class, () -> kv.client.set(put(key, key)));
                        assertTrue(e.getMessage().contains(unknown.getDescription()), e.getMessage());
                        failed.incrementAndGet();
                    });
                }
                kv.awaitGathered(3);
                first.answer(done(1));
                next(kv.sets).fail(unknown);
                Harness.await("each is told", () -> failed.get() == 3);
                assertNull(kv.sets.poll());
            }
        }
    }

    @Test
    void getsThatLoseTheirServerAreTriedAgain() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            crew.start(() -> kv.client.get(List.of(key(0))));
            Held<GetRequest, GetResponse> first = next(kv.gets);
            Set<Bytes> asked = new HashSet<>();
            for (int i = 1; i < 4; i++) {
                Bytes key = key(i);
                asked.add(key);
                crew.start(() -> assertEquals(
                        List.of(value(key)), kv.client.get(List.of(key)).values()));
            }
            kv.awaitGathered(3);
            first.answer(valuesOf(first.request, 1));
            next(kv.gets).fail(Status.UNAVAILABLE);
            while (!asked.isEmpty()) {
                Held<GetRequest, GetResponse> again = next(kv.gets);
                again.request.getKeysList().forEach(key -> assertTrue(asked.remove(Bytes.utf8(key.toStringUtf8()))));
                again.answer(valuesOf(again.request, 2));
            }
        }
    }

    /** Some send what the real server refuses, whatever it is together with. */
    @Test
    void amongManyEachIsAnsweredForWhatItSentItself() throws Exception {
        try (Harness kv =
                new Harness(Harness.ROOMY.with(Limit.VALUE_BYTES, 10).with(Limit.REQUEST_KEYS, 4), SlowLog::new)) {
            HomeKvClient client = kv.client();
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int i = 0; i < 64; i++) {
                    int number = i;
                    crew.start(() -> {
                        for (int j = 0; j < 20; j++) {
                            boolean wrong = number % 16 == 0;
                            Bytes value = Bytes.utf8(wrong ? "12345678901" : number + "." + j);
                            if (wrong) {
                                failure(HomeKvException.Reason.INVALID, () -> client.set(put(key(number), value)));
                                failure(HomeKvException.Reason.INVALID, () -> client.get(List.of(Bytes.utf8(""))));
                            } else {
                                client.set(put(key(number), value));
                                assertEquals(
                                        List.of(value),
                                        client.get(List.of(key(number))).values());
                            }
                        }
                    });
                }
            }
            for (int i = 0; i < 64; i++) {
                Entry entry = client.entry(key(i));
                assertEquals(i % 16 == 0 ? 0 : 20, entry == null ? 0 : entry.version(), "each set is a version");
            }
        }
    }

    /** Takes long enough that others gather. */
    private record SlowLog(CommandLog log) implements CommandLog {
        SlowLog(MvccStore store) {
            this(new MemoryCommandLog(store));
        }

        @Override
        public Result submit(Command command) {
            for (int i = 0; i < 100; i++) {
                Thread.yield();
            }
            return log.submit(command);
        }
    }

    // ---- Each caller's own end ----

    private static Gathering<ByteString, GetRequest, GetResponse> gets() {
        return new Gathering<>(
                HomeKvServiceGrpc.getGetMethod(),
                keys -> GetRequest.newBuilder().addAllKeys(keys).build(),
                response -> 0);
    }

    private static final class Clock extends Deadline.Ticker {
        private final AtomicLong nanos = new AtomicLong(System.nanoTime());

        @Override
        public long nanoTime() {
            return nanos.get();
        }

        HomeKvServiceBlockingStub stub(ManagedChannel channel, long seconds) {
            return HomeKvServiceGrpc.newBlockingStub(channel)
                    .withDeadline(Deadline.after(seconds, TimeUnit.SECONDS, this));
        }
    }

    /** Leaves: by its own deadline or by an interrupt, while it waits for a call or for the answer of one. */
    @Test
    void whoLeavesDoesNotTakeTheOthersAlong() throws Exception {
        for (boolean byInterrupt : new boolean[] {false, true}) {
            for (boolean sent : new boolean[] {false, true}) {
                whoLeavesDoesNotTakeTheOthersAlong(byInterrupt, sent);
            }
        }
    }

    private static void whoLeavesDoesNotTakeTheOthersAlong(boolean byInterrupt, boolean sent) throws Exception {
        try (Holding kv = new Holding()) {
            Clock clock = new Clock();
            ManagedChannel channel = NettyChannelBuilder.forAddress(
                            kv.server.getListenSockets().get(0))
                    .usePlaintext()
                    .directExecutor()
                    .build();
            try (Harness.Crew crew = new Harness.Crew()) {
                var gets = gets();
                crew.start(() -> gets.call(Harness.bytes("first"), null, 5, clock.stub(channel, 10_000)));
                Held<GetRequest, GetResponse> first = next(kv.gets);
                crew.start(() -> {
                    var share = gets.call(Harness.bytes("stays"), null, 5, clock.stub(channel, 10_000));
                    Record own = share.response().getRecords(share.index());
                    assertEquals("stays", own.getKey().toStringUtf8());
                });
                Harness.await("one waits", () -> gets.waiting() == 1);
                AtomicReference<Status> ended = new AtomicReference<>();
                Thread leaves = crew.start(() -> {
                    StatusRuntimeException failure = assertThrows(
                            StatusRuntimeException.class,
                            () -> gets.call(Harness.bytes("leaves"), null, 6, clock.stub(channel, 1_000)));
                    assertEquals(byInterrupt, Thread.interrupted());
                    ended.set(failure.getStatus());
                });
                Harness.await("two wait", () -> gets.waiting() == 2);
                Held<GetRequest, GetResponse> second = null;
                if (sent) {
                    first.answer(valuesOf(first.request, 1));
                    second = next(kv.gets);
                    assertEquals(2, second.request.getKeysCount());
                }
                if (byInterrupt) {
                    leaves.interrupt();
                } else {
                    clock.nanos.addAndGet(TimeUnit.SECONDS.toNanos(2_000));
                    LockSupport.unpark(leaves);
                }
                Harness.await("it leaves", () -> ended.get() != null);
                assertEquals(
                        byInterrupt ? Status.Code.CANCELLED : Status.Code.DEADLINE_EXCEEDED,
                        ended.get().getCode());
                assertEquals(byInterrupt, ended.get().getCause() instanceof InterruptedException);
                if (!sent) {
                    first.answer(valuesOf(first.request, 1));
                    second = next(kv.gets);
                    assertEquals(1, second.request.getKeysCount());
                }
                second.answer(valuesOf(second.request, 2));
            } finally {
                channel.shutdownNow();
                assertTrue(channel.awaitTermination(Harness.HANG_SECONDS, TimeUnit.SECONDS));
            }
        }
    }

    @Test
    void aCallThatAllHaveLeftIsEndedAndTheNextOneGoes() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            Thread leaves = crew.start(() ->
                    assertTrue(failure(HomeKvException.Reason.FAILED, () -> kv.client.set(put(key(0), key(0))))
                            .getMessage()
                            .contains("interrupted")));
            Held<SetRequest, SetResponse> first = next(kv.sets);
            crew.start(() -> kv.client.set(put(key(1), key(1))));
            kv.awaitGathered(1);
            leaves.interrupt();
            assertTrue(first.cancelled.await(Harness.HANG_SECONDS, TimeUnit.SECONDS));
            next(kv.sets).answer(done(1));
        }
    }

    @Test
    void whoIsInterruptedBeforeItCallsIsTurnedAwayAsBefore() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            Thread.currentThread().interrupt();
            HomeKvException e = failure(HomeKvException.Reason.FAILED, () -> client.get(List.of(key(0))));
            assertTrue(Thread.interrupted());
            assertTrue(e.getMessage().contains("interrupted"), e.getMessage());
            assertEquals(1, client.get(List.of(key(0))).values().size());
        }
    }

    // ---- Closing ----

    /** So many that those calls which fail at once, each as the one before ends, are several. */
    @Test
    void closingEndsThoseWhoWait() throws Exception {
        try (Holding kv = new Holding();
                Harness.Crew crew = new Harness.Crew()) {
            int callers = 3_500;
            for (int i = 0; i <= callers; i++) {
                Bytes key = key(i);
                crew.start(() -> failure(HomeKvException.Reason.UNREACHABLE, () -> kv.client.set(put(key, key))));
                crew.start(() -> failure(HomeKvException.Reason.UNREACHABLE, () -> kv.client.get(List.of(key))));
            }
            kv.awaitGathered(2 * callers);
            kv.client.close();
            failure(HomeKvException.Reason.UNREACHABLE, () -> kv.client.set(put(key(0), key(0))));
        }
    }
}
