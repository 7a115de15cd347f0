package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** homekv as a process that keeps its data in a directory: starts, stops, damage, full disks, backups. */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class DataDirTest {
    private static final int REFUSED = 1;
    private static final int USAGE = 2;

    private static final Pattern READY = Pattern.compile("homekv \\S+ listening on \\S+:([0-9]+)");

    @TempDir
    private Path folder;

    /** A server that has said it is ready, and nothing else on standard output. */
    private record Server(Harness.Child child, int port) implements AutoCloseable {
        static Server of(Harness.Child child) throws IOException, InterruptedException {
            String line = child.readLine();
            if (line == null) {
                throw new AssertionError("not ready: " + child.end());
            }
            Matcher ready = READY.matcher(line);
            assertTrue(ready.matches(), line);
            return new Server(child, Integer.parseInt(ready.group(1)));
        }

        Harness.Run hkvctl(String... args) {
            List<String> typed = new ArrayList<>(List.of("-p", Integer.toString(port)));
            typed.addAll(Arrays.stream(args).map(Harness::typed).toList());
            return Harness.run(typed);
        }

        /** Sends SIGTERM, and returns what it has said on standard error: lines of its own, none of the JVM's. */
        String stop(int exitCode) throws IOException, InterruptedException {
            child.terminate();
            Harness.Run run = child.end();
            assertEquals(exitCode, run.exitCode(), run.err());
            assertEquals("", run.out());
            run.err().lines().forEach(line -> assertTrue(line.startsWith("homekv: "), line));
            return run.err();
        }

        @Override
        public void close() {
            child.close();
        }
    }

    private static Harness.Child launch(String... args) throws IOException {
        return new Harness.Child("homekv", Map.of(), command(args));
    }

    private static List<String> command(String... args) {
        return Harness.java(Homekv.class, List.of("-XX:+UseSerialGC", "-Xmx256m"), args);
    }

    private static Harness.Run homekv(String... args) throws IOException, InterruptedException {
        try (Harness.Child child = launch(args)) {
            return child.end();
        }
    }

    private Path data() {
        return folder.resolve("data");
    }

    private Server start(String... more) throws IOException, InterruptedException {
        List<String> args = new ArrayList<>(List.of("-p", "0", "--data-dir", data().toString()));
        args.addAll(List.of(more));
        return Server.of(launch(args.toArray(String[]::new)));
    }

    private static List<String> names(Path directory, String prefix) throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            return files.map(file -> file.getFileName().toString())
                    .filter(name -> name.startsWith(prefix))
                    .sorted()
                    .toList();
        }
    }

    // ---- What is kept ----

    @Test
    void aServerThatIsStartedAgainHasItsDataItsPastAndItsLeases() throws Exception {
        String lease;
        try (Server server = start()) {
            server.hkvctl("set", "a=1", "b=1").printed("OK revision=1 sync=always\n");
            server.hkvctl("set", "a=2").printed("OK revision=2 sync=always\n");
            server.hkvctl("del", "b").printed("OK deleted=1 revision=3 sync=always\n");
            lease = server.hkvctl("lease", "grant", "100m").out().replaceAll("\\D", "");
            server.hkvctl("set", "l=1", "--lease", lease).printed("OK revision=4 lease=" + lease + " sync=always\n");
            server.stop(0);
        }
        try (Server server = start()) {
            server.hkvctl("scan").printed("a=2\nl=1\n");
            server.hkvctl("get", "a", "b", "--rev", "1").printed("a=1\nb=1\n");
            assertTrue(server.hkvctl("lease", "list").out().matches("lease=" + lease + " ttl=6000s left=5.* keys=1\n"));
            server.hkvctl("incr", "n").printed("1\n");
            server.hkvctl("set", "a=3").printed("OK revision=6 sync=always\n");
            server.stop(0);
        }
    }

    @Test
    void aServerThatIsKilledHasKeptWhatItAnswered() throws Exception {
        for (int i = 1; i <= 3; i++) {
            try (Server server = start()) {
                server.hkvctl("incr", "n").printed(i + "\n");
                server.child().process.destroyForcibly().waitFor();
            }
        }
        try (Server server = start()) {
            server.hkvctl("get", "n").printed("n=3\n");
            server.stop(0);
        }
    }

    @ParameterizedTest
    @CsvSource({"always, always", "interval=50ms, interval", "interval=2s, interval", "never, never"})
    void writesSayWhenTheyAreForcedAndACleanStopKeepsThemAll(String sync, String said) throws Exception {
        try (Server server = start("--sync", sync)) {
            server.hkvctl("set", "k=v").printed("OK revision=1 sync=" + said + "\n");
            server.stop(0);
        }
        try (Server server = start("--sync", "always")) {
            server.hkvctl("get", "k").printed("k=v\n");
            server.stop(0);
        }
    }

    @Test
    void aSnapshotFileIsWrittenWhenItIsAskedFor() throws Exception {
        try (Server server = start()) {
            server.hkvctl("set", "a=1", "b=2");
            String out = server.hkvctl("snapshot").out();
            Matcher written = Pattern.compile("OK revision=1 keys=2 bytes=([0-9]+) file=(snapshot-[0-9a-f]{16})\n")
                    .matcher(out);
            assertTrue(written.matches(), out);
            assertEquals(List.of(written.group(2)), names(data(), "snapshot"));
            assertEquals(written.group(1), "" + Files.size(data().resolve(written.group(2))));
            server.hkvctl("set", "a=2");
            server.stop(0);
        }
        try (Server server = start()) {
            server.hkvctl("scan").printed("a=2\nb=2\n");
            server.stop(0);
        }
    }

    @Test
    void writesThatWouldNotLeaveEnoughOfTheDiskAreRefusedAndReadsGoOn() throws Exception {
        try (Server server = start()) {
            server.hkvctl("set", "k=v");
            server.stop(0);
        }
        try (Server server = start("--min-free-bytes", "" + Long.MAX_VALUE)) {
            server.hkvctl("set", "k=w").failed(REFUSED, "--min-free-bytes");
            server.hkvctl("get", "k").printed("k=v\n");
            server.stop(0);
        }
    }

    // ---- A log that stops ----

    /** The log cannot grow over what the shell allows a file to have. */
    @Test
    void aLogThatCannotGoOnIsSaidAtOnceAndOnceMoreInTheEndWithExitCodeOne() throws Exception {
        List<String> shell = new ArrayList<>(List.of("/bin/sh", "-c", "ulimit -f 64 && exec \"$@\"", "sh"));
        shell.addAll(command("-p", "0", "--data-dir", data().toString()));
        try (Server server = Server.of(new Harness.Child("homekv", Map.of(), shell))) {
            server.hkvctl("set", "first=1").printed("OK revision=1 sync=always\n");
            String value = "v".repeat(10_000);
            Harness.Run run;
            int set = 0;
            do {
                assertTrue(set < 20, "the shell does not keep files short here");
                run = server.hkvctl("set", "k" + set++ + "=" + value);
            } while (run.exitCode() == 0);
            run.failed(REFUSED, "the log has stopped", "not known");
            server.hkvctl("set", "first=2").failed(REFUSED, "the log has stopped", "nothing was changed");
            server.hkvctl("get", "first").printed("first=1\n");
            String said = server.stop(1);
            assertTrue(
                    said.matches("(?s).*homekv: recovered [^\n]+\n"
                            + "homekv: the log has stopped: [^\n]+; no writes are taken any more, [^\n]+\n"
                            + "homekv: stopped with exit code 1, since writes could no longer be kept: [^\n]+\n"),
                    said);
            try (Server again = start()) {
                again.hkvctl("get", "first").printed("first=1\n");
                again.hkvctl("set", "first=2");
                again.stop(0);
            }
        }
    }

    // ---- Directories that cannot be used ----

    @Test
    void aDirectoryIsOfOneServerAtATime() throws Exception {
        try (Server server = start()) {
            homekv("-p", "0", "--data-dir", data().toString()).failed(REFUSED, data().toString(), "in use");
            homekv("--check", data().toString()).failed(REFUSED, data().toString(), "in use");
            server.hkvctl("set", "k=v").printed("OK revision=1 sync=always\n");
            server.stop(0);
        }
    }

    @Test
    void whatIsNoDirectoryIsRefused() throws Exception {
        Path file = Files.writeString(folder.resolve("file"), "text");
        homekv("-p", "0", "--data-dir", file.toString()).failed(REFUSED, file.toString());
        homekv("--check", file.toString()).failed(REFUSED, file.toString());
        homekv("--check", folder.resolve("none").toString()).failed(REFUSED, folder.toString());
        homekv("-p", "0", "--data-dir", folder.toString()).failed(REFUSED, folder.toString());
        homekv("--check", folder.toString()).failed(REFUSED, folder.toString());
        assertEquals("text", Files.readString(file));
    }

    @Test
    void aPortThatIsTakenLeavesTheDirectoryAlone() throws Exception {
        try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            String port = Integer.toString(taken.getLocalPort());
            homekv("-p", port, "--data-dir", data().toString()).failed(REFUSED, "is taken", "-p");
            assertFalse(Files.exists(data()));
        }
    }

    /** Changes a byte in the middle of what was logged first. */
    private Path damage() throws Exception {
        try (Server server = start()) {
            for (int i = 0; i < 10; i++) {
                server.hkvctl("set", "k" + i + "=" + "v".repeat(500));
            }
            server.stop(0);
        }
        Path log = data().resolve(names(data(), "log-").get(0));
        byte[] bytes = Files.readAllBytes(log);
        bytes[bytes.length / 2] ^= 1;
        Files.write(log, bytes);
        return log;
    }

    @Test
    void damageStopsTheStartAndIsGivenUpOnlyWhenThatIsAskedFor() throws Exception {
        Path log = damage();
        homekv("-p", "0", "--data-dir", data().toString()).failed(REFUSED, log.toString(), "--recover-to-last-good");
        try (Server server = start("--recover-to-last-good")) {
            String kept = server.hkvctl("scan", "--keys-only").out();
            assertTrue("k0\nk1\nk2\nk3\nk4\nk5\nk6\nk7\nk8\nk9\n".startsWith(kept) && kept.length() > 3, kept);
            assertFalse(kept.contains("k9"), kept);
            server.hkvctl("set", "new=1");
            String said = server.stop(0);
            assertTrue(said.contains(log.getFileName().toString()), said);
        }
        try (Server server = start()) {
            server.hkvctl("get", "new").printed("new=1\n");
            server.stop(0);
        }
    }

    @Test
    void aCheckPrintsWhatIsThereAndChangesNothing() throws Exception {
        Path log = damage();
        byte[] damaged = Files.readAllBytes(log);
        List<String> before = names(data(), "");
        Harness.Run run = homekv("--check", data().toString());
        assertEquals("", run.err());
        assertTrue(run.out().contains(log.getFileName().toString()), run.out());
        assertEquals(REFUSED, run.exitCode(), run.out());
        assertEquals(before, names(data(), ""));

        damaged[damaged.length / 2] ^= 1;
        Files.write(log, damaged);
        run = homekv("--memory", "256m", "--check", data().toString());
        assertEquals("", run.err());
        assertTrue(run.out().contains(log.getFileName().toString()), run.out());
        assertEquals(0, run.exitCode(), run.out());
        assertEquals(before, names(data(), ""));
    }

    // ---- Backups ----

    @Test
    void aServerBeginsWithABackupAndIsAnotherFromThenOn() throws Exception {
        Path backup = folder.resolve("backup");
        try (Server server = start()) {
            server.hkvctl("set", "a=1", "b=\\xff");
            server.hkvctl("set", "a=2");
            server.hkvctl("backup", backup.toString()).printedAndSaid("", "backed up 2 keys .* at revision 2 in .*");
            server.hkvctl("set", "a=3");
            server.stop(0);
        }
        Path restored = folder.resolve("restored");
        String[] restore = {"-p", "0", "--data-dir", restored.toString(), "--restore", backup.toString()};
        try (Server server = Server.of(launch(restore))) {
            server.hkvctl("scan").printed("a=2\nb=\\xff\n");
            server.hkvctl("get", "a", "--rev", "1").printed("a=1\n");
            server.hkvctl("set", "a=4").printed("OK revision=3 sync=always\n");
            server.stop(0);
        }
        homekv(restore).failed(REFUSED, restored.toString(), "empty");
        try (Server server = Server.of(launch("-p", "0", "--data-dir", restored.toString()))) {
            server.hkvctl("get", "a").printed("a=4\n");
            server.stop(0);
        }
        homekv("--check", restored.toString());
    }

    @Test
    void aRestoreThatCannotBeginNamesThatOfTheTwoFilesThatIsWrong() throws Exception {
        Path backup = Files.createFile(folder.resolve("backup"));
        Path nowhere = folder.resolve("nowhere");
        homekv("-p", "0", "--data-dir", nowhere.toString(), "--restore", folder.toString())
                .failed(REFUSED, "cannot restore from " + folder + ": it is a directory");
        homekv("-p", "0", "--data-dir", nowhere.toString(), "--restore", nowhere.toString())
                .failed(REFUSED, "cannot restore from " + nowhere + ": there is no such file or directory");
        homekv("-p", "0", "--data-dir", backup.toString(), "--restore", backup.toString())
                .failed(REFUSED, "homekv: " + backup + ": it is not a directory");
        homekv("--check", nowhere.toString()).failed(REFUSED, nowhere + ": there is no such file or directory");
    }

    @Test
    void aBackupIsRestoredFromStandardInputToo() throws Exception {
        Path backup = folder.resolve("backup");
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=v");
            kv.hkvctl("backup", backup.toString());
        }
        List<String> shell = new ArrayList<>(List.of("/bin/sh", "-c", "exec \"$@\" < '" + backup + "'", "sh"));
        shell.addAll(command("-p", "0", "--data-dir", data().toString(), "--restore", "-"));
        try (Server server = Server.of(new Harness.Child("homekv", Map.of(), shell))) {
            server.hkvctl("get", "k").printed("k=v\n");
            server.stop(0);
        }
    }

    @Test
    void aBackupThatIsNotWholeIsRefused() throws Exception {
        Path backup = folder.resolve("backup");
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=" + "v".repeat(1_000));
            kv.hkvctl("backup", backup.toString());
        }
        byte[] whole = Files.readAllBytes(backup);
        String[] restore = {"-p", "0", "--data-dir", data().toString(), "--restore", backup.toString()};
        Files.write(backup, Arrays.copyOf(whole, whole.length - 1));
        homekv(restore).failed(REFUSED);
        Files.writeString(backup, "text");
        homekv(restore).failed(REFUSED);
        Files.delete(backup);
        homekv(restore).failed(REFUSED, "cannot restore from " + backup + ": there is no such file");
        Files.write(backup, whole);
        try (Server server = Server.of(launch(restore))) {
            server.hkvctl("get", "k").printed("k=" + "v".repeat(1_000) + "\n");
            server.stop(0);
        }
    }

    // ---- The command line ----

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "--sync always                            | --sync needs --data-dir DIR",
                "--snapshot-interval 5m                   | --snapshot-interval needs --data-dir DIR",
                "--snapshot-log-bytes 1                   | --snapshot-log-bytes needs --data-dir DIR",
                "--min-free-bytes 1                       | --min-free-bytes needs --data-dir DIR",
                "--restore f                              | --restore needs --data-dir DIR",
                "--recover-to-last-good                   | --recover-to-last-good needs --data-dir DIR",
                "--data-dir                               | --data-dir needs a value",
                "--data-dir=                              | --data-dir takes a path, not ''",
                "--data-dir d --sync sometimes            | --sync takes always, interval=100ms (or another time) or never",
                "--data-dir d --sync interval             | --sync takes always, interval=100ms",
                "--data-dir d --sync interval=0           | takes a time such as 500ms, 5s or 2m, not 0",
                "--data-dir d --sync=interval=fast        | takes a time such as 500ms, 5s or 2m, not fast",
                "--data-dir d --snapshot-log-bytes 0      | --snapshot-log-bytes takes a whole number from 1",
                "--data-dir d --snapshot-interval 1h      | --snapshot-interval takes a time",
                "--data-dir d --min-free-bytes=-1         | --min-free-bytes takes a whole number from 0",
                "--data-dir d --recover-to-last-good=yes  | --recover-to-last-good takes no value",
                "--data-dir d --restore f --recover-to-last-good | --restore begins a new directory",
            })
    void aFlagWithoutSenseIsToldWithWhatToWrite(String line, String words) {
        String message = assertThrows(
                        UsageException.class,
                        () -> DataOptions.read(Arguments.parse(List.of(line.split(" ")), DataOptions.FLAGS, Map.of())))
                .getMessage();
        assertTrue(message.contains(words), message);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "-p 0 --sync always                       | --sync needs --data-dir DIR",
                "--data-dir d --sync sometimes            | --sync takes always, interval=100ms (or another time) or never",
                "--check                                  | --check needs a value",
                "--check=                                 | --check takes a path",
                "--check d --data-dir d                   | --check only looks at a directory, and takes no --data-dir",
                "--check d -p 0                           | --check only looks at a directory, and takes no --port",
                "--check d e                              | unknown argument e",
            })
    void aWrongCommandLineIsOneLineThatSaysWhatToWrite(String line, String words) throws Exception {
        homekv(line.split(" ")).failed(USAGE, words);
        assertFalse(Files.exists(Path.of("d")));
    }
}
