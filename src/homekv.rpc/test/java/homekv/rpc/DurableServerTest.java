package homekv.rpc;

import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Empty;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.ScanRequest;
import homekv.rpc.proto.ScanResponse;
import homekv.storage.Bytes;
import homekv.storage.Durability;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.Limits;
import homekv.storage.LogOptions;
import homekv.storage.Op;
import homekv.storage.Range;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Txn;
import homekv.storage.Write;
import homekv.storage.WriteAheadLog;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** A server whose store is on disk: what its clients find when it has been started anew, and in what it was restored from. */
@Timeout(120)
class DurableServerTest {
    private static final Limits LIMITS = Harness.ROOMY;

    /** A server of a data directory. */
    private static final class Durable implements AutoCloseable {
        final WriteAheadLog log;
        final HomeKvServer server;

        Durable(Path directory, int port, LogOptions options) throws IOException {
            log = WriteAheadLog.open(directory, LIMITS, options, notice -> {});
            server = new HomeKvServer(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), log.store(), log);
        }

        Durable(Path directory, int port) throws IOException {
            this(directory, port, LogOptions.defaults().withMinFreeBytes(0));
        }

        Durable(Path directory) throws IOException {
            this(directory, 0);
        }

        int port() {
            return server.address().getPort();
        }

        HomeKvClient client() {
            return new HomeKvClient("127.0.0.1", port(), Duration.ofSeconds(Harness.HANG_SECONDS));
        }

        /** The number of the store, as the header of an answer has it. */
        String storeHeader(String wanted) throws InterruptedException {
            ManagedChannel channel = NettyChannelBuilder.forAddress(server.address())
                    .usePlaintext()
                    .build();
            try {
                Metadata ask = new Metadata();
                ask.put(StoreHeader.KEY, wanted);
                AtomicReference<Metadata> headers = new AtomicReference<>();
                HomeKvServiceGrpc.newBlockingStub(channel)
                        .withInterceptors(
                                MetadataUtils.newAttachHeadersInterceptor(ask),
                                MetadataUtils.newCaptureMetadataInterceptor(headers, new AtomicReference<>()))
                        .get(get());
                return headers.get().get(StoreHeader.KEY);
            } finally {
                channel.shutdownNow();
                assertTrue(channel.awaitTermination(Harness.HANG_SECONDS, TimeUnit.SECONDS));
            }
        }

        @Override
        public void close() throws Exception {
            server.close();
            server.awaitStop();
            log.close();
        }
    }

    private static Bytes key(int number) {
        return Bytes.utf8("key-%06d".formatted(number));
    }

    private static Bytes value(long number) {
        return Bytes.utf8(Long.toString(number));
    }

    private static List<Entry> entries(HomeKvClient client, ScanOptions options) {
        List<Entry> entries = new ArrayList<>();
        try (ReadStream<Entry> scan = client.scan(options)) {
            scan.forEachRemaining(entries::add);
        }
        return entries;
    }

    private static final ScanOptions ALL = ScanOptions.of(Range.all());

    // ---- Started anew ----

    @Test
    void aServerThatIsStartedAgainOnItsDataHasEverythingAndIsTheSameToItsClients(@TempDir Path directory)
            throws Exception {
        List<Entry> before;
        List<Entry> older;
        long lease;
        long revision;
        String store;
        ScanResponse page;
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            lease = client.grantLease(Duration.ofHours(1));
            for (int i = 1; i <= 100; i++) {
                long attached = i % 2 == 0 ? lease : 0;
                HomeKvClient.Written written = client.set(
                        List.of(new Write.Put(key(i), value(i), attached), new Write.Put(key(0), value(i), attached)));
                assertEquals(Durability.FORCED, written.durability());
            }
            client.del(List.of(key(7)));
            client.increment(key(8), 100);
            client.compact(50);
            before = entries(client, ALL);
            older = entries(client, ALL.at(60));
            revision = client.get(List.of()).revision().getAsLong();
            store = kv.storeHeader(StoreHeader.ANY);
            page = ScanResponse.parseFrom(scanPage(kv, ScanRequest.newBuilder().setLimit(3)));
        }
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            assertEquals(before, entries(client, ALL));
            assertEquals(older, entries(client, ALL.at(60)));
            assertEquals(revision, client.get(List.of()).revision().getAsLong());
            assertEquals(50, client.metrics().get("compact_revision"));
            assertEquals(51, client.lease(lease).keys());
            assertEquals(store, kv.storeHeader(StoreHeader.ANY));
            assertEquals(store, kv.storeHeader(store)); // Else it were refused.
            ScanResponse rest =
                    ScanResponse.parseFrom(scanPage(kv, ScanRequest.newBuilder().setPageToken(page.getPageToken())));
            assertEquals(before.size() - 3, rest.getEntriesCount());
            assertEquals(
                    revision + 1,
                    client.set(List.of(new Write.Put(key(1), value(1))))
                            .revision()
                            .getAsLong());
        }
    }

    private static com.google.protobuf.ByteString scanPage(Durable kv, ScanRequest.Builder request)
            throws InterruptedException {
        ManagedChannel channel = NettyChannelBuilder.forAddress(kv.server.address())
                .usePlaintext()
                .build();
        try {
            return HomeKvServiceGrpc.newBlockingStub(channel)
                    .scan(request.build())
                    .next()
                    .toByteString();
        } finally {
            channel.shutdownNow();
            assertTrue(channel.awaitTermination(Harness.HANG_SECONDS, TimeUnit.SECONDS));
        }
    }

    /** Both a watch that is open all the while and one that begins again from a revision that was kept. */
    @Test
    void aWatchGoesOnWithoutAGapWhenTheServerIsStartedAgain(@TempDir Path directory) throws Exception {
        int revisions = 200;
        Durable kv = new Durable(directory);
        try {
            int port = kv.port();
            try (HomeKvClient client = kv.client();
                    WatchStream watch = client.watch(WatchOptions.of(Range.all()))) {
                List<Event> seen = new ArrayList<>();
                for (int i = 1; i <= revisions; i++) {
                    client.set(List.of(new Write.Put(key(i), value(i))));
                    if (i % 50 == 0) {
                        seen.addAll(watch.next());
                        kv.close();
                        kv = new Durable(directory, port);
                        Harness.await("the client finds the server again", () -> isThere(client));
                    }
                }
                while (seen.size() < revisions) {
                    seen.addAll(watch.next());
                }
                assertOneEventARevision(1, revisions, seen);
            }
            kv.close();
            kv = new Durable(directory);
            try (HomeKvClient client = kv.client();
                    WatchStream watch =
                            client.watch(WatchOptions.of(Range.all()).from(revisions / 2))) {
                client.set(List.of(new Write.Put(key(revisions + 1), value(revisions + 1))));
                List<Event> seen = new ArrayList<>();
                while (seen.isEmpty() || seen.getLast().revision() <= revisions) {
                    seen.addAll(watch.next());
                }
                assertOneEventARevision(revisions / 2, revisions + 1, seen);
            }
        } finally {
            kv.close();
        }
    }

    private static boolean isThere(HomeKvClient client) {
        try {
            client.get(List.of());
            return true;
        } catch (HomeKvException e) {
            assertEquals(HomeKvException.Reason.UNREACHABLE, e.reason());
            return false;
        }
    }

    private static void assertOneEventARevision(int first, int last, List<Event> events) {
        assertEquals(last - first + 1, events.size());
        for (int revision = first; revision <= last; revision++) {
            Event event = events.get(revision - first);
            assertEquals(revision, event.revision());
            assertEquals(key(revision), event.key());
        }
    }

    @Test
    void aSnapshotFileIsWrittenWhileTheServerServesAndIsWhatItStartsFrom(@TempDir Path directory) throws Exception {
        List<Entry> before;
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            for (int i = 1; i <= 50; i++) {
                client.set(List.of(new Write.Put(key(i), value(i))));
            }
            SnapshotFileInfo file = client.snapshot();
            assertEquals(50, file.revision());
            assertEquals(50, file.keys());
            assertEquals(file.bytes(), Files.size(directory.resolve(file.name())));
            client.del(List.of(key(1)));
            before = entries(client, ALL);
        }
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            assertEquals(before, entries(client, ALL));
        }
    }

    // ---- Trouble with the disk ----

    @Test
    void whereTheDiskHasTooLittleRoomWritesAreRefusedWithTheFlagAndReadsGoOn(@TempDir Path directory) throws Exception {
        long lease;
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            lease = client.grantLease(Duration.ofHours(1));
            client.set(List.of(new Write.Put(key(1), value(1), lease)));
        }
        try (Durable kv = new Durable(directory, 0, LogOptions.defaults().withMinFreeBytes(1L << 60));
                HomeKvClient client = kv.client()) {
            List<Executable> writes = List.of(
                    () -> client.set(List.of(new Write.Put(key(2), value(2)))),
                    () -> client.increment(key(2), 1),
                    () -> client.del(List.of(key(1))),
                    () -> client.grantLease(Duration.ofHours(1)),
                    () -> client.revokeLease(lease));
            for (Executable write : writes) {
                HomeKvException e = assertThrows(HomeKvException.class, write);
                assertEquals(HomeKvException.Reason.NO_ROOM, e.reason(), e.getMessage());
                assertTrue(e.getMessage().contains("--min-free-bytes"), e.getMessage());
            }
            assertEquals(List.of(value(1)), client.get(List.of(key(1))).values());
            assertEquals(1, client.lease(lease).keys());
            assertNull(client.logState().failure());
        }
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            assertEquals(1, client.revokeLease(lease).deleted().getAsLong());
        }
    }

    /** What the log writes to is closed under it. */
    @Test
    void onceTheLogHasStoppedWritesAreRefusedAndReadsGoOn(@TempDir Path directory) throws Exception {
        long lease;
        List<Entry> kept;
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            lease = client.grantLease(Duration.ofHours(1));
            client.set(List.of(new Write.Put(key(1), value(1), lease)));
            Thread.getAllStackTraces().keySet().stream()
                    .filter(thread -> thread.getName().equals("homekv-log"))
                    .forEach(Thread::interrupt); // Which closes the channel that it uses next.
            HomeKvException unknown =
                    assertThrows(HomeKvException.class, () -> client.set(List.of(new Write.Put(key(2), value(2)))));
            assertEquals(HomeKvException.Reason.LOG_STOPPED, unknown.reason(), unknown.getMessage());
            assertTrue(unknown.getMessage().contains("not known"), unknown.getMessage());
            List<Executable> writes = List.of(
                    () -> client.set(List.of(new Write.Put(key(2), value(2)))),
                    () -> client.del(List.of(key(1))),
                    () -> client.compact(1),
                    () -> client.grantLease(Duration.ofHours(1)),
                    () -> client.revokeLease(lease),
                    client::snapshot);
            for (Executable write : writes) {
                HomeKvException e = assertThrows(HomeKvException.class, write);
                assertEquals(HomeKvException.Reason.LOG_STOPPED, e.reason(), e.getMessage());
                assertTrue(e.getMessage().endsWith("nothing was changed"), e.getMessage());
            }
            kept = entries(client, ALL);
            assertEquals(1, kept.size());
            assertEquals(kv.log.failure(), client.logState().failure());
            SnapshotFileInfo backup = client.backup(OutputStream.nullOutputStream());
            assertEquals(1, backup.revision());
        }
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            assertEquals(kept.get(0), client.entry(key(1)));
            assertNull(client.logState().failure());
        }
    }

    // ---- Backup and restore ----

    /** Each transaction adds one to two keys, so in every revision all pairs are equal, and their sum is the revision. */
    @Test
    void aBackupThatIsTakenWhileWritersGoOnIsOneRevisionOfAnotherStore(
            @TempDir Path directory, @TempDir Path elsewhere, @TempDir Path files) throws Exception {
        int pairs = 500;
        Path file = files.resolve("backup");
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            long lease = client.grantLease(Duration.ofHours(1));
            AtomicBoolean enough = new AtomicBoolean();
            SnapshotFileInfo backup;
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int i = 0; i < 8; i++) {
                    int writer = i;
                    crew.start(() -> {
                        for (int n = writer; !enough.get(); n++) {
                            Bytes left = Bytes.utf8("left-" + n % pairs);
                            Bytes right = Bytes.utf8("right-" + n % pairs);
                            client.transact(Txn.of(new Op.Increment(left, 1), new Op.Increment(right, 1)));
                        }
                    });
                }
                try {
                    Harness.await(
                            "there is something to save",
                            () -> client.get(List.of()).revision().getAsLong() > 500);
                    try (OutputStream out = Files.newOutputStream(file)) {
                        backup = client.backup(out);
                    }
                    long then = client.get(List.of()).revision().getAsLong();
                    Harness.await(
                            "writers go on",
                            () -> client.get(List.of()).revision().getAsLong() > then + 100);
                } finally {
                    enough.set(true);
                }
            }
            assertEquals(backup.bytes(), Files.size(file));
            List<Entry> expected = entries(client, ALL.at(backup.revision()));
            assertEquals(backup.keys(), expected.size());
            List<Entry> earlier = entries(client, ALL.at(backup.revision() - 100));

            try (InputStream in = Files.newInputStream(file)) {
                WriteAheadLog.restore(elsewhere, in, notice -> {});
            }
            try (Durable restored = new Durable(elsewhere);
                    HomeKvClient other = restored.client()) {
                assertEquals(backup.revision(), other.get(List.of()).revision().getAsLong());
                assertEquals(expected, entries(other, ALL));
                assertEquals(earlier, entries(other, ALL.at(backup.revision() - 100)));
                assertEquals(3_600_000, other.lease(lease).ttlMillis());
                assertNotEquals(kv.storeHeader(StoreHeader.ANY), restored.storeHeader(StoreHeader.ANY));
                long sum = 0;
                for (int i = 0; i < expected.size() / 2; i++) {
                    Entry left = expected.get(i);
                    Entry right = expected.get(expected.size() / 2 + i);
                    assertEquals(
                            left.key().utf8().replace("left", "right"),
                            right.key().utf8());
                    assertEquals(left.value(), right.value());
                    sum += Long.parseLong(left.value().utf8());
                }
                assertEquals(backup.revision(), sum);
                // It goes on from there, by itself.
                assertEquals(
                        backup.revision() + 1,
                        other.set(List.of(new Write.Put(key(1), value(1))))
                                .revision()
                                .getAsLong());
                assertEquals(List.of(), entries(client, ScanOptions.of(Range.key(key(1)))));
            }
        }
    }

    @Test
    void aStoreThatLivesInMemoryCanBeMovedToDisk(@TempDir Path directory, @TempDir Path files) throws Exception {
        Path file = files.resolve("backup");
        List<Entry> expected;
        try (Harness kv = new Harness()) {
            kv.stub().set(set(put("a", "1"), put("b", "2")));
            kv.stub().set(set(put("a", "3")));
            expected = entries(kv.client(), ALL);
            try (OutputStream out = Files.newOutputStream(file)) {
                kv.client().backup(out);
            }
            var refused = Harness.status(() -> kv.stub().snapshot(Empty.getDefaultInstance()));
            assertEquals(io.grpc.Status.Code.FAILED_PRECONDITION, refused.getCode());
        }
        try (InputStream in = Files.newInputStream(file)) {
            WriteAheadLog.restore(directory, in, notice -> {});
        }
        try (Durable kv = new Durable(directory);
                HomeKvClient client = kv.client()) {
            assertEquals(expected, entries(client, ALL));
        }
    }
}
