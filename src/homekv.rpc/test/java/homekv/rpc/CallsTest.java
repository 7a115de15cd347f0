package homekv.rpc;

import static homekv.rpc.Harness.bytes;
import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.metrics;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceFutureStub;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Result;
import homekv.storage.Write;
import io.grpc.BindableService;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.ForwardingServerCallListener.SimpleForwardingServerCallListener;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import io.netty.channel.IoHandle;
import io.netty.channel.IoHandler;
import io.netty.channel.IoHandlerContext;
import io.netty.channel.IoRegistration;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** How calls run, fail and end, and how the server stops. */
@Timeout(120) // A call that waits for a log that waits would else wait for ever.
class CallsTest {
    /** A log whose commands wait at a gate, once it is shut, before they are applied. */
    private static final class GatedLog implements CommandLog {
        final Semaphore arrived = new Semaphore(0);
        final CountDownLatch gate = new CountDownLatch(1);
        final Queue<Thread> threads = new ConcurrentLinkedQueue<>();
        private final CommandLog log;
        volatile boolean shut = true;

        GatedLog(MvccStore store) {
            log = new MemoryCommandLog(store);
        }

        @Override
        public Result submit(Command command) {
            threads.add(Thread.currentThread());
            if (shut) {
                arrived.release();
                try {
                    gate.await();
                } catch (InterruptedException e) {
                    throw new AssertionError("nobody interrupts a call", e);
                }
            }
            return log.submit(command);
        }

        void awaitArrived(int commands) throws InterruptedException {
            assertTrue(arrived.tryAcquire(commands, Harness.HANG_SECONDS, TimeUnit.SECONDS), "no command arrives");
        }

        void open() {
            shut = false;
            gate.countDown();
        }
    }

    private static GatedLog gated(AtomicReference<GatedLog> made, MvccStore store) {
        made.set(new GatedLog(store));
        return made.get();
    }

    private interface GatedTest {
        void run(Harness kv, GatedLog log) throws Exception;
    }

    private static void gated(Limits limits, GatedTest test) throws Exception {
        AtomicReference<GatedLog> log = new AtomicReference<>();
        try (Harness kv = new Harness(limits, store -> gated(log, store))) {
            try {
                test.run(kv, log.get());
            } finally {
                log.get().open();
            }
        }
    }

    private static <T> T result(Future<T> future) throws Exception {
        return future.get(Harness.HANG_SECONDS, TimeUnit.SECONDS);
    }

    private static Status failure(Future<?> future) throws Exception {
        try {
            future.get(Harness.HANG_SECONDS, TimeUnit.SECONDS);
            throw new AssertionError("the call succeeds");
        } catch (ExecutionException e) {
            return Status.fromThrowable(e);
        }
    }

    // ---- Threads ----

    @Test
    void everyWriteRunsOnAVirtualThreadOfItsOwn() throws Exception {
        gated(Harness.ROOMY, (kv, log) -> {
            log.open();
            HomeKvServiceBlockingStub stub = kv.stub();
            for (int i = 0; i < 50; i++) {
                stub.set(set(put("k", "1")));
                stub.del(Harness.del("k"));
            }
            assertEquals(100, Set.copyOf(log.threads).size());
            assertTrue(log.threads.stream().allMatch(Thread::isVirtual));
        });
    }

    @Test
    void callsThatBlockHoldUpNoOtherCallOnTheirConnection() throws Exception {
        gated(Harness.ROOMY, (kv, log) -> {
            ManagedChannel channel = kv.channel();
            HomeKvServiceFutureStub later = HomeKvServiceGrpc.newFutureStub(channel);
            List<Future<SetResponse>> blocked = new ArrayList<>();
            int count = 200;
            for (int i = 0; i < count; i++) {
                blocked.add(later.set(set(put("k" + i, "1"))));
            }
            log.awaitArrived(count);
            HomeKvServiceBlockingStub stub = HomeKvServiceGrpc.newBlockingStub(channel);
            for (int i = 0; i < 20; i++) {
                assertFalse(stub.get(get("k1")).getRecords(0).hasValue());
                assertEquals(0, metrics(stub).getRevision());
                HealthGrpc.newBlockingStub(channel).check(HealthCheckRequest.getDefaultInstance());
            }
            assertEquals(
                    ServingStatus.SERVING,
                    HealthGrpc.newBlockingStub(channel)
                            .watch(HealthCheckRequest.getDefaultInstance())
                            .next()
                            .getStatus());
            for (Future<SetResponse> call : blocked) {
                assertFalse(call.isDone());
            }
            log.open();
            for (Future<SetResponse> call : blocked) {
                assertTrue(result(call).getSucc());
            }
            assertEquals(count, metrics(stub).getRevision());
        });
    }

    /** Records which thread everything of a call happens on. */
    private static final class Threads implements ServerInterceptor {
        final Map<Object, Set<Thread>> byCall = new ConcurrentHashMap<>();
        final AtomicInteger ends = new AtomicInteger();

        @Override
        public <RequestT, ResponseT> ServerCall.Listener<RequestT> interceptCall(
                ServerCall<RequestT, ResponseT> call, Metadata headers, ServerCallHandler<RequestT, ResponseT> next) {
            Set<Thread> threads = ConcurrentHashMap.newKeySet();
            byCall.put(call, threads);
            threads.add(Thread.currentThread());
            return new SimpleForwardingServerCallListener<>(next.startCall(call, headers)) {
                @Override
                public void onMessage(RequestT message) {
                    threads.add(Thread.currentThread());
                    super.onMessage(message);
                }

                @Override
                public void onHalfClose() {
                    threads.add(Thread.currentThread());
                    super.onHalfClose();
                }

                @Override
                public void onCancel() {
                    threads.add(Thread.currentThread());
                    super.onCancel();
                    ends.incrementAndGet();
                }

                @Override
                public void onComplete() {
                    threads.add(Thread.currentThread());
                    super.onComplete();
                    ends.incrementAndGet();
                }
            };
        }
    }

    @Test
    void everythingThatHappensToACallOfAnotherServiceHappensOnOneVirtualThreadOfItsOwn() throws Exception {
        Threads threads = new Threads();
        HealthStatusManager health = new HealthStatusManager();
        BindableService observed = () -> ServerInterceptors.intercept(health.getHealthService(), threads);
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
                .directExecutor()
                .addService(new VirtualThreadCalls().wrap(observed))
                .addStreamTracerFactory(new InFlightBytes(Harness.ROOMY))
                .build()
                .start();
        try (RawHttp2 raw =
                new RawHttp2((InetSocketAddress) server.getListenSockets().get(0))) {
            int calls = 0;
            for (int i = 0; i < 20; i++) {
                assertEquals(
                        0, raw.call("grpc.health.v1.Health/Check", new byte[0]).status());
                RawHttp2.Stream watch = raw.start("grpc.health.v1.Health/Watch");
                raw.send(watch, RawHttp2.message(new byte[0]), true);
                raw.awaitBody(watch, 1);
                raw.cancel(watch);
                raw.cancel(raw.start("grpc.health.v1.Health/Watch"));
                calls += 3;
            }
            int expected = calls;
            Harness.await("every call comes to its end", () -> threads.ends.get() == expected);
            Set<Thread> all = ConcurrentHashMap.newKeySet();
            threads.byCall.values().forEach(all::addAll);
            assertEquals(calls, all.size());
            assertTrue(threads.byCall.values().stream().allMatch(ofCall -> ofCall.size() == 1));
            assertTrue(all.stream().allMatch(Thread::isVirtual));
            for (Thread thread : all) {
                assertTrue(thread.join(Duration.ofSeconds(Harness.HANG_SECONDS)), "the thread of a call stays");
            }
        } finally {
            server.shutdownNow();
            server.awaitTermination();
        }
    }

    // ---- Cancellation and deadlines ----

    @Test
    void aCallThatIsCancelledOrExpiresWhileItBlocksHurtsNobodyAndKeepsItsMemoryUntilItReturns() throws Exception {
        int room = 1 << 16;
        Limits limits = Harness.ROOMY.with(Limit.REQUEST_BYTES, room).with(Limit.IN_FLIGHT_BYTES, room);
        gated(limits, (kv, log) -> {
            ManagedChannel channel = kv.channel();
            HomeKvServiceBlockingStub stub = HomeKvServiceGrpc.newBlockingStub(channel);
            HomeKvServiceFutureStub later = HomeKvServiceGrpc.newFutureStub(channel);
            SetRequest half = set(put("half", bytes(room / 2)));
            Future<?> cancelled = later.set(half);
            log.awaitArrived(1);
            cancelled.cancel(true);
            Status expired = Harness.status(
                    () -> stub.withDeadlineAfter(100, TimeUnit.MILLISECONDS).set(set(put("late", "1"))));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, expired.getCode());
            log.awaitArrived(1);
            assertEquals(0, metrics(stub).getRevision());
            kv.assertRefused(Limit.IN_FLIGHT_BYTES, "\\d+", () -> stub.set(half));
            log.open();
            Harness.await("the memory of a call is given back", () -> {
                try {
                    return stub.set(half).getSucc();
                } catch (io.grpc.StatusRuntimeException e) {
                    return false;
                }
            });
            // Both have been carried out, which a client that does not wait cannot know.
            assertTrue(stub.get(get("late")).getRecords(0).hasValue());
        });
    }

    /** Else a small request with very many keys takes ten times the heap that it is charged, as long as it waits. */
    @Test
    void keysThatWaitAreChargedWhatTheyTakeInHeap() throws Exception {
        gated(Harness.ROOMY, (kv, log) -> {
            int keys = 10_000;
            String[] named = new String[keys];
            homekv.rpc.proto.Record[] records = new homekv.rpc.proto.Record[keys];
            for (int i = 0; i < keys; i++) {
                named[i] = Integer.toString(i);
                records[i] = Harness.delete(named[i]);
            }
            HomeKvServiceFutureStub later = HomeKvServiceGrpc.newFutureStub(kv.channel());
            later.del(Harness.del(named));
            log.awaitArrived(1);
            long bytesOfKey = 16 + 24 + 4; // A Bytes, its array, and its place in a list.
            assertTrue(kv.server.bytesInFlight() >= keys * bytesOfKey, () -> kv.server.bytesInFlight() + " bytes");
            later.set(set(records));
            log.awaitArrived(1);
            long bytesOfWrite = bytesOfKey + 16;
            assertTrue(
                    kv.server.bytesInFlight() >= keys * (bytesOfKey + bytesOfWrite),
                    () -> kv.server.bytesInFlight() + " bytes");
            log.open();
            kv.awaitInFlight(0);
        });
    }

    /** A call of gRPC's that is none: it records how it was closed. */
    private static class RecordedCall<T> extends ServerCall<InputStream, T> {
        final MethodDescriptor<InputStream, T> method;
        Status status;
        final List<T> sent = new ArrayList<>();

        RecordedCall(MethodDescriptor<InputStream, T> method) {
            this.method = method;
        }

        @Override
        public void request(int count) {}

        @Override
        public void sendHeaders(Metadata headers) {}

        @Override
        public void sendMessage(T message) {
            sent.add(message);
        }

        @Override
        public void close(Status status, Metadata trailers) {
            this.status = status;
        }

        @Override
        public boolean isCancelled() {
            return false;
        }

        @Override
        public MethodDescriptor<InputStream, T> getMethodDescriptor() {
            return method;
        }
    }

    /** What a loop of calls is around, where none of them has come over a network. */
    static class NoTransport implements IoHandler {
        @Override
        public int run(IoHandlerContext context) {
            throw new AssertionError("there is nothing to wait for");
        }

        @Override
        public IoRegistration register(IoHandle handle) {
            throw new AssertionError("there is nothing to register");
        }

        @Override
        public void wakeup() {}

        @Override
        public boolean isCompatible(Class<? extends IoHandle> handleType) {
            return false;
        }
    }

    /** A call whose request has come, and which is answered on the thread of the test. */
    private static final class CallWithoutThread {
        final RecordedCall<InputStream> call;
        final InFlightBytes inFlight = new InFlightBytes(Harness.ROOMY);
        boolean bodyClosed;
        private final Context.CancellableContext context;
        private final IoHandler loop;
        private final UnaryCall<InputStream> unary;

        CallWithoutThread(RecordedCall<InputStream> call, UnaryCall.Answerer<InputStream> answerer) {
            this.call = call;
            loop = CallLoop.over(
                            executor -> new NoTransport(),
                            executor -> Thread.ofVirtual().factory(),
                            Thread.ofVirtual().factory(),
                            keys -> {})
                    .newHandler(null);
            loop.initialize();
            context = inFlight.newServerStreamTracer("Set", new Metadata())
                    .filterContext(Context.ROOT)
                    .withCancellation();
            Context before = context.attach();
            try (MvccStore store = new MvccStore(Harness.ROOMY)) {
                unary = new UnaryCall<>(call, new Metadata(), store, UnaryCall.Method.of(answerer));
            } finally {
                context.detach(before);
            }
            unary.onMessage(new ByteArrayInputStream(new byte[0]) {
                @Override
                public void close() {
                    bodyClosed = true;
                }
            });
        }

        /** What the call's own thread does, and then the transport's. */
        void answer() throws Exception {
            InFlightBytes.Call charge = context.call(InFlightBytes.Call::current);
            assertTrue(charge.charge(100));
            charge.join();
            unary.run();
            loop.run(null);
            charge.streamClosed(call.status);
            assertTrue(bodyClosed, "the body of the request is lost");
            assertEquals(0, inFlight.reserved());
        }
    }

    private static final MethodDescriptor<InputStream, InputStream> UNREAD_SET =
            HomeKvServiceGrpc.getSetMethod().toBuilder(RequestCall.UNREAD, RequestCall.UNREAD)
                    .build();

    @Test
    void aCallThatHasEndedBeforeItsThreadRunsIsNotCarriedOut() throws Exception {
        AtomicInteger answered = new AtomicInteger();
        CallWithoutThread unary = new CallWithoutThread(new RecordedCall<>(UNREAD_SET), (body, charge) -> {
            answered.incrementAndGet();
            return InputStream.nullInputStream();
        });
        unary.context.cancel(null);
        unary.answer();
        assertEquals(0, answered.get());
        assertEquals(Status.Code.CANCELLED, unary.call.status.getCode());
        assertEquals(List.of(), unary.call.sent);
    }

    @Test
    void aCallEndsAndGivesBackWhatItHoldsWhereverMemoryRunsOut() throws Exception {
        OutOfMemoryError everywhere = new OutOfMemoryError() {
            private static final long serialVersionUID = 1;

            @Override
            public String getMessage() {
                throw this;
            }
        };
        // As it is said how it has failed, and that this could not be said.
        CallWithoutThread ending = new CallWithoutThread(new RecordedCall<>(UNREAD_SET), (body, charge) -> {
            throw new IllegalStateException() {
                private static final long serialVersionUID = 1;

                @Override
                public String getMessage() {
                    throw everywhere;
                }
            };
        });
        ending.answer();
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, ending.call.status.getCode());
        // As its short response is sent.
        RecordedCall<InputStream> headless = new RecordedCall<>(UNREAD_SET) {
            @Override
            public void sendHeaders(Metadata headers) {
                throw everywhere;
            }
        };
        CallWithoutThread sending = new CallWithoutThread(headless, (body, charge) -> InputStream.nullInputStream());
        sending.answer();
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, headless.status.getCode());
        assertEquals(List.of(), headless.sent);
    }

    // ---- Failures ----

    @Test
    void whateverALogThrowsBecomesAStatusAndTheServerLivesOn() throws Exception {
        Map<String, Supplier<Throwable>> failures = Map.of(
                "stopped", () -> new IllegalStateException("the log has stopped"),
                "bug", () -> new NullPointerException("secret"),
                "broken", () -> new AssertionError("S0: secret"),
                "memory", () -> new OutOfMemoryError("secret"),
                "stack", () -> new StackOverflowError("secret"));
        Map<String, Status.Code> codes = Map.of(
                "stopped", Status.Code.UNAVAILABLE,
                "bug", Status.Code.INTERNAL,
                "broken", Status.Code.INTERNAL,
                "memory", Status.Code.RESOURCE_EXHAUSTED,
                "stack", Status.Code.INTERNAL);
        Limits limits = Harness.ROOMY.with(Limit.IN_FLIGHT_BYTES, 1_000);
        try (Harness kv = new Harness(limits, store -> {
            CommandLog log = new MemoryCommandLog(store);
            return command -> {
                if (command instanceof Command.Set set
                        && set.writes().get(0) instanceof Write.Put put
                        && failures.containsKey(put.key().utf8())) {
                    sneak(failures.get(put.key().utf8()).get());
                }
                return log.submit(command);
            };
        })) {
            HomeKvServiceBlockingStub stub = kv.stub();
            for (String kind : failures.keySet()) {
                for (int i = 0; i < 5; i++) {
                    Status status = Harness.status(() -> stub.set(set(put(kind, "1"))));
                    assertEquals(codes.get(kind), status.getCode(), kind);
                    assertNotNull(status.getDescription(), kind);
                    Harness.assertNoTrace(status.getDescription());
                    assertFalse(status.getDescription().contains("secret"), status.getDescription());
                    List<String> logged = kv.troubles().take();
                    assertEquals(codes.get(kind) == Status.Code.INTERNAL ? 1 : 0, logged.size(), kind);
                    assertTrue(logged.stream().noneMatch(line -> line.contains("\n")), () -> kind + logged);
                }
                kv.awaitInFlight(0); // Given back a moment after the answer; what a failed call keeps would not be.
                assertTrue(stub.set(set(put("k", bytes(900)))).getSucc(), kind);
            }
            assertEquals(failures.size(), metrics(stub).getRevision());
        }
    }

    @SuppressWarnings("unchecked")
    private static <E extends Throwable> void sneak(Throwable e) throws E {
        throw (E) e;
    }

    @Test
    void aRefusalForWantOfMemoryNamesTheFlagAndWritesAreTakenAgainOnceThereIsRoom() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.MEMORY_BYTES, 100_000))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", bytes(60_000))));
            SetRequest tooMuch = set(put("b", bytes(60_000)));
            kv.assertRefused(Limit.MEMORY_BYTES, "\\d+", () -> stub.set(tooMuch));
            assertEquals(60_000, stub.get(get("a")).getRecords(0).getValue().size());
            stub.del(Harness.del("a"));
            assertTrue(stub.set(tooMuch).getSucc());
        }
    }

    // ---- Stopping ----

    private static final Duration PATIENCE = Duration.ofSeconds(Harness.HANG_SECONDS);

    /** Stops the server on another thread; how that ended comes in the future. */
    private static Future<Boolean> stopping(Harness kv, Duration patience) {
        java.util.concurrent.CompletableFuture<Boolean> stopped = new java.util.concurrent.CompletableFuture<>();
        Thread.startVirtualThread(() -> {
            try {
                stopped.complete(kv.server.stop(patience));
            } catch (Throwable e) {
                stopped.completeExceptionally(e);
            }
        });
        return stopped;
    }

    @Test
    void whenItStopsCallsUnderWayFinishAndNewOnesAreRefused() throws Exception {
        gated(Harness.ROOMY, (kv, log) -> {
            ManagedChannel channel = kv.channel();
            Future<SetResponse> underWay =
                    HomeKvServiceGrpc.newFutureStub(channel).set(set(put("k", "1")));
            log.awaitArrived(1);
            Future<Boolean> stopped = stopping(kv, PATIENCE);
            HomeKvServiceBlockingStub other = kv.stub();
            Harness.await("new calls are refused", () -> {
                try {
                    other.get(get("k"));
                    return false;
                } catch (io.grpc.StatusRuntimeException e) {
                    assertEquals(Status.Code.UNAVAILABLE, e.getStatus().getCode());
                    return true;
                }
            });
            assertFalse(stopped.isDone());
            assertFalse(underWay.isDone());
            log.open();
            assertEquals(1, result(underWay).getRevision());
            assertTrue(result(stopped));
            kv.server.awaitStop();
        });
    }

    @Test
    void aCallThatNeverEndsIsGivenTheTimeThatWasSetAndNoMore() throws Exception {
        gated(Harness.ROOMY, (kv, log) -> {
            Future<SetResponse> endless =
                    HomeKvServiceGrpc.newFutureStub(kv.channel()).set(set(put("k", "1")));
            log.awaitArrived(1);
            assertFalse(kv.server.stop(Duration.ofMillis(50)));
            Status status = failure(endless);
            assertTrue(
                    status.getCode() == Status.Code.UNAVAILABLE || status.getCode() == Status.Code.CANCELLED,
                    status::toString);
            kv.server.awaitStop();
        });
    }

    @Test
    void whoWatchesItsHealthIsToldThatItStopsAndDoesNotHoldItUp() throws Exception {
        try (Harness kv = new Harness()) {
            List<Iterator<HealthCheckResponse>> watches = new ArrayList<>();
            HealthGrpc.HealthBlockingStub health = HealthGrpc.newBlockingStub(kv.channel());
            for (String service : List.of("", HomeKvService.NAME, HomeKvServer.WRITES, "no.Service")) {
                watches.add(health.watch(
                        HealthCheckRequest.newBuilder().setService(service).build()));
            }
            assertEquals(ServingStatus.SERVING, watches.get(0).next().getStatus());
            assertEquals(ServingStatus.SERVING, watches.get(1).next().getStatus());
            assertEquals(ServingStatus.SERVING, watches.get(2).next().getStatus());
            assertEquals(ServingStatus.SERVICE_UNKNOWN, watches.get(3).next().getStatus());
            assertTrue(kv.server.stop(PATIENCE));
            for (Iterator<HealthCheckResponse> watch : watches.subList(0, 3)) {
                assertEquals(ServingStatus.NOT_SERVING, watch.next().getStatus());
                assertEquals(
                        Status.Code.UNAVAILABLE, Harness.status(watch::hasNext).getCode());
            }
        }
    }

    /** gRPC takes calls on old connections until their clients have answered its goodbye. */
    @Test
    void aWatchThatBeginsWhileItStopsDoesNotHoldItUpEither() throws Exception {
        try (Harness kv = new Harness()) {
            RawHttp2 raw = kv.raw();
            raw.deaf = true;
            raw.roundTrip();
            Future<Boolean> stopped = stopping(kv, PATIENCE);
            raw.awaitGoAway();
            // The server ends the watches that it knows after it has said goodbye; this one may come before or after.
            List<RawHttp2.Stream> watches = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                RawHttp2.Stream watch = raw.start("grpc.health.v1.Health/Watch");
                raw.send(watch, RawHttp2.message(new byte[0]), true);
                raw.awaitBody(watch, 1);
                watches.add(watch);
            }
            raw.answerPings();
            for (RawHttp2.Stream watch : watches) {
                assertEquals(Status.Code.UNAVAILABLE.value(), raw.await(watch).status());
            }
            assertTrue(result(stopped));
        }
    }

    @Test
    void aConnectionThatIsIdleDoesNotHoldItUp() throws Exception {
        try (Harness kv = new Harness()) {
            RawHttp2 idle = kv.raw();
            idle.roundTrip();
            Future<Boolean> stopped = stopping(kv, PATIENCE);
            idle.awaitEnd();
            assertTrue(result(stopped));
        }
    }

    @Test
    void closingAgainDoesNothingAndThePortIsFree() throws Exception {
        try (Harness kv = new Harness()) {
            InetSocketAddress address = kv.server.address();
            kv.stub().get(get("k"));
            assertTrue(kv.server.stop(PATIENCE));
            assertTrue(kv.server.stop(PATIENCE));
            kv.server.close();
            kv.server.close();
            kv.server.awaitStop();
            try (HomeKvServer again = new HomeKvServer(address, kv.store, new MemoryCommandLog(kv.store))) {
                assertEquals(address, again.address());
            }
        }
    }

    @Test
    void aCallWithoutARequestDoesNotHoldUpTheOthersNorTheEndOfThePatience() throws Exception {
        try (Harness kv = new Harness()) {
            ManagedChannel channel = kv.channel();
            ClientCall<SetRequest, SetResponse> call =
                    channel.newCall(HomeKvServiceGrpc.getSetMethod(), CallOptions.DEFAULT);
            CountDownLatch closed = new CountDownLatch(1);
            call.start(
                    new ClientCall.Listener<>() {
                        @Override
                        public void onClose(Status status, Metadata trailers) {
                            closed.countDown();
                        }
                    },
                    new Metadata());
            HomeKvServiceGrpc.newBlockingStub(channel).get(get("k"));
            assertFalse(kv.server.stop(Duration.ofMillis(50)));
            assertTrue(closed.await(Harness.HANG_SECONDS, TimeUnit.SECONDS));
        }
    }
}
