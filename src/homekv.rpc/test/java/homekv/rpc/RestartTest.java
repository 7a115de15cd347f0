package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import homekv.rpc.proto.ScanRequest;
import homekv.rpc.proto.ScanResponse;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.Entry;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Range;
import homekv.storage.Write;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/**
 * A server that is started anew has other revisions with the same numbers. Nobody who goes on from what an earlier one has
 * answered takes them for those.
 */
class RestartTest {
    /** A server at a port that it keeps when it is started anew, with another store. */
    private static final class Restarted implements AutoCloseable {
        private MvccStore store;
        private HomeKvServer server;
        private final int port;

        Restarted(int revisions) throws IOException {
            start(0, revisions);
            port = server.address().getPort();
        }

        private void start(int atPort, int revisions) throws IOException {
            store = new MvccStore(Harness.ROOMY);
            MemoryCommandLog log = new MemoryCommandLog(store);
            for (int i = 1; i <= revisions; i++) {
                log.submit(Command.put(key(i), Bytes.utf8(store.id() + "-" + i)));
            }
            server = new HomeKvServer(new InetSocketAddress(InetAddress.getLoopbackAddress(), atPort), store, log);
        }

        void restart(int revisions) throws Exception {
            close();
            start(port, revisions);
        }

        HomeKvClient client() {
            return new HomeKvClient("127.0.0.1", port, Duration.ofSeconds(Harness.HANG_SECONDS));
        }

        @Override
        public void close() throws Exception {
            server.close();
            server.awaitStop();
            store.close();
        }
    }

    private static Bytes key(int number) {
        return Bytes.utf8("key-%06d".formatted(number));
    }

    private static void assertOutOfRange(long first, long last, HomeKvException failure) {
        assertEquals(HomeKvException.Reason.OUT_OF_RANGE, failure.reason());
        assertEquals(first, failure.firstRevision().getAsLong());
        assertEquals(last, failure.lastRevision().getAsLong());
        assertTrue(failure.getMessage().contains("started anew"), failure.getMessage());
    }

    @Test
    void aWatchDoesNotGoOnInAnotherHistory() throws Exception {
        try (Restarted kv = new Restarted(5);
                HomeKvClient client = kv.client();
                WatchStream watch = client.watch(WatchOptions.of(Range.all()).from(1))) {
            while (watch.revision() < 5) {
                watch.next();
            }
            kv.restart(50);
            assertOutOfRange(0, 50, assertThrows(HomeKvException.class, watch::next));
        }
    }

    @Test
    void aScanDoesNotGoOnInAnotherSnapshot() throws Exception {
        int keys = 50_000; // More than is under way at a time.
        try (Restarted kv = new Restarted(keys);
                HomeKvClient client = kv.client();
                ReadStream<Entry> entries = client.scan(ScanOptions.of(Range.all()))) {
            Entry first = entries.next();
            String store = first.value().utf8().split("-1$")[0];
            kv.restart(keys);
            assertOutOfRange(
                    0,
                    keys,
                    assertThrows(
                            HomeKvException.class,
                            () -> entries.forEachRemaining(
                                    entry -> assertTrue(entry.value().utf8().startsWith(store + "-")))));
        }
    }

    @Test
    void aPageTokenIsOfNoUseToAnotherServer() throws Exception {
        ByteString token;
        try (Harness kv = new Harness()) {
            kv.client().set(List.of(new Write.Put(key(1), key(1)), new Write.Put(key(2), key(2))));
            ScanResponse page =
                    kv.stub().scan(ScanRequest.newBuilder().setLimit(1).build()).next();
            token = page.getPageToken();
        }
        try (Harness kv = new Harness()) {
            kv.client().set(List.of(new Write.Put(key(1), key(1)), new Write.Put(key(2), key(2))));
            StatusRuntimeException refused = assertThrows(
                    StatusRuntimeException.class,
                    () -> kv.stub()
                            .scan(ScanRequest.newBuilder().setPageToken(token).build())
                            .next());
            assertEquals(Status.Code.OUT_OF_RANGE, refused.getStatus().getCode());
        }
    }

    /** The key was written by the same revision in both. */
    @Test
    void aTransactionDoesNotCommitWhereItHasNotRead() throws Exception {
        try (Restarted kv = new Restarted(5);
                HomeKvClient client = kv.client()) {
            AtomicInteger attempts = new AtomicInteger();
            String copied = client.transact(transaction -> {
                String read = transaction.get(key(3)).utf8();
                if (attempts.incrementAndGet() == 1) {
                    restart(kv);
                }
                transaction.put(key(100), Bytes.utf8(read));
                return read;
            });
            assertEquals(2, attempts.get());
            assertEquals(kv.store.id() + "-3", copied);
            assertEquals(copied, kv.store.get(key(100)).value().utf8());
        }
    }

    private static void restart(Restarted kv) {
        try {
            kv.restart(5);
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void aCallThatKeepsNothingIsAnsweredByAnyStore() throws Exception {
        try (Restarted kv = new Restarted(5);
                HomeKvClient client = kv.client()) {
            assertEquals(5, client.count(Range.all()));
            kv.restart(3);
            assertEquals(3, client.count(Range.all()));
        }
    }
}
