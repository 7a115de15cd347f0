package homekv.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.HomeKvClient;
import homekv.rpc.HomeKvException;
import homekv.rpc.ScanOptions;
import homekv.storage.Bytes;
import homekv.storage.Entry;
import homekv.storage.Op;
import homekv.storage.Range;
import homekv.storage.Txn;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The packaged server, killed again and again on the same directory, under clients that remember what was acknowledged.
 *
 * <p>Each client counts its commits, one a revision: it puts the count, and the same into a slot, deletes the slot of
 * half a round before, and adds one to what all have done together. So from the counts alone follows all that has to
 * be there.
 */
final class KillTest {
    private static final int ROUNDS = Boolean.getBoolean("homekv.full") ? 200 : 4;
    private static final int CLIENTS = 6;
    private static final int SLOTS = 64;
    private static final Duration TIMEOUT = Duration.ofSeconds(60);
    private static final Bytes TOTAL = Bytes.utf8("total");

    @TempDir
    private Path folder;

    private final Path directory() {
        return folder.resolve("data");
    }

    /** What a client knows of its own commits. */
    private static final class Client {
        final int number;
        long acknowledged;
        long attempted;
        long revision;

        Client(int number) {
            this.number = number;
        }

        Bytes count() {
            return Bytes.utf8("client-" + number + "/count");
        }

        Bytes slot(long count) {
            return Bytes.utf8("client-%d/slot-%02d".formatted(number, Math.floorMod(count, SLOTS)));
        }

        void commit(HomeKvClient connection) {
            long next = acknowledged + 1;
            attempted = next;
            Bytes value = Bytes.utf8(Long.toString(next));
            long committed = connection
                    .transact(Txn.of(
                            new Op.Put(count(), value, 0),
                            new Op.Put(slot(next), value, 0),
                            new Op.Delete(Range.key(slot(next - SLOTS / 2)), false),
                            new Op.Increment(TOTAL, 1)))
                    .revision();
            assertTrue(committed > revision, () -> "the revision has fallen from " + revision + " to " + committed);
            revision = committed;
            acknowledged = next;
        }

        /** What the client has in the store if its last commit there was this one. */
        Map<String, String> contents(long count) {
            Map<String, String> contents = new TreeMap<>();
            for (long written = Math.max(1, count - SLOTS / 2 + 1); written <= count; written++) {
                contents.put(slot(written).utf8(), Long.toString(written));
            }
            if (count > 0) {
                contents.put(count().utf8(), Long.toString(count));
            }
            return contents;
        }
    }

    @Test
    void whatWasAcknowledgedSurvivesEveryKillAndNothingIsThereInHalf() throws Exception {
        long seed = Long.getLong("homekv.seed", System.nanoTime());
        SplittableRandom random = new SplittableRandom(seed);
        List<Client> clients = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) {
            clients.add(new Client(i));
        }
        try {
            for (int round = 0; round < ROUNDS; round++) {
                if (round > 0 && random.nextInt(4) == 0) {
                    killWhileStarting(random);
                }
                killUnderLoad(clients, random, 1 + random.nextInt(random.nextBoolean() ? 10 : 600));
            }
            try (Program server = start(random)) {
                assertContents(clients, port(server));
                assertEquals(0, server.terminate(), server::err);
            }
            Program check = Program.run(
                    Map.of(), Program.command(homekv(), "--check", directory().toString()));
            assertEquals(0, check.awaitExit(), () -> check.out() + check.err());
        } catch (Exception | Error e) {
            throw new AssertionError("with -Dhomekv.seed=" + seed + ": " + e.getMessage(), e);
        }
    }

    private Program start(SplittableRandom random) throws IOException {
        // What was written survives the process even where it was not forced.
        String sync = List.of("always", "always", "interval=20ms", "never").get(random.nextInt(4));
        String snapshotLogBytes = List.of("100000", "1000000", "100000000").get(random.nextInt(3));
        return Program.start(
                homekv(),
                "-h",
                "-p",
                "0",
                "--memory",
                "128m",
                "--data-dir",
                directory().toString(),
                "--sync",
                sync,
                "--snapshot-log-bytes",
                snapshotLogBytes);
    }

    private void killUnderLoad(List<Client> clients, SplittableRandom random, int acknowledgements) throws Exception {
        CountDownLatch acknowledged = new CountDownLatch(acknowledgements);
        List<Thread> threads = new ArrayList<>();
        List<Throwable> failures = new ArrayList<>();
        boolean[] killed = {false};
        try (Program server = start(random)) {
            int port = port(server);
            assertContents(clients, port);
            try (HomeKvClient connection = new HomeKvClient("127.0.0.1", port, TIMEOUT)) {
                for (Client client : clients) {
                    threads.add(Thread.startVirtualThread(() -> {
                        try {
                            while (true) {
                                client.commit(connection);
                                acknowledged.countDown();
                            }
                        } catch (Exception | Error e) {
                            synchronized (killed) {
                                if (!killed[0] || !(e instanceof HomeKvException)) {
                                    failures.add(e);
                                    while (acknowledged.getCount() > 0) {
                                        acknowledged.countDown();
                                    }
                                }
                            }
                        }
                    }));
                }
                assertTrue(acknowledged.await(TIMEOUT.toSeconds(), TimeUnit.SECONDS), "the server hangs");
                synchronized (killed) {
                    killed[0] = true;
                }
                server.kill();
                for (Thread thread : threads) {
                    thread.join();
                }
            }
        }
        for (Throwable failure : failures) {
            throw new AssertionError("while the server was there: " + failure, failure);
        }
    }

    /** Kills a server as soon as it has changed anything in its directory, or is ready. */
    private void killWhileStarting(SplittableRandom random) throws IOException {
        Set<String> before = list();
        try (Program server = start(random)) {
            while (list().equals(before) && server.out().isEmpty()) {
                Thread.onSpinWait();
            }
            server.kill();
        }
    }

    private Set<String> list() throws IOException {
        try (var files = Files.list(directory())) {
            return files.map(file -> file.getFileName().toString()).collect(Collectors.toCollection(TreeSet::new));
        }
    }

    /** Each client's commits are there up to the last acknowledged one, or one more; and no part of any other. */
    private static void assertContents(List<Client> clients, int port) {
        try (HomeKvClient connection = new HomeKvClient("127.0.0.1", port, TIMEOUT)) {
            Map<String, String> actual = new TreeMap<>();
            try (var entries = connection.scan(ScanOptions.of(Range.all()))) {
                entries.forEachRemaining(
                        entry -> actual.put(entry.key().utf8(), entry.value().utf8()));
            }
            Map<String, String> expected = new TreeMap<>();
            long total = 0;
            long lastRevision = 0;
            for (Client client : clients) {
                Entry count = connection.entry(client.count());
                long there = count == null ? 0 : Long.parseLong(count.value().utf8());
                assertTrue(
                        there == client.acknowledged || there == client.attempted,
                        () -> "client " + client.number + " is at " + there + ", and " + client.acknowledged
                                + " was acknowledged of " + client.attempted);
                client.acknowledged = there;
                client.attempted = there;
                expected.putAll(client.contents(there));
                total += there;
                lastRevision = Math.max(lastRevision, client.revision);
            }
            if (total > 0) {
                expected.put(TOTAL.utf8(), Long.toString(total));
            }
            assertEquals(expected, actual);
            long revision = connection.get(List.of(TOTAL)).revision().orElseThrow();
            assertEquals(total, revision, "every commit took one revision");
            assertTrue(revision >= lastRevision, "the revision has fallen");
        }
    }

    private static int port(Program server) {
        return Integer.parseInt(server.awaitPort());
    }

    private static Path homekv() throws IOException {
        Path target = Path.of("target").toAbsolutePath();
        return target.resolve(Files.readAllLines(target.resolve("built")).getFirst())
                .resolve("bin/homekv");
    }
}
