package homekv.rpc;

import static homekv.rpc.Harness.del;
import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.metrics;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static homekv.rpc.Harness.status;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Empty;
import homekv.rpc.proto.CompactRequest;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.LeaseGrantRequest;
import homekv.rpc.proto.LeaseRequest;
import homekv.rpc.proto.SnapshotResponse;
import homekv.rpc.proto.TxnRequest;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Durability;
import homekv.storage.LogStoppedException;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Op;
import homekv.storage.Result;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Txn;
import homekv.storage.Write;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;

/** What clients are told of the log: what writes survive, that it has stopped, that its disk is full; snapshot files. */
@Timeout(120) // A call that waits for a log that waits would else wait for ever.
class DurabilityTest {
    private static final String REASON = "/data/log-0000000000000007: No space left on device";

    /** A log in memory that says of itself what the test wants, and stops, refuses and waits when the test says so. */
    private static final class StagedLog implements CommandLog {
        private final CommandLog log;
        private final Durability durability;
        private final CountDownLatch stopping = new CountDownLatch(1);
        final Semaphore arrived = new Semaphore(0);

        /** Commands wait for the log to stop. */
        volatile boolean stuck;

        volatile Result.DiskFull diskFull;
        volatile Function<MvccStore, SnapshotFileInfo> snapshotFiles;
        private final MvccStore store;
        private Runnable onFailure;
        private volatile String failure;

        StagedLog(MvccStore store, Durability durability) {
            this.store = store;
            this.log = new MemoryCommandLog(store);
            this.durability = durability;
        }

        @Override
        public Result submit(Command command) {
            if (failure != null) {
                throw new LogStoppedException(failure, false);
            }
            if (stuck) {
                arrived.release();
                try {
                    stopping.await();
                } catch (InterruptedException e) {
                    throw new AssertionError("nobody interrupts a call", e);
                }
                throw new LogStoppedException(failure, true);
            }
            return diskFull != null ? diskFull : log.submit(command);
        }

        @Override
        public Durability durability() {
            return durability;
        }

        @Override
        public SnapshotFileInfo writeSnapshotFile() throws IOException {
            return snapshotFiles == null ? CommandLog.super.writeSnapshotFile() : snapshotFiles.apply(store);
        }

        @Override
        public String failure() {
            return failure;
        }

        @Override
        public synchronized void onFailure(Runnable action) {
            onFailure = action;
            if (failure != null) {
                action.run();
            }
        }

        synchronized void stop() {
            failure = REASON;
            stopping.countDown();
            onFailure.run();
        }
    }

    /** A server whose log is the test's. */
    private static final class Served implements AutoCloseable {
        final Harness kv;
        StagedLog log;

        Served(Durability durability) throws IOException {
            kv = new Harness(Harness.ROOMY, store -> log = new StagedLog(store, durability));
        }

        @Override
        public void close() throws Exception {
            kv.close();
        }
    }

    private static HomeKvException failure(HomeKvException.Reason reason, Executable call) {
        HomeKvException e = assertThrows(HomeKvException.class, call);
        assertEquals(reason, e.reason(), e.getMessage());
        assertFalse(e.getMessage().contains("\n"), e.getMessage());
        return e;
    }

    private static final Bytes K = Bytes.utf8("k");
    private static final TxnRequest TXN = ClientMessages.txn(Txn.of(new Op.Put(K, K, 0)));

    private static LeaseGrantRequest grant(long lease) {
        return LeaseGrantRequest.newBuilder()
                .setTtlMillis(1_000_000)
                .setLease(lease)
                .build();
    }

    private static LeaseRequest lease(long lease) {
        return LeaseRequest.newBuilder().setLease(lease).build();
    }

    // ---- What writes survive ----

    @Test
    void everyAnswerToAWriteSaysWhatItSurvives() throws Exception {
        for (Durability durability : Durability.values()) {
            try (Served served = new Served(durability)) {
                var expected = homekv.rpc.proto.Durability.valueOf(durability.name());
                HomeKvServiceBlockingStub stub = served.kv.stub();
                assertEquals(expected, stub.set(set(put("k", "1"))).getDurability());
                assertEquals(expected, stub.del(del("k")).getDurability());
                assertEquals(expected, stub.del(del("k")).getDurability(), "a deletion of what is not there");
                assertEquals(expected, stub.txn(TXN).getDurability());
                assertEquals(expected, stub.leaseGrant(grant(7)).getDurability());
                assertEquals(expected, stub.leaseGrant(grant(0)).getDurability());
                assertEquals(expected, stub.leaseRevoke(lease(7)).getDurability());
                assertEquals(
                        expected,
                        stub.compact(CompactRequest.newBuilder().setRevision(1).build())
                                .getDurability());
                assertEquals(expected, metrics(stub).getDurability());

                HomeKvClient client = served.kv.client();
                Bytes two = Bytes.utf8("2");
                assertEquals(
                        durability, client.set(List.of(new Write.Put(K, two))).durability());
                assertEquals(durability, client.compareAndSet(K, two, K).durability());
                assertEquals(durability, client.compareAndSet(K, two, K).durability());
                assertEquals(durability, client.transact(Txn.of(new Op.Get(K))).durability());
                assertEquals(durability, client.del(List.of(K)).durability());
                assertEquals(
                        durability,
                        client.revokeLease(client.grantLease(Duration.ofMinutes(1)))
                                .durability());
                assertEquals(new HomeKvClient.LogState(durability, null), client.logState());
            }
        }
    }

    // ---- A log that has stopped ----

    private static ServingStatus health(HealthGrpc.HealthBlockingStub health, String service) {
        return health.check(HealthCheckRequest.newBuilder().setService(service).build())
                .getStatus();
    }

    private static void assertStopped(String outcome, String words, Executable write) {
        StatusRuntimeException e = assertThrows(StatusRuntimeException.class, write);
        assertEquals(Status.Code.UNAVAILABLE, e.getStatus().getCode(), e::toString);
        assertEquals(outcome, Status.trailersFromThrowable(e).get(Statuses.LOG_STOPPED));
        assertTrue(e.getMessage().contains(REASON) && e.getMessage().contains(words), e.getMessage());
        Harness.assertNoTrace(e.getStatus().getDescription());
    }

    @Test
    void onceTheLogHasStoppedWritesSaySoAndWhatBecameOfThemAndReadsGoOn() throws Exception {
        try (Served served = new Served(Durability.FORCED)) {
            Harness kv = served.kv;
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("k", "1")));
            stub.leaseGrant(grant(7));
            served.log.stuck = true;
            Future<?> underWay = HomeKvServiceGrpc.newFutureStub(kv.channel()).set(set(put("k", "2")));
            HomeKvClient client = kv.client();
            try (Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> {
                    HomeKvException e =
                            failure(HomeKvException.Reason.LOG_STOPPED, () -> client.set(List.of(new Write.Put(K, K))));
                    assertTrue(e.getMessage().contains(REASON), e.getMessage());
                    assertTrue(e.getMessage().contains("whether this write was kept is not known"), e.getMessage());
                });
                assertTrue(served.log.arrived.tryAcquire(2, Harness.HANG_SECONDS, TimeUnit.SECONDS));
                served.log.stop();
            }
            assertStopped("unknown", "whether this write was kept is not known", () -> {
                try {
                    underWay.get(Harness.HANG_SECONDS, TimeUnit.SECONDS);
                } catch (java.util.concurrent.ExecutionException e) {
                    throw e.getCause();
                }
            });
            for (Executable write : List.<Executable>of(
                    () -> stub.set(set(put("k", "3"))),
                    () -> stub.del(del("k")),
                    () -> stub.txn(TXN),
                    () -> stub.compact(
                            CompactRequest.newBuilder().setRevision(1).build()),
                    () -> stub.leaseGrant(grant(0)),
                    () -> stub.leaseGrant(grant(8)))) {
                assertStopped("unchanged", "nothing was changed", write);
            }
            HomeKvException refused =
                    failure(HomeKvException.Reason.LOG_STOPPED, () -> client.set(List.of(new Write.Put(K, K))));
            assertTrue(refused.getMessage().endsWith("nothing was changed"), refused.getMessage());

            assertEquals(List.of(put("k", "1")), stub.get(get("k")).getRecordsList());
            assertEquals(1, client.count(homekv.storage.Range.all()));
            assertEquals(7, client.lease(7).id());
            assertEquals(REASON, metrics(stub).getLogFailure());
            assertEquals(new HomeKvClient.LogState(Durability.FORCED, REASON), client.logState());
        }
    }

    @Test
    void healthSaysThatWritesAreNotServedFromWhenTheLogStopsAndNothingElseOfIt() throws Exception {
        try (Served served = new Served(Durability.FORCED)) {
            var health = HealthGrpc.newBlockingStub(served.kv.channel());
            List<String> others = List.of("", HomeKvServiceGrpc.SERVICE_NAME);
            Iterator<HealthCheckResponse> watch = health.watch(HealthCheckRequest.newBuilder()
                    .setService(HomeKvServer.WRITES)
                    .build());
            assertEquals(ServingStatus.SERVING, watch.next().getStatus());
            assertEquals("homekv_service.HomeKvService.writes", HomeKvServer.WRITES);
            assertEquals(ServingStatus.SERVING, health(health, HomeKvServer.WRITES));
            served.log.stop();
            assertEquals(ServingStatus.NOT_SERVING, health(health, HomeKvServer.WRITES));
            assertEquals(ServingStatus.NOT_SERVING, watch.next().getStatus());
            for (String other : others) {
                assertEquals(ServingStatus.SERVING, health(health, other));
            }
            // A server of a log that has stopped already.
            try (HomeKvServer again = new HomeKvServer(
                            new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), served.kv.store, served.log);
                    HomeKvClient client = new HomeKvClient(
                            "127.0.0.1", again.address().getPort(), Duration.ofSeconds(Harness.HANG_SECONDS))) {
                assertEquals(REASON, client.logState().failure());
                io.grpc.ManagedChannel channel = io.grpc.netty.NettyChannelBuilder.forAddress(again.address())
                        .usePlaintext()
                        .build();
                try {
                    var healthAgain = HealthGrpc.newBlockingStub(channel);
                    assertEquals(ServingStatus.NOT_SERVING, health(healthAgain, HomeKvServer.WRITES));
                    assertEquals(ServingStatus.SERVING, health(healthAgain, ""));
                } finally {
                    channel.shutdownNow();
                    assertTrue(channel.awaitTermination(Harness.HANG_SECONDS, TimeUnit.SECONDS));
                }
            }
        }
    }

    // ---- A disk that is full ----

    @Test
    void aWriteForWhichTheDiskHasNoRoomIsRefusedWithTheFlagAndTakenLater() throws Exception {
        try (Served served = new Served(Durability.FORCED)) {
            HomeKvServiceBlockingStub stub = served.kv.stub();
            stub.set(set(put("k", "1")));
            stub.leaseGrant(grant(7));
            served.log.diskFull = new Result.DiskFull(12_345, 67_890);
            List<Executable> writes = List.of(
                    () -> stub.set(set(put("k", "2"))),
                    () -> stub.del(del("k")),
                    () -> stub.txn(TXN),
                    () -> stub.leaseGrant(grant(0)),
                    () -> stub.leaseGrant(grant(8)));
            for (Executable write : writes) {
                Status refused = status(write);
                assertEquals(Status.Code.RESOURCE_EXHAUSTED, refused.getCode());
                assertTrue(
                        refused.getDescription().matches(".*\\b12345\\b.*\\b67890 \\(--min-free-bytes\\b.*"),
                        refused::toString);
                Harness.assertNoTrace(refused.getDescription());
            }
            HomeKvClient client = served.kv.client();
            failure(HomeKvException.Reason.NO_ROOM, () -> client.set(List.of(new Write.Put(K, K))));
            assertEquals(1, metrics(stub).getCmdsCount());
            served.log.diskFull = null;
            for (Executable write : writes) {
                try {
                    write.execute();
                } catch (Throwable e) {
                    throw new AssertionError(e);
                }
            }
        }
    }

    // ---- Snapshot files ----

    @Test
    void aSnapshotAnswersWhatTheLogHasWritten() throws Exception {
        try (Served served = new Served(Durability.FORCED)) {
            served.log.snapshotFiles = store -> new SnapshotFileInfo("snapshot-3", 5_000_000_000L, 6, 7_000_000_000L);
            assertEquals(
                    SnapshotResponse.newBuilder()
                            .setName("snapshot-3")
                            .setRevision(5_000_000_000L)
                            .setKeys(6)
                            .setBytes(7_000_000_000L)
                            .build(),
                    served.kv.stub().snapshot(Empty.getDefaultInstance()));
            assertEquals(
                    new SnapshotFileInfo("snapshot-3", 5_000_000_000L, 6, 7_000_000_000L),
                    served.kv.client().snapshot());
        }
    }

    @Test
    void aSnapshotThatCannotBeWrittenSaysWhy() throws Exception {
        try (Served served = new Served(Durability.FORCED)) {
            HomeKvServiceBlockingStub stub = served.kv.stub();
            Executable snapshot = () -> stub.snapshot(Empty.getDefaultInstance());
            Status inMemory = status(snapshot);
            assertEquals(Status.Code.FAILED_PRECONDITION, inMemory.getCode());
            assertTrue(inMemory.getDescription().contains("--data-dir"), inMemory::toString);
            served.log.snapshotFiles = store -> sneak(new IOException("/data/snapshot-3.tmp: Input/output error"));
            Status failed = status(snapshot);
            assertEquals(Status.Code.INTERNAL, failed.getCode());
            assertTrue(failed.getDescription().contains("/data/snapshot-3.tmp: Input/output error"), failed::toString);
            Harness.assertNoTrace(failed.getDescription());
            failure(HomeKvException.Reason.FAILED, () -> served.kv.client().snapshot());
            served.log.snapshotFiles = store -> sneak(new LogStoppedException(REASON, false));
            assertStopped("unchanged", "nothing was changed", snapshot);
            stub.set(set(put("k", "1")));
            served.kv.awaitInFlight(0);
        }
    }

    @SuppressWarnings("unchecked")
    private static <T, E extends Throwable> T sneak(Throwable e) throws E {
        throw (E) e;
    }

    /** Its client may go; what it began goes on, and holds up nobody. */
    @Test
    void aSnapshotTakesAsLongAsItTakesAndHoldsUpNobody() throws Exception {
        try (Served served = new Served(Durability.FORCED)) {
            Semaphore begun = new Semaphore(0);
            Semaphore written = new Semaphore(0);
            CountDownLatch done = new CountDownLatch(2);
            served.log.snapshotFiles = store -> {
                begun.release();
                written.acquireUninterruptibly();
                done.countDown();
                return new SnapshotFileInfo("snapshot-3", store.revision(), 1, 1);
            };
            HomeKvServiceBlockingStub stub = served.kv.stub();
            Status late = status(
                    () -> stub.withDeadlineAfter(100, TimeUnit.MILLISECONDS).snapshot(Empty.getDefaultInstance()));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, late.getCode());
            try (HomeKvClient hurried = new HomeKvClient("127.0.0.1", served.kv.port(), Duration.ofMillis(1));
                    Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> assertEquals("snapshot-3", hurried.snapshot().name()));
                assertTrue(begun.tryAcquire(2, Harness.HANG_SECONDS, TimeUnit.SECONDS));
                for (int i = 0; i < 100; i++) {
                    stub.set(set(put("k", "" + i)));
                    assertEquals(List.of(put("k", "" + i)), stub.get(get("k")).getRecordsList());
                }
                written.release(2);
            }
            assertTrue(done.await(Harness.HANG_SECONDS, TimeUnit.SECONDS), "it was cut short");
            served.kv.awaitInFlight(0);
        }
    }

    @Test
    void aServerThatSaysNothingOfItsLogIsTakenForThat() {
        assertNull(ClientMessages.durability(homekv.rpc.proto.Durability.DURABILITY_UNSPECIFIED));
        assertNull(ClientMessages.durability(homekv.rpc.proto.Durability.UNRECOGNIZED));
    }
}
