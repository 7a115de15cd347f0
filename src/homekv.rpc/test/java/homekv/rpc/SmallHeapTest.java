package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.Bytes;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
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
import org.junit.jupiter.api.Test;

/** A server with a small heap, filled by many clients at once, refuses and lives on (S9). */
class SmallHeapTest {
    private static final int CLIENTS = 8;
    private static final int KEYS_PER_CLIENT = 200;

    @Test
    void aServerThatIsFilledRefusesPutsAndGoesOnReadingAndDeletingAndTakesPutsAgain() throws Exception {
        Process server = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-XX:+IgnoreUnrecognizedVMOptions",
                        "--sun-misc-unsafe-memory-access=allow",
                        "-Xmx128m",
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
        try {
            int port = Integer.parseInt(server.inputReader().readLine());
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
        } finally {
            server.destroy();
            assertTrue(server.waitFor(60, TimeUnit.SECONDS));
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
