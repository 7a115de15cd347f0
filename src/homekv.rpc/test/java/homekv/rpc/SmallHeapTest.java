package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.Bytes;
import homekv.storage.Entry;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Range;
import homekv.storage.Write;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.Test;

/** A server with a small heap refuses what has no room (S9), and lives on; and reading takes next to nothing of it. */
class SmallHeapTest {
    private static final int CLIENTS = 8;
    private static final int KEYS_PER_CLIENT = 200;

    @Test
    void aServerThatIsFilledRefusesPutsAndGoesOnReadingAndDeletingAndTakesPutsAgain() throws Exception {
        try (Server server = new Server("-Xmx128m")) {
            int port = server.port();
            Harness.seeded(Harness.count(1, 50), random -> {
                try (HomeKvClient client = new HomeKvClient("127.0.0.1", port, Duration.ofSeconds(60))) {
                    fill(client, random);
                    empty(client);
                    client.set(List.of(new Write.Put(Bytes.utf8("again"), Bytes.unsafeWrap(new byte[1 << 20]))));
                    client.del(List.of(Bytes.utf8("again")));
                    client.compact(client.metrics().get("revision"));
                    Harness.await(
                            "everything is given back", () -> client.metrics().get("store_size_in_bytes") == 0);
                }
            });
            assertTrue(server.isAlive());
        }
    }

    /**
     * A million keys scanned up and down, fast and slowly, while all of them are overwritten: each scan is of one revision,
     * and the server's heap has room for little more than the keys and its history window.
     */
    @Test
    void scansOfAMillionKeysUnderWritesTakeNextToNoMemory() throws Exception {
        int keys = Harness.count(1_000_000, 2_000_000);
        try (Server server = new Server(keys > 1_000_000 ? "-Xmx900m" : "-Xmx480m");
                HomeKvClient client = new HomeKvClient("127.0.0.1", server.port(), Duration.ofSeconds(60));
                HomeKvClient writer = new HomeKvClient("127.0.0.1", server.port(), Duration.ofSeconds(60))) {
            AtomicBoolean done = new AtomicBoolean();
            writeAll(writer, keys, 0, () -> false);
            try (Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> {
                    for (int round = 1; !done.get(); round++) {
                        writeAll(writer, keys, round, done::get);
                    }
                });
                List<ReadStream<Entry>> stalled = new ArrayList<>();
                try {
                    for (int i = 0; i < 50; i++) {
                        stalled.add(client.scan(ScanOptions.of(Range.all())));
                        stalled.get(i).next(); // And nothing more for now.
                    }
                    for (boolean descending : new boolean[] {false, true}) {
                        ScanOptions all = ScanOptions.of(Range.all());
                        try (ReadStream<Entry> scan = client.scan(descending ? all.backwards() : all)) {
                            assertOneRevision(scan, keys, descending);
                        }
                    }
                } finally {
                    done.set(true);
                    stalled.forEach(ReadStream::close);
                }
            }
            assertTrue(server.isAlive());
        }
    }

    private static final int KEYS_PER_SET = 1_000;

    /** Gives all keys the round's number, so many a revision. */
    private static void writeAll(HomeKvClient client, int keys, int round, BooleanSupplier enough) {
        Bytes value = Bytes.utf8("%08d".formatted(round));
        for (int first = 0; first < keys && !enough.getAsBoolean(); first += KEYS_PER_SET) {
            List<Write> writes = new ArrayList<>();
            for (int i = first; i < first + KEYS_PER_SET; i++) {
                writes.add(new Write.Put(key(i), value));
            }
            client.set(writes);
        }
    }

    private static Bytes key(int number) {
        return Bytes.utf8("key-%08d".formatted(number));
    }

    /** Every key once, in order; and as keys are written from the first to the last, none is older than one behind it. */
    private static void assertOneRevision(ReadStream<Entry> scan, int keys, boolean descending) {
        for (int i = 0; i < keys; i += KEYS_PER_SET) {
            long written = -1;
            for (int j = i; j < i + KEYS_PER_SET; j++) {
                Entry entry = scan.next();
                assertEquals(key(descending ? keys - 1 - j : j), entry.key());
                assertTrue(entry.modificationRevision() <= scan.revision(), "of a later revision than the scan's");
                assertTrue(
                        written == -1 || written == entry.modificationRevision(),
                        "half of a set, at revision " + scan.revision());
                written = entry.modificationRevision();
            }
        }
        assertTrue(!scan.hasNext());
    }

    /** A server in a process of its own. */
    private static final class Server implements AutoCloseable {
        private final Process process;
        private final int port;

        Server(String heap) throws Exception {
            process = new ProcessBuilder(
                            Path.of(System.getProperty("java.home"), "bin", "java")
                                    .toString(),
                            "-XX:+IgnoreUnrecognizedVMOptions",
                            "--sun-misc-unsafe-memory-access=allow",
                            heap,
                            "-XX:+UseG1GC",
                            "-XX:G1HeapRegionSize=1m",
                            "-cp",
                            System.getProperty("jdk.module.path")
                                    + System.getProperty("path.separator")
                                    + System.getProperty("java.class.path")
                                    + System.getProperty("path.separator")
                                    + Path.of("target/classes").toAbsolutePath()
                                    + System.getProperty("path.separator")
                                    + Path.of("target/test-classes").toAbsolutePath(),
                            ServerProgram.class.getName())
                    .redirectError(ProcessBuilder.Redirect.INHERIT)
                    .start();
            port = Integer.parseInt(process.inputReader().readLine());
        }

        int port() {
            return port;
        }

        boolean isAlive() {
            return process.isAlive();
        }

        @Override
        public void close() throws InterruptedException {
            process.destroy();
            assertTrue(process.waitFor(60, TimeUnit.SECONDS));
        }
    }

    /** Values of 0 bytes to 16 MiB, many of which just do not fit half a region. */
    private static void fill(HomeKvClient client, SplittableRandom random) throws Exception {
        try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
            List<Future<Integer>> refused = new ArrayList<>();
            for (int i = 0; i < CLIENTS; i++) {
                int number = i;
                SplittableRandom own = random.split();
                refused.add(threads.submit(() -> fillOwnKeys(client, number, own)));
            }
            int all = 0;
            for (Future<Integer> each : refused) {
                all += each.get();
            }
            assertTrue(all > 0, "nothing was refused");
        }
    }

    private static int fillOwnKeys(HomeKvClient client, int number, SplittableRandom random) {
        int refused = 0;
        for (int i = 0; i < KEYS_PER_CLIENT; i++) {
            int size = switch (random.nextInt(20)) {
                case 0 -> random.nextInt(16 << 20);
                case 1, 2, 3 -> (1 << 19) + random.nextInt(1 << 10);
                default -> random.nextInt(100_000);
            };
            Bytes key = key(number, i);
            try {
                client.set(List.of(new Write.Put(key, Bytes.unsafeWrap(new byte[size]))));
                assertEquals(size, client.get(List.of(key)).values().get(0).length());
            } catch (HomeKvException e) {
                assertEquals(HomeKvException.Reason.NO_ROOM, e.reason(), e.getMessage());
                assertTrue(e.getMessage().contains("--max-"), e.getMessage());
                refused++;
            }
        }
        return refused;
    }

    private static void empty(HomeKvClient client) {
        for (int number = 0; number < CLIENTS; number++) {
            List<Bytes> keys = new ArrayList<>();
            for (int i = 0; i < KEYS_PER_CLIENT; i++) {
                keys.add(key(number, i));
            }
            client.del(keys);
        }
    }

    private static Bytes key(int client, int number) {
        return Bytes.utf8("key-" + client + "-" + number);
    }

    /** Serves with the default limits of its heap, and prints its port. */
    static final class ServerProgram {
        private ServerProgram() {}

        public static void main(String[] args) throws Exception {
            Limits limits = Limits.defaults().withHeapRegionBytes(1 << 20);
            MvccStore store = new MvccStore(limits);
            InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
            HomeKvServer server = new HomeKvServer(address, store, new MemoryCommandLog(store));
            System.out.println(server.address().getPort());
            server.awaitStop();
        }
    }
}
