package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import homekv.rpc.HomeKvServer;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Durability;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.LogStoppedException;
import homekv.storage.Range;
import homekv.storage.Result;
import homekv.storage.Snapshot;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Write;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.SequenceInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Export, import and backup as hkvctl carries them out, against a server in this process. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class TransferTest {
    private static final int REFUSED = 1;
    private static final int USAGE = 2;
    private static final int UNREACHABLE = 5;

    private static final Limits ROOMY = Limits.forHeap(1L << 40);

    private static final Pattern GO_ON =
            Pattern.compile("; ([0-9]+) lines? (?:is|are) in for sure; go on with: hkvctl (.*)\n$");

    @TempDir
    private Path folder;

    private static byte[] lines(int from, int to) {
        return lines(from, to, "v");
    }

    /** Lines with keys of so many numbers, in order. */
    private static byte[] lines(int from, int to, String value) {
        StringBuilder lines = new StringBuilder();
        for (int i = from; i < to; i++) {
            lines.append("{\"key\":\"k%06d\",\"value\":\"%s%d\"}\n".formatted(i, value, i));
        }
        return lines.toString().getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] joined(byte[]... parts) {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            all.writeBytes(part);
        }
        return all.toByteArray();
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private List<String> files() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    /** How many lines a failed import says are in for sure. */
    private static int linesIn(Harness.Run run) {
        Matcher goOn = GO_ON.matcher(run.err());
        assertTrue(goOn.find(), run.err());
        return Integer.parseInt(goOn.group(1));
    }

    /** The arguments of the command that a failed import says goes on. */
    private static List<String> goOn(Harness.Run run) {
        Matcher goOn = GO_ON.matcher(run.err());
        assertTrue(goOn.find(), run.err());
        return List.of(goOn.group(2).split(" "));
    }

    // ---- Export ----

    @Test
    void anExportIsALineAPairInTheOrderOfTheKeys() throws IOException {
        Path file = folder.resolve("out.jsonl");
        try (Harness kv = new Harness()) {
            kv.hkvctl("export", "-").printedAndSaid("", "exported 0 pairs \\(0 bytes\\) at revision 0 in [0-9.]+ s");
            kv.hkvctl("set", "b=2\n", "a=ü", "c=\\xff");
            kv.hkvctl("set", "d=1", "--lease=7").failed(REFUSED);
            String lease = kv.hkvctl("lease", "grant", "100m").out().replaceAll("\\D", "");
            kv.hkvctl("set", "d=1", "--lease", lease);
            String lines = "{\"key\":\"a\",\"value\":\"ü\"}\n{\"key\":\"b\",\"value\":\"2\\n\"}\n"
                    + "{\"key\":\"c\",\"value_base64\":\"/w==\"}\n"
                    + "{\"key\":\"d\",\"value\":\"1\",\"lease\":" + lease + "}\n";
            String said = "exported 4 pairs \\(" + utf8(lines).length + " bytes\\) at revision 2 in [0-9.]+ s";
            kv.hkvctl("export", "-").printedAndSaid(lines, said);
            kv.hkvctl("export", file.toString()).printedAndSaid("", said);
            assertEquals(lines, Files.readString(file));
            assertEquals(List.of("out.jsonl"), files());
        }
    }

    @Test
    void anExportIsOfAPrefixOrAnOlderRevisionWhereThatIsAskedFor() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a1=1", "a2=1", "b=1");
            kv.hkvctl("set", "a1=2");
            kv.hkvctl("export", "-", "--prefix", "a", "--rev", "1")
                    .printedAndSaid(
                            "{\"key\":\"a1\",\"value\":\"1\"}\n{\"key\":\"a2\",\"value\":\"1\"}\n",
                            "exported 2 pairs .* at revision 1 in .*");
            kv.hkvctl("export", "--prefix=b", "-")
                    .printedAndSaid("{\"key\":\"b\",\"value\":\"1\"}\n", "exported 1 pairs .* at revision 2 in .*");
            kv.hkvctl("export", "-", "--rev", "3").failed(REFUSED, "0", "2");
        }
    }

    @Test
    void aFileIsCompleteOrAsItWas() throws IOException {
        Path file = Files.writeString(folder.resolve("out"), "older");
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=1");
            kv.hkvctl("export", "--rev", "5", file.toString()).failed(REFUSED);
            assertEquals("older", Files.readString(file));
            assertEquals(List.of("out"), files());
            assertEquals(0, kv.hkvctl("export", file.toString()).exitCode());
            assertEquals("{\"key\":\"a\",\"value\":\"1\"}\n", Files.readString(file));
            assertEquals(List.of("out"), files());
        }
    }

    @Test
    void aFileThatCannotBeWrittenIsNamed() throws IOException {
        try (Harness kv = new Harness()) {
            for (String command : List.of("export", "backup")) {
                kv.hkvctl(command, folder.toString()).failed(REFUSED, "cannot write " + folder);
                kv.hkvctl(command, folder + "/none/out")
                        .failed(REFUSED, "cannot write " + folder + "/none/out: there is no such file or directory");
                kv.hkvctl(command, "a\\x00b" + "\0").failed(REFUSED, "cannot write", "no file can have that name");
            }
            assertEquals(List.of(), files());
        }
    }

    @Test
    void whatIsNoRegularFileIsWrittenAndNotReplaced() throws IOException {
        Path device = Path.of("/dev/null");
        assumeTrue(Files.exists(device), "no /dev/null here");
        Path file = Files.writeString(folder.resolve("file"), "older");
        Path link = Files.createSymbolicLink(folder.resolve("link"), file);
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=1");
            assertEquals(0, kv.hkvctl("export", device.toString()).exitCode());
            assertFalse(Files.isRegularFile(device));
            assertEquals(0, kv.hkvctl("export", link.toString()).exitCode());
            assertTrue(Files.isSymbolicLink(link));
            assertEquals("{\"key\":\"a\",\"value\":\"1\"}\n", Files.readString(file));
        }
    }

    @Test
    void aReaderOfAnExportThatHasHadEnoughIsNoFailure() throws IOException {
        OutputStream closed = new OutputStream() {
            @Override
            public void write(int b) throws IOException {
                throw new IOException("Broken pipe");
            }
        };
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=1");
            Harness.run(List.of("export", "-", "-p", Integer.toString(kv.port())), closed, new ByteArrayOutputStream())
                    .printed("");
        }
    }

    // ---- Import ----

    @Test
    void anImportSetsItsPairsAndNothingElse() throws IOException {
        Path file = Files.write(
                folder.resolve("in"),
                utf8("{\"key\":\"b\",\"value\":\"ü\"}\n{\"key_base64\":\"/w==\",\"value\":\"\",\"lease\":81}\r\n"
                        + "{\"key\":\"a\",\"value_base64\":\"/w==\"}"));
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=old", "z=stays");
            kv.hkvctl("import", file.toString())
                    .printedAndSaid(
                            "", "imported 3 pairs \\(103 bytes\\) in [0-9.]+ s; 1 had a lease, which was left out");
            kv.hkvctl("scan").printed("a=\\xff\nb=ü\nz=stays\n\\xff=\n");
            assertEquals(2, kv.store.revision());
            kv.hkvctl(new byte[0], "import", "-").printedAndSaid("", "imported 0 pairs \\(0 bytes\\) in [0-9.]+ s");
            assertEquals(2, kv.store.revision());
        }
    }

    private static void put(Harness kv, List<Write> writes) {
        for (int from = 0; from < writes.size(); from += 10_000) {
            kv.log.submit(new Command.Set(writes.subList(from, Math.min(writes.size(), from + 10_000))));
        }
    }

    private static Map<Bytes, Bytes> pairs(Harness kv) {
        Map<Bytes, Bytes> pairs = new TreeMap<>();
        try (Snapshot snapshot = kv.store.snapshot()) {
            snapshot.scan(Range.all(), false).forEachRemaining(entry -> pairs.put(entry.key(), entry.value()));
        }
        return pairs;
    }

    @Test
    void whatAnyStoreExportsAnotherImportsAsTheSamePairs() throws Exception {
        Harness.seeded(Harness.count(3, 60), random -> {
            try (Harness from = new Harness();
                    Harness to = new Harness()) {
                List<Write> writes = new ArrayList<>();
                for (int i = random.nextInt(4_000); i >= 0; i--) {
                    byte[] key = Harness.randomContent(random, 60);
                    if (key.length > 0) {
                        byte[] value = Harness.randomContent(random, random.nextInt(200) == 0 ? 300_000 : 100);
                        writes.add(new Write.Put(Bytes.unsafeWrap(key), Bytes.unsafeWrap(value)));
                    }
                }
                put(from, writes);
                byte[] exported = from.hkvctl("export", "-").outBytes();
                assertEquals(0, to.hkvctl(exported, "import", "-").exitCode());
                Map<Bytes, Bytes> expected = new TreeMap<>();
                writes.forEach(write -> expected.put(write.key(), ((Write.Put) write).value()));
                assertEquals(expected, pairs(to));
                assertArrayEquals(exported, to.hkvctl("export", "-").outBytes());
            }
        });
    }

    /** The order of commands as they reach the log, which a test can hold up. */
    private static UnaryOperator<CommandLog> before(Consumer<List<Bytes>> submitted) {
        return log -> new CommandLog() {
            @Override
            public Result submit(Command command) {
                submitted.accept(((Command.Set) command)
                        .writes().stream().map(Write::key).toList());
                return log.submit(command);
            }
        };
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /**
     * A key is set first by a request that is held up until three others, sent behind it, have come, and again by a later
     * one.
     */
    @Test
    void requestsAreUnderWayTogetherButNotTwoWithTheSameKey() throws IOException {
        Bytes hot = Bytes.utf8("hot");
        CountDownLatch others = new CountDownLatch(3);
        AtomicInteger hots = new AtomicInteger();
        UnaryOperator<CommandLog> log = before(keys -> {
            if (!keys.contains(hot)) {
                others.countDown();
            } else if (hots.incrementAndGet() == 1) {
                await(others);
            } else {
                assertEquals(0, others.getCount());
            }
        });
        byte[] input = joined(
                utf8("{\"key\":\"hot\",\"value\":\"first\"}\n"),
                lines(0, 4_500),
                utf8("{\"key\":\"hot\",\"value\":\"second\"}\n{\"key\":\"hot\",\"value\":\"third\"}\n"),
                lines(4_500, 6_000));
        try (Harness kv = new Harness(ROOMY, log)) {
            assertEquals(0, kv.hkvctl(input, "import", "-").exitCode());
            assertEquals(Bytes.utf8("third"), kv.value(hot));
            assertEquals(6_001, pairs(kv).size());
            assertEquals(7, kv.store.revision());
        }
    }

    @Test
    void ofAKeysLinesTheLastOneCounts() throws Exception {
        Harness.seeded(Harness.count(3, 100), random -> {
            StringBuilder lines = new StringBuilder();
            Map<Bytes, Bytes> expected = new TreeMap<>();
            int keys = 1 + random.nextInt(5_000);
            for (int i = 0; i < 10_000; i++) {
                String key = "k" + random.nextInt(keys);
                lines.append("{\"key\":\"" + key + "\",\"value\":\"" + i + "\"}\n");
                expected.put(Bytes.utf8(key), Bytes.utf8(Integer.toString(i)));
            }
            try (Harness kv = new Harness()) {
                assertEquals(0, kv.hkvctl(utf8(lines.toString()), "import", "-").exitCode());
                assertEquals(expected, pairs(kv));
            }
        });
    }

    @Test
    void valuesAsLargeAsTheServerTakesAreImported() throws IOException {
        byte[] value = new byte[16 << 20];
        Arrays.fill(value, (byte) 0xff);
        try (Harness from = new Harness();
                Harness to = new Harness()) {
            List<Write> writes = new ArrayList<>();
            for (int i = 0; i < 5; i++) {
                writes.add(new Write.Put(Bytes.utf8("k" + i), Bytes.unsafeWrap(value)));
                writes.add(new Write.Put(Bytes.utf8("l" + i), Bytes.unsafeWrap(value)));
            }
            writes.forEach(write -> put(from, List.of(write)));
            Path file = folder.resolve("large");
            assertEquals(0, from.hkvctl("export", file.toString()).exitCode());
            to.hkvctl("import", file.toString()).printedAndSaid("", "imported 10 pairs \\(224 MB\\) in .*");
            assertEquals(pairs(from), pairs(to));
        }
    }

    /** The file is far longer than the client's heap. */
    @Test
    void anImportOfAnySizeTakesLittleMemory() throws Exception {
        Path file = folder.resolve("long");
        try (OutputStream out = Files.newOutputStream(file)) {
            for (int i = 0; i < 100; i++) {
                out.write(utf8("{\"key\":\"k" + i + "\",\"value\":\"" + "v".repeat(1 << 20) + "\"}\n"));
            }
        }
        try (Harness kv = new Harness()) {
            List<String> command = Harness.java(
                    Hkvctl.class,
                    List.of("-XX:+UseSerialGC", "-Xmx80m"),
                    "import",
                    "-p",
                    Integer.toString(kv.port()),
                    file.toString());
            try (Harness.Child child = new Harness.Child("hkvctl", Map.of(), command)) {
                child.end().printedAndSaid("", "imported 100 pairs \\(105 MB\\) in .*");
            }
            assertEquals(100, pairs(kv).size());
        }
    }

    // ---- Servers with little room ----

    @Test
    void aServerThatTakesFewerKeysAtOnceGetsThemInSmallerRequests() throws IOException {
        try (Harness kv = new Harness(ROOMY.with(Limit.REQUEST_KEYS, 10))) {
            assertEquals(0, kv.hkvctl(lines(0, 1_999), "import", "-").exitCode());
            assertEquals(1_999, pairs(kv).size());
        }
    }

    @Test
    void aServerWithRoomForOneRequestGetsOneAtATime() throws IOException {
        try (Harness kv = new Harness(ROOMY.with(Limit.IN_FLIGHT_BYTES, 1_500_000))) {
            assertEquals(
                    0,
                    kv.hkvctl(lines(0, 10_000, "v".repeat(900)), "import", "-").exitCode());
            assertEquals(10_000, pairs(kv).size());
        }
    }

    @Test
    void aFullStoreEndsAnImportWithTheCommandThatGoesOn() throws IOException {
        try (Harness kv = new Harness(ROOMY.with(Limit.HISTORY_BYTES, 0).with(Limit.MEMORY_BYTES, 3_000_000))) {
            byte[] input = lines(0, 10_000, "v".repeat(900));
            Harness.Run run = kv.hkvctl(input, "import", "-");
            run.failed(REFUSED, "--max-memory-bytes");
            int in = linesIn(run);
            assertTrue(in < 3_400, run.err()); // It may be the first request that finds no room beside the others.
            assertEquals(List.of("import", "--port", "" + kv.port(), "--skip-lines", "" + in, "-"), goOn(run));
            requireFirst(kv, in);
        }
    }

    /** The keys of the first lines are there. */
    private static void requireFirst(Harness kv, int lines) {
        for (int i = 0; i < lines; i++) {
            assertTrue(kv.value(Bytes.utf8("k%06d".formatted(i))) != null, "line " + (i + 1));
        }
    }

    // ---- Lines that are wrong ----

    @Test
    void aWrongLineIsNamedAndNeitherItNorWhatIsBehindItIsSet() throws IOException {
        byte[] input = joined(lines(0, 2_499), utf8("{\"key\":\"k\",\"values\":\"v\"}\n"), lines(2_500, 5_000));
        Path file = Files.write(folder.resolve("in.jsonl"), input);
        try (Harness kv = new Harness()) {
            Harness.Run run = kv.hkvctl("import", file.toString());
            run.failed(USAGE, file + ":2500: unknown field values; a pair has key or key_base64");
            assertEquals(2_000, linesIn(run));
            assertEquals(2_000, pairs(kv).size());

            Harness.Run again = Harness.run(goOn(run));
            again.failed(USAGE, file + ":2500: unknown field values");
            assertEquals(2_000, linesIn(again));

            Files.write(file, joined(lines(0, 5_000)));
            assertEquals(0, Harness.run(goOn(run)).exitCode());
            assertEquals(5_000, pairs(kv).size());
        }
    }

    @Test
    void aLineThatTheServerDoesNotTakeIsNamedAndAllInFrontOfItAreSet() throws IOException {
        byte[] tooLong = utf8("{\"key\":\"k\",\"value\":\"" + "v".repeat(11) + "\"}\n");
        Path file = Files.write(folder.resolve("in"), joined(lines(0, 1_499), tooLong, lines(1_500, 3_000)));
        try (Harness kv = new Harness(ROOMY.with(Limit.VALUE_BYTES, 10))) {
            Harness.Run run = kv.hkvctl("import", file.toString());
            run.failed(REFUSED, file + ":1500: ", "--max-value-bytes");
            assertEquals(1_499, linesIn(run));
            requireFirst(kv, 1_499);
            assertNull(kv.value(Bytes.utf8("k")));

            List<String> skipped = new ArrayList<>(goOn(run));
            skipped.set(skipped.indexOf("1499"), "1500");
            Harness.run(skipped).printedAndSaid("", "imported 1500 pairs .*");
            assertEquals(2_999, pairs(kv).size());
        }
    }

    @Test
    void skippedLinesNeedNotBePairs() throws IOException {
        try (Harness kv = new Harness()) {
            byte[] input = utf8("wrong\n\n{\"key\":\"k\",\"value\":\"v\"}\n");
            kv.hkvctl(input, "import", "-", "--skip-lines", "2")
                    .printedAndSaid("", "imported 1 pairs \\(24 bytes\\) in .*");
            kv.hkvctl(input, "import", "-", "--skip-lines", "3").printedAndSaid("", "imported 0 pairs .*");
            kv.hkvctl(input, "import", "-", "--skip-lines=4")
                    .failed(USAGE, "standard input has 3 lines, less than --skip-lines 4");
            kv.hkvctl(input, "import", "-", "--skip-lines=-1").failed(USAGE, "--skip-lines");
        }
    }

    @Test
    void aFileThatCannotBeReadIsNamed() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("import", folder + "/none")
                    .failed(USAGE, "cannot read " + folder + "/none: there is no such file");
            kv.hkvctl("import", folder.toString()).failed(USAGE, "cannot read " + folder);
        }
    }

    @Test
    void aStreamThatBreaksEndsAnImportWithTheCommandThatGoesOn() throws IOException {
        InputStream broken = new SequenceInputStream(new ByteArrayInputStream(lines(0, 1_500)), new InputStream() {
            @Override
            public int read() throws IOException {
                throw new IOException("Input/output error");
            }
        });
        try (Harness kv = new Harness()) {
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            int exitCode = Hkvctl.run(
                    List.of("-p", "" + kv.port(), "import", "-"),
                    broken,
                    OutputStream.nullOutputStream(),
                    new PrintStream(err, true, StandardCharsets.UTF_8));
            assertEquals(
                    "hkvctl: cannot read standard input: Input/output error; 1000 lines are in for sure; go on with: "
                            + "hkvctl import --port " + kv.port() + " --skip-lines 1000 -\n",
                    err.toString(StandardCharsets.UTF_8));
            assertEquals(USAGE, exitCode);
        }
    }

    @Test
    void theCommandThatGoesOnIsOneForAShell() throws IOException {
        Path file = Files.writeString(folder.resolve("it's one"), "wrong");
        try (Harness kv = new Harness()) {
            kv.hkvctl("import", file.toString(), "--timeout", "7s", "-h")
                    .failed(
                            USAGE,
                            "0 lines are in for sure; go on with: hkvctl import --port " + kv.port()
                                    + " --timeout 7s --skip-lines 0 '" + folder + "/it'\\''s one'");
        }
    }

    // ---- Failures on the way ----

    /** Returns when nothing can be answered any more. */
    private static void lose(HomeKvServer server) {
        server.close();
        try {
            server.awaitStop();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /** What is in for sure is all that a new server needs not be sent again. */
    @Test
    void anImportGoesOnBehindWhatIsInWhereverTheServerWasLost() throws Exception {
        Harness.seeded(Harness.count(5, 200), random -> {
            AtomicInteger left = new AtomicInteger(1 + random.nextInt(9));
            Harness[] lost = new Harness[1];
            boolean stopped = random.nextBoolean();
            UnaryOperator<CommandLog> log = before(keys -> {
                if (left.decrementAndGet() <= 0) {
                    if (stopped) {
                        throw new LogStoppedException("no space", left.get() == 0);
                    }
                    lose(lost[0].server);
                }
            });
            Path file = Files.write(folder.resolve("in"), lines(0, 10_000));
            try (Harness kv = new Harness(ROOMY, log)) {
                lost[0] = kv;
                int port = kv.port();
                Harness.Run run = kv.hkvctl("import", file.toString());
                run.failed(stopped ? REFUSED : UNREACHABLE, stopped ? "no space" : "127.0.0.1:" + port);
                int in = linesIn(run);
                requireFirst(kv, in);
                left.set(Integer.MAX_VALUE);
                List<String> again = new ArrayList<>(goOn(run));
                try (HomeKvServer next = kv.serve()) {
                    again.set(again.indexOf("--port") + 1, "" + next.address().getPort());
                    Harness.run(again).printedAndSaid("", "imported " + (10_000 - in) + " pairs .*");
                }
                assertEquals(10_000, pairs(kv).size());
            }
        });
    }

    /** As Ctrl-C does, SIGTERM ends it from outside, here while the fourth request is under way. */
    @Test
    void anImportThatIsInterruptedSaysHowToGoOn() throws Exception {
        Bytes fourth = Bytes.utf8("k003000");
        CountDownLatch come = new CountDownLatch(1);
        CountDownLatch ended = new CountDownLatch(1);
        UnaryOperator<CommandLog> log = before(keys -> {
            if (keys.contains(fourth) && ended.getCount() > 0) {
                come.countDown();
                await(ended);
            }
        });
        Path file = Files.write(folder.resolve("in"), lines(0, 10_000));
        try (Harness kv = new Harness(ROOMY, log)) {
            List<String> command = Harness.java(
                    Hkvctl.class,
                    List.of("-XX:+UseSerialGC", "-Xmx64m"),
                    "import",
                    "-p",
                    Integer.toString(kv.port()),
                    file.toString());
            Harness.Run run;
            try (Harness.Child child = new Harness.Child("hkvctl", Map.of(), command)) {
                await(come);
                child.terminate();
                run = child.end();
            } finally {
                ended.countDown();
            }
            run.failed(128 + 15, "hkvctl: interrupted; ");
            int in = linesIn(run);
            assertTrue(in <= 3_000 && in % 1_000 == 0, run.err());
            requireFirst(kv, in);
            assertEquals(0, Harness.run(goOn(run)).exitCode());
            assertEquals(10_000, pairs(kv).size());
        }
    }

    @Test
    void aFileThatIsGivenUpWhileItIsWrittenIsNotThere() throws IOException {
        Path file = folder.resolve("out");
        try (NewFile given = NewFile.create(file.toString())) {
            given.out().write(1);
            given.abandon();
            given.out().write(2);
            assertEquals(List.of(), files());
            assertEquals(
                    "interrupted",
                    assertThrows(IOException.class, given::complete).getMessage());
        }
        assertEquals(List.of(), files());
    }

    // ---- Backups and snapshot files ----

    @Test
    void aBackupIsWrittenToAFileOrToStandardOutput() throws IOException {
        Path file = folder.resolve("backup");
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=1", "b=2");
            kv.hkvctl("del", "a");
            String said = "backed up 1 keys \\([0-9]+ bytes\\) at revision 2 in [0-9.]+ s";
            kv.hkvctl("backup", file.toString()).printedAndSaid("", said);
            assertEquals(List.of("backup"), files());
            Harness.Run run = kv.hkvctl("backup", "-");
            assertTrue(run.err().matches(said + "\n"), run.err());
            assertTrue(run.err().contains("(" + Files.size(file) + " bytes)"), run.err());
            assertEquals(Files.size(file), run.outBytes().length);
        }
    }

    @Test
    void aServerThatLivesInMemoryHasNoSnapshotFiles() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("snapshot").failed(REFUSED, "memory");
        }
    }

    /** A log that promises what a test wants, and has snapshot files. */
    private static UnaryOperator<CommandLog> promising(Durability durability) {
        return log -> new CommandLog() {
            @Override
            public Result submit(Command command) {
                return log.submit(command);
            }

            @Override
            public Durability durability() {
                return durability;
            }

            @Override
            public SnapshotFileInfo writeSnapshotFile() {
                return new SnapshotFileInfo("snapshot-0000000000000002", 7, 3, 345);
            }
        };
    }

    @Test
    void writesToAServerThatKeepsThemSayHow() throws IOException {
        Map<Durability, String> said =
                Map.of(Durability.WRITTEN, "never", Durability.INTERVAL, "interval", Durability.FORCED, "always");
        for (Map.Entry<Durability, String> each : said.entrySet()) {
            String sync = " sync=" + each.getValue() + "\n";
            try (Harness kv = new Harness(ROOMY, promising(each.getKey()))) {
                kv.hkvctl("set", "a=1").printed("OK revision=1" + sync);
                kv.hkvctl("del", "a").printed("OK deleted=1 revision=2" + sync);
                kv.hkvctl("cas", "a", "--absent", "--set", "1").printed("OK revision=3" + sync);
                Harness.Run leased = kv.hkvctl("set", "b=1", "--ttl", "100m");
                assertTrue(leased.out().matches("OK revision=4 lease=[0-9]+" + sync), leased.out());
                String lease = leased.out().replaceAll("(?s).*lease=([0-9]+).*", "$1");
                kv.hkvctl("lease", "revoke", lease).printed("OK deleted=1 revision=5" + sync);
                kv.txn("put a=2\n").printed("OK revision=6" + sync + "put a\n");
                kv.hkvctl("snapshot").printed("OK revision=7 keys=3 bytes=345 file=snapshot-0000000000000002\n");
            }
        }
    }

    // ---- What a terminal shows ----

    private static String shown(Consumer<Progress> run) {
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        long[] nanos = new long[1];
        run.accept(
                new Progress(new PrintStream(err, true, StandardCharsets.UTF_8), true, () -> nanos[0] += 500_000_000));
        return err.toString(StandardCharsets.UTF_8);
    }

    @Test
    void aTerminalShowsABarThatIsGoneInTheEnd() {
        String first = "import [############            ]  50% 1000 pairs, 1.5 MB, 3.0 MB/s";
        String second = "import [########################] 100% 9 pairs, 3.0 MB, 3.0 MB/s";
        String gone = "\r" + " ".repeat(second.length()) + "\r";
        assertEquals(
                "\r" + first + "\r" + second + " ".repeat(first.length() - second.length()) + gone + "done\n",
                shown(progress -> {
                    progress.show("import", 5, 10, 1000, 1_500_000);
                    progress.show("import", 10, 10, 9, 3_000_000);
                    progress.say("done");
                    progress.clear();
                }));
        assertEquals("\rbackup 999 bytes, 2.0 kB/s", shown(progress -> progress.show("backup", 0, 0, 0, 999)));
    }

    @Test
    void aBarIsNeverWiderThanATerminalAndShownTenTimesASecondAtMost() {
        long most = Long.MAX_VALUE;
        for (String line : shown(progress -> progress.show("import", most - 1, most, most, most))
                .split("\r")) {
            assertTrue(line.length() <= 79, line);
        }
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        Progress progress = new Progress(new PrintStream(err), true, () -> 0);
        progress.show("import", 1, 2, 3, 4);
        int shown = err.size();
        progress.show("import", 2, 2, 3, 4);
        assertEquals(shown, err.size());
        Progress elsewhere = new Progress(new PrintStream(err), false, () -> 0);
        elsewhere.show("import", 1, 2, 3, 4);
        elsewhere.clear();
        assertEquals(shown, err.size());
    }

    @Test
    void sizesAreRoundedAsPeopleSayThem() {
        Map<Long, String> sizes = Map.of(
                0L,
                "0 bytes",
                1L,
                "1 byte",
                999L,
                "999 bytes",
                1_000L,
                "1.0 kB",
                9_949L,
                "9.9 kB",
                9_950L,
                "10 kB",
                999_499L,
                "999 kB",
                999_500L,
                "1.0 MB",
                134_000_000L,
                "134 MB",
                Long.MAX_VALUE,
                "9.2 EB");
        sizes.forEach((bytes, size) -> assertEquals(size, Text.size(bytes)));
    }
}
