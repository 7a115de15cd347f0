package homekv.rpc;

import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.Harness.Crew;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Result;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.reflection.v1.ServerReflectionGrpc;
import io.grpc.reflection.v1.ServerReflectionRequest;
import io.grpc.reflection.v1.ServerReflectionResponse;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;

/** How calls are run, how they fail, and how the server stops. */
class HomeKvServerTest {
    /** A log whose commands wait until they are let go, and which remembers the threads they came on. */
    private static final class Gate implements CommandLog {
        private final CommandLog log;
        final ConcurrentHashMap<Long, Thread> threads = new ConcurrentHashMap<>();
        final CountDownLatch arrived;
        final CountDownLatch open = new CountDownLatch(1);

        Gate(MvccStore store, int expected) {
            log = new MemoryCommandLog(store);
            arrived = new CountDownLatch(expected);
        }

        @Override
        public Result submit(Command command) {
            threads.put(Thread.currentThread().threadId(), Thread.currentThread());
            arrived.countDown();
            try {
                assertTrue(open.await(Harness.HANG_SECONDS, TimeUnit.SECONDS));
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
            return log.submit(command);
        }

        void awaitArrivals() throws InterruptedException {
            assertTrue(arrived.await(Harness.HANG_SECONDS, TimeUnit.SECONDS));
        }
    }

    // ---- Threads ----

    @Test
    void everyCallHasAVirtualThreadOfItsOwnAndBlocksNoOther() throws Exception {
        int calls = 100;
        Gate[] gate = new Gate[1];
        try (Harness kv = new Harness(Harness.ROOMY, store -> gate[0] = new Gate(store, calls))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            try (Crew crew = new Crew()) {
                for (int i = 0; i < calls; i++) {
                    String key = "key-" + i;
                    crew.start(() -> stub.set(set(put(key, "1"))));
                }
                gate[0].awaitArrivals();
                // All of them block now, on one connection, and others come through on the same one.
                assertEquals(1, stub.get(get("absent")).getRecordsCount());
                assertEquals(0, Harness.metrics(stub).getKeysCount());
                assertEquals(calls, gate[0].threads.size());
                gate[0].threads.values().forEach(thread -> assertTrue(thread.isVirtual()));
                gate[0].open.countDown();
            }
            assertEquals(calls, Harness.metrics(stub).getKeysCount());
        }
    }

    @Test
    void aCallThatEndsBeforeItsThreadRunsChangesNothing() throws Exception {
        Gate[] gate = new Gate[1];
        try (Harness kv = new Harness(Harness.ROOMY, store -> gate[0] = new Gate(store, 1))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Status status = Harness.status(
                    () -> stub.withDeadlineAfter(-1, TimeUnit.SECONDS).set(set(put("k", "1"))));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, status.getCode());
            gate[0].open.countDown();
            assertEquals(0, Harness.metrics(stub).getKeysCount());
        }
    }

    @Test
    void aCallThatIsCancelledWhileItBlocksHarmsNoOther() throws Exception {
        Gate[] gate = new Gate[1];
        try (Harness kv = new Harness(Harness.ROOMY, store -> gate[0] = new Gate(store, 1))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Context.CancellableContext context = Context.current().withCancellation();
            try (Crew crew = new Crew()) {
                crew.start(context.wrap((java.util.concurrent.Callable<Status>)
                        () -> Harness.status(() -> stub.set(set(put("k", "1")))))::call);
                gate[0].awaitArrivals();
                context.cancel(null);
            }
            gate[0].open.countDown();
            // The command was under way; it may be carried out, and the connection is as good as before.
            Harness.await("the command", () -> Harness.metrics(stub).getKeysCount() == 1);
        }
    }

    // ---- Failures ----

    @Test
    void whateverACommandThrowsIsAStatusWithoutATraceAndTheServerLivesOn() throws Exception {
        check(() -> new IllegalStateException("the store has been closed"), Status.Code.UNAVAILABLE, false);
        check(() -> new OutOfMemoryError("planted"), Status.Code.RESOURCE_EXHAUSTED, false);
        check(() -> new UnsupportedOperationException("planted"), Status.Code.INTERNAL, true);
        check(() -> new AssertionError("planted"), Status.Code.INTERNAL, true);
        check(() -> new StackOverflowError("planted"), Status.Code.INTERNAL, true);
    }

    private static void check(Supplier<Throwable> failure, Status.Code expected, boolean logged) throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY, store -> command -> {
            throw HomeKvServerTest.<RuntimeException>sneaky(failure.get());
        })) {
            HomeKvServiceBlockingStub stub = kv.stub();
            for (int i = 0; i < 2; i++) {
                Status status = Harness.status(() -> stub.set(set(put("k", "1"))));
                assertEquals(expected, status.getCode());
                Harness.assertNoTrace(status.getDescription());
            }
            assertEquals(1, stub.get(get("k")).getRecordsCount());
            assertEquals(logged ? 2 : 0, kv.troubles().take().size());
        }
    }

    @SuppressWarnings("unchecked")
    private static <T extends Throwable> T sneaky(Throwable failure) throws T {
        throw (T) failure;
    }

    // ---- Generic tools ----

    @Test
    void healthIsToldForTheServerAndForTheService() throws Exception {
        try (Harness kv = new Harness()) {
            var health = HealthGrpc.newBlockingStub(kv.channel());
            for (String service : List.of("", HomeKvServiceGrpc.SERVICE_NAME)) {
                var request = HealthCheckRequest.newBuilder().setService(service);
                assertEquals(
                        ServingStatus.SERVING, health.check(request.build()).getStatus());
            }
            var unknown = HealthCheckRequest.newBuilder().setService("nobody").build();
            assertEquals(
                    Status.Code.NOT_FOUND,
                    Harness.status(() -> health.check(unknown)).getCode());
        }
    }

    @Test
    void reflectionTellsTheServicesAndTheFileOfOne() throws Exception {
        try (Harness kv = new Harness()) {
            ManagedChannel channel = kv.channel();
            BlockingQueue<Object> answers = new LinkedBlockingQueue<>();
            StreamObserver<ServerReflectionRequest> ask =
                    ServerReflectionGrpc.newStub(channel).serverReflectionInfo(collect(answers));
            ask.onNext(ServerReflectionRequest.newBuilder().setListServices("").build());
            assertEquals(
                    List.of(
                            "grpc.health.v1.Health",
                            "grpc.reflection.v1.ServerReflection",
                            "grpc.reflection.v1alpha.ServerReflection",
                            HomeKvServiceGrpc.SERVICE_NAME),
                    ((ServerReflectionResponse) take(answers))
                            .getListServicesResponse().getServiceList().stream()
                                    .map(service -> service.getName())
                                    .sorted()
                                    .toList());
            ask.onNext(ServerReflectionRequest.newBuilder()
                    .setFileContainingSymbol(HomeKvServiceGrpc.SERVICE_NAME)
                    .build());
            assertNotEquals(
                    0,
                    ((ServerReflectionResponse) take(answers))
                            .getFileDescriptorResponse()
                            .getFileDescriptorProtoCount());
            ask.onCompleted();
            assertEquals("completed", take(answers));
        }
    }

    private static <T> StreamObserver<T> collect(BlockingQueue<Object> answers) {
        return new StreamObserver<>() {
            @Override
            public void onNext(T value) {
                answers.add(value);
            }

            @Override
            public void onError(Throwable failure) {
                answers.add(Status.fromThrowable(failure));
            }

            @Override
            public void onCompleted() {
                answers.add("completed");
            }
        };
    }

    private static Object take(BlockingQueue<Object> answers) throws InterruptedException {
        Object answer = answers.poll(Harness.HANG_SECONDS, TimeUnit.SECONDS);
        assertTrue(answer != null, "no answer");
        return answer;
    }

    // ---- Stopping ----

    @Test
    void stoppingFinishesCallsUnderWayAndRefusesNewOnes() throws Exception {
        Gate[] gate = new Gate[1];
        try (Harness kv = new Harness(Harness.ROOMY, store -> gate[0] = new Gate(store, 1))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            try (Crew crew = new Crew()) {
                crew.start(() -> assertTrue(stub.set(set(put("k", "1"))).getSucc()));
                gate[0].awaitArrivals();
                crew.start(() -> assertTrue(kv.server.stop(Duration.ofSeconds(Harness.HANG_SECONDS))));
                Harness.await("refusal", () -> {
                    try {
                        kv.stub().get(get("k"));
                        return false;
                    } catch (io.grpc.StatusRuntimeException e) {
                        return e.getStatus().getCode() == Status.Code.UNAVAILABLE;
                    }
                });
                gate[0].open.countDown();
            }
            assertEquals(1, kv.store.get(Bytes.utf8("k")).version());
        }
    }

    @Test
    void stoppingEndsWatchesOfHealthAndDoesNotWaitForThem() throws Exception {
        try (Harness kv = new Harness()) {
            BlockingQueue<Object> answers = new LinkedBlockingQueue<>();
            HealthGrpc.newStub(kv.channel()).watch(HealthCheckRequest.getDefaultInstance(), collect(answers));
            take(answers);
            assertTrue(kv.server.stop(Duration.ofSeconds(Harness.HANG_SECONDS)));
            Object last = take(answers);
            while (!(last instanceof Status)) {
                last = take(answers);
            }
            assertEquals(Status.Code.UNAVAILABLE, ((Status) last).getCode());
        }
    }

    @Test
    void stoppingGivesUpOnACallThatNeverEnds() throws Exception {
        Gate[] gate = new Gate[1];
        try (Harness kv = new Harness(Harness.ROOMY, store -> gate[0] = new Gate(store, 1))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            try (Crew crew = new Crew()) {
                crew.start(() -> Harness.status(() -> stub.set(set(put("k", "1")))));
                gate[0].awaitArrivals();
                assertFalse(kv.server.stop(Duration.ofMillis(1)));
            }
            gate[0].open.countDown();
        }
    }
}
