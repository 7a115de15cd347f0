package homekv.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import homekv.rpc.HomeKvClient;
import homekv.rpc.HomeKvException;
import homekv.storage.Bytes;
import homekv.storage.Write;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The packaged server on a file system of its own that has room for 24 MiB. */
final class DiskFullTest {
    private static final int MIB = 1 << 20;
    private static final Duration TIMEOUT = Duration.ofSeconds(60);
    private static final Bytes VALUE = Bytes.unsafeWrap(value());

    @TempDir
    private Path folder;

    /** Has the file system mounted, in a name space where whoever runs the test may do that. */
    private Program holder;

    private static byte[] value() {
        byte[] value = new byte[256 << 10];
        Arrays.fill(value, (byte) 'x');
        return value;
    }

    @BeforeEach
    void mount() throws IOException {
        Path unshare = Path.of("/usr/bin/unshare");
        assumeTrue(
                Files.isExecutable(unshare) && Files.isExecutable(Path.of("/usr/bin/nsenter")),
                "a full disk needs a file system of its own, and here are no unshare and nsenter to mount one");
        Files.createDirectory(folder.resolve("disk"));
        holder = Program.start(
                Map.of("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                List.of(
                        unshare.toString(),
                        "-rm",
                        "sh",
                        "-c",
                        "mount -t tmpfs -o size=24m tmpfs '" + folder.resolve("disk")
                                + "' && echo ready && exec sleep 900"));
        holder.awaitOutput("ready\n");
        assumeTrue(
                holder.out().equals("ready\n"),
                () -> "a full disk needs a file system of its own, which cannot be mounted here: " + holder.err());
    }

    @AfterEach
    void unmount() {
        if (holder != null) {
            holder.kill();
        }
    }

    private List<String> onTheDisk(List<String> command) {
        var entering = new ArrayList<>(List.of(
                "/usr/bin/nsenter", "-t", Long.toString(holder.pid()), "-U", "-m", "--preserve-credentials", "--"));
        entering.addAll(command);
        return entering;
    }

    private void shell(String command) {
        Program shell = Program.run(
                Map.of("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                onTheDisk(List.of("/bin/sh", "-c", "cd '" + folder.resolve("disk") + "' && " + command)));
        assertEquals(0, shell.awaitExit(), shell::err);
    }

    private Program start(int minFreeBytes) throws IOException {
        Path target = Path.of("target").toAbsolutePath();
        Path homekv = target.resolve(Files.readAllLines(target.resolve("built")).getFirst())
                .resolve("bin/homekv");
        return Program.start(
                Map.of(),
                onTheDisk(Program.command(
                        homekv,
                        "-h",
                        "-p",
                        "0",
                        "--memory",
                        "256m",
                        "--data-dir",
                        folder.resolve("disk/data").toString(),
                        "--history-duration",
                        "0", // Snapshot files hold the history, too.
                        "--min-free-bytes",
                        Integer.toString(minFreeBytes))));
    }

    private static HomeKvClient client(Program server) {
        return new HomeKvClient("127.0.0.1", Integer.parseInt(server.awaitPort()), TIMEOUT);
    }

    private static Bytes key(int number) {
        return Bytes.utf8("key-" + number);
    }

    private static void set(HomeKvClient client, int number) {
        client.set(List.of(new Write.Put(key(number), VALUE)));
    }

    /** Sets one key after another until that fails; how many were acknowledged. */
    private static int fill(HomeKvClient client, int from, HomeKvException.Reason reason, String... words) {
        for (int number = from; ; number++) {
            try {
                set(client, number);
            } catch (HomeKvException e) {
                assertEquals(reason, e.reason(), e::getMessage);
                for (String word : words) {
                    assertTrue(e.getMessage().contains(word), e::getMessage);
                }
                assertEquals(1, e.getMessage().lines().count(), e::getMessage);
                return number;
            }
            assertTrue(number < 100, "it takes more than there is room for");
        }
    }

    private static void assertHas(HomeKvClient client, int keys) {
        for (int number = 0; number < keys; number++) {
            assertEquals(List.of(VALUE), client.get(List.of(key(number))).values());
        }
    }

    @Test
    void shortOfRoomWritesAreRefusedWhileReadsAndDeletionsGoOnUntilThereIsRoomAgain() throws IOException {
        shell("head -c " + 8 * MIB + " /dev/zero >ballast");
        try (Program server = start(6 * MIB);
                HomeKvClient client = client(server)) {
            int acknowledged =
                    fill(client, 0, HomeKvException.Reason.NO_ROOM, "--min-free-bytes", Integer.toString(6 * MIB));
            assertTrue(acknowledged > 4, () -> acknowledged + " were taken");
            assertHas(client, acknowledged);
            client.del(List.of(key(acknowledged - 1)));
            shell("rm ballast");
            // What is free is looked at from time to time while writes are refused.
            long deadline = System.nanoTime() + TIMEOUT.toNanos();
            for (boolean taken = false; !taken; ) {
                try {
                    set(client, acknowledged - 1);
                    taken = true;
                } catch (HomeKvException e) {
                    assertEquals(HomeKvException.Reason.NO_ROOM, e.reason());
                    assertTrue(System.nanoTime() < deadline, e::getMessage);
                }
            }
            assertHas(client, acknowledged);
            assertEquals(0, server.terminate(), server::err);
        }
    }

    /** Many times what the disk can hold is written over few keys: snapshot files take the place of the log. */
    @Test
    void overwritingGoesOnForeverOnASmallDisk() throws IOException {
        long deadline = System.nanoTime() + 2 * TIMEOUT.toNanos();
        int written = 0;
        try (Program server = start(8 * MIB);
                HomeKvClient client = client(server)) {
            while (written < 4 * 50) {
                try {
                    set(client, written % 8);
                    written++;
                } catch (HomeKvException e) {
                    assertEquals(HomeKvException.Reason.NO_ROOM, e.reason(), e::getMessage);
                    assertTrue(System.nanoTime() < deadline, e::getMessage);
                }
            }
            assertHas(client, 8);
            assertEquals(0, server.terminate(), server::err);
        }
        try (Program server = start(0);
                HomeKvClient client = client(server)) {
            assertHas(client, 8);
        }
    }

    @Test
    void onAFullDiskTheLogStopsReadsGoOnAndEverythingAcknowledgedComesBack() throws Exception {
        shell("head -c " + 6 * MIB + " /dev/zero >ballast");
        int acknowledged;
        try (Program server = start(0);
                HomeKvClient client = client(server)) {
            acknowledged = fill(client, 0, HomeKvException.Reason.LOG_STOPPED);
            int there = acknowledged;
            assertTrue(there > 20, () -> there + " were taken");
            HomeKvException e = assertThrows(HomeKvException.class, () -> client.del(List.of(key(0))));
            assertEquals(HomeKvException.Reason.LOG_STOPPED, e.reason());
            assertTrue(e.getMessage().contains("nothing was changed"), e::getMessage);
            assertHas(client, there);
            assertEquals(1, server.terminate(), "the exit code tells that the log had stopped");
        }
        // As long as there is no room, it either starts or says in a line why it cannot.
        try (Program server = start(0)) {
            if (!server.awaitOutput("listening on")) {
                assertEquals(1, server.awaitExit());
                String last =
                        server.err().lines().reduce((first, second) -> second).orElseThrow();
                assertTrue(last.contains("No space left"), server::err);
                assertFalse(server.err().contains("\tat "), server::err);
            }
            server.kill();
        }
        shell("rm ballast");
        try (Program server = start(0);
                HomeKvClient client = client(server)) {
            assertHas(client, acknowledged);
            set(client, acknowledged);
            assertEquals(0, server.terminate(), server::err);
        }
    }
}
